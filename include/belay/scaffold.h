/**
 * Scaffolds: the pieces that a session needs to come to life (init, readiness, summaries, saver).
 * What the user does not give is taken from the graph's collections, and what the graph lacks is
 * built.
 */
#ifndef BELAY_SCAFFOLD_H
#define BELAY_SCAFFOLD_H

#include <belay/saver.h>
#include <belay/session.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct belay_scaffold belay_scaffold;

/**
 * User code that initialises what ops cannot. Called on the thread that creates the session, with
 * no lock held, after the init op and only when nothing was restored. It may run `session` and must
 * not close it.
 */
typedef belay_code (*belay_init_fn)(void *self, belay_scaffold *scaffold, belay_session *session,
                                    belay_error *err);

/** Pieces of a scaffold (SC-01). Zero in any field means "from the graph, else built". Names are
 * copied. */
typedef struct belay_scaffold_options {
    size_t struct_size;               /**< sizeof(belay_scaffold_options) in the caller's build. */
    const char *init_op;              /**< Op that initialises `variables`. */
    const char *const *init_feeds;    /**< Tensors to feed to it, ending in NULL. */
    belay_tensor *const *init_inputs; /**< A tensor for each. Must outlive the scaffold. */
    belay_init_fn init_fn;            /**< Called after the init op. */
    void *init_self;                  /**< Handed to init_fn. */
    const char *ready_op;             /**< Tensor with the names of what is not initialised. */
    const char *ready_for_local_init_op; /**< The same, for what the local init op needs. */
    const char *local_init_op;           /**< Op that initialises `local_variables` and tables. */
    const char *const *local_init_feeds; /**< Tensors to feed to it, ending in NULL. */
    belay_tensor *const *local_init_inputs;
    const char *summary_op;             /**< Tensor that holds a serialised summary. */
    belay_saver *saver;                 /**< Kept. */
    belay_scaffold *copy_from_scaffold; /**< Where unset pieces come from first (SC-21). */
} belay_scaffold_options;

/** Initialiser with every field at its default. */
#define BELAY_SCAFFOLD_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(belay_scaffold_options), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,      \
            NULL, NULL, NULL, NULL                                                                 \
    }

/**
 * Makes a scaffold. Nothing is looked up or built before belay_scaffold_finalize() (SC-02).
 *
 * @param graph   Kept: the scaffold holds a reference.
 * @param options Borrowed for the call. NULL: all defaults.
 * @return a scaffold that the caller frees with belay_scaffold_free(), or NULL.
 */
BELAY_API belay_scaffold *
belay_scaffold_new(belay_graph *graph, const belay_scaffold_options *options, belay_error *err);

/** Gives up the caller's hold; sessions and hooks keep their own. NULL is fine. */
BELAY_API void belay_scaffold_free(belay_scaffold *scaffold);

/**
 * Fills what is unset, in TensorFlow's order (SC-03), then finalises the graph. May be called again
 * (SC-18).
 *
 * @return BELAY_OK, or BELAY_FAILED_PRECONDITION: a collection has more than one element where one
 * is wanted (SC-05, BUG-12), or a piece must be built and the graph is final; BELAY_NOT_FOUND: no
 * such op.
 */
BELAY_API belay_code belay_scaffold_finalize(belay_scaffold *scaffold, belay_error *err);

BELAY_API belay_graph *belay_scaffold_graph(belay_scaffold *scaffold);

/** The pieces, by name; NULL before finalize, and where there is none. Each belongs to the
 * scaffold. A saver that was not given is one and the same for all scaffolds of a graph that are
 * there at a time, its list of checkpoints included (SC-17): two runs at once, in two folders, want
 * a saver each. */
BELAY_API const char *belay_scaffold_init_op(const belay_scaffold *scaffold);
BELAY_API const char *belay_scaffold_ready_op(const belay_scaffold *scaffold);
BELAY_API const char *belay_scaffold_ready_for_local_init_op(const belay_scaffold *scaffold);
BELAY_API const char *belay_scaffold_local_init_op(const belay_scaffold *scaffold);
BELAY_API const char *belay_scaffold_summary_op(const belay_scaffold *scaffold);
BELAY_API belay_saver *belay_scaffold_saver(belay_scaffold *scaffold);

#ifdef __cplusplus
}
#endif

#endif
