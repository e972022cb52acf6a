/**
 * Hooks: code that runs around every step.
 *
 * A hook is a table of functions and a pointer that they get. All of them run on the thread that
 * owns the monitored session, with no lock held; `destroy` on the one that gives up the last hold
 * on the hook. They leave by `return` only: no exception, no longjmp().
 *
 * The code that a function returns is what counts. `err` comes in empty and takes the text: where
 * it is filled with another code the text is kept, where it has none the hook and the function are
 * named, and where BELAY_OK is returned it is forgotten.
 */
#ifndef BELAY_HOOK_H
#define BELAY_HOOK_H

#include <belay/coordinator.h>
#include <belay/graph.h>
#include <belay/session.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A tensor of a graph, found once and then used without its name, as long as that graph lives. */
typedef struct belay_output {
    void *op; /**< TensorFlow's TF_Operation. */
    int64_t index;
} belay_output;

/** Finds a tensor by name: "op:0", or "op" where it has one output. A resource variable stands for
 * its value (BUG-56). */
BELAY_API belay_code belay_graph_find_output(belay_graph *graph, const char *name,
                                             belay_output *out, belay_error *err);

/** Finds an operation to run by its name. A tensor's name, "op:0", is that of the operation that
 * makes it; BELAY_NOT_FOUND where the graph has no such operation, or that no such output. */
BELAY_API belay_code belay_graph_find_target(belay_graph *graph, const char *name,
                                             belay_output *out, belay_error *err);

/** Where training is. */
typedef struct belay_progress {
    int64_t runs;        /**< Steps that this monitored session has run, through recoveries too. */
    int64_t global_step; /**< The global step now, exactly; -1 where the graph has none. */
    int64_t now_ms;      /**< The monotonic clock, read anew before hooks are called. */
    int64_t recoveries;  /**< How often the session was closed and made anew. */
    /** The last recovery went from this global step... */
    int64_t rewound_from; /**< -1: there was none, or the graph has no global step. */
    int64_t rewound_to;   /**< ... to this one. */
} belay_progress;

/** "Not for this reason." */
#define BELAY_NEVER INT64_MAX

/**
 * When a hook wants to be called again: whatever comes first. Between, it costs one compare.
 *
 * `runs`, `from_step` and `time_ms` are looked at before a run, and give before_run and after_run.
 * `at_step` and `at_time_ms` are looked at after it, and give after_run alone.
 */
typedef struct belay_when {
    int64_t runs;       /**< Around the run that starts when this many have been run. */
    int64_t from_step;  /**< Around the first run that starts at this global step or beyond. */
    int64_t at_step;    /**< After the first run that ends at this global step or beyond. */
    int64_t time_ms;    /**< Around the first run that starts at this time or later. */
    int64_t at_time_ms; /**< After the first run that ends at this time or later. */
} belay_when;

typedef struct belay_run_context belay_run_context;

/** What should become of an error that a run, or a step function, is about to return. */
typedef int32_t belay_reaction;

/** It goes its way: what may be a preemption is recovered from, all else is returned. */
#define BELAY_REACTION_KEEP ((belay_reaction)0)
/** The run returns BELAY_OK, with its outputs as they were; the loop goes on. */
#define BELAY_REACTION_SWALLOW ((belay_reaction)1)
/** The loop ends cleanly: the run returns BELAY_STOPPED, with the error chained to it. */
#define BELAY_REACTION_STOP ((belay_reaction)2)
/** As after a preemption: the session is closed and made anew, and the run repeated, within the
 * recovery budget. Where the session does not recover it is BELAY_REACTION_KEEP. */
#define BELAY_REACTION_RECOVER ((belay_reaction)3)

/** The functions of a hook. A NULL slot is "not interested". */
typedef struct belay_hook_vtable {
    size_t struct_size; /**< sizeof(belay_hook_vtable) in the caller's build. */
    /** Once per monitored session, before anything is created (MS-01). May add ops to the graph. An
     * error ends the opening; hooks before this one get no further call but `destroy` (MS-04). What
     * was added stays: a graph that is opened again has it already (BUG-68). */
    belay_code (*begin)(void *self, belay_graph *graph, belay_error *err);
    /** Once per session, recoveries included, when it is ready and queue runners run (WS-20).
     * `session` and `coordinator` are there in the hook's other functions too, until the next call
     * of this: a recovery closes and replaces both. They are gone in `destroy`, which may come
     * without `end`. Threads that were started on the last coordinator ended with it: start them
     * again here (BUG-70). ABORTED or UNAVAILABLE makes creation start again (WS-24). */
    belay_code (*after_create_session)(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err);
    /** Before a run. May ask for fetches and feeds. An error ends the run before it begins
     * (HK-RUN-07). A run that is repeated after a recovery begins here again. */
    belay_code (*before_run)(void *self, belay_run_context *run, belay_error *err);
    /** After a run that succeeded. An error is the run's error (HK-RUN-08). */
    belay_code (*after_run)(void *self, belay_run_context *run, belay_error *err);
    /** When the monitored session ends cleanly (MS-07); after an error it is not called (MS-11).
     * Every hook's is called, even where an earlier one failed (BUG-08). */
    belay_code (*end)(void *self, belay_session *session, belay_error *err);
    /** Says when before_run and after_run are wanted next; `out` comes in with every field
     * BELAY_NEVER. Called after after_create_session and after every run that the hook took part
     * in. NULL: every run. */
    void (*next_wanted)(void *self, const belay_progress *now, belay_when *out);
    /** The last call, exactly once, on success and failure alike, also where belay_hook_new()
     * fails. Only where its `vtable` is NULL or too small to have this slot nothing is called, and
     * `self` stays the caller's. */
    void (*destroy)(void *self);
    /** A run failed, or a hook in it, or a step function. The first hook, in their order, that does
     * not answer BELAY_REACTION_KEEP decides. Not asked about the end of the input
     * (BELAY_OUT_OF_RANGE) and a stop (BELAY_STOPPED), nor about what opening and closing report.
     * NULL: keep. */
    belay_reaction (*on_error)(void *self, const belay_error *error);
    /** What messages call the hook, such as "StopAtStepHook". Must live as long as the hook. NULL:
     * its number in the list. */
    const char *name;
} belay_hook_vtable;

typedef struct belay_hook belay_hook;

/**
 * Makes a hook of a table. The table is copied.
 *
 * @param vtable Borrowed for the call.
 * @param self   Given: handed to every function, and gone with `destroy`, also where this fails.
 * @param err    Filled on error. May be NULL.
 * @return a hook that the caller frees with belay_hook_free(), or NULL: BELAY_INVALID_ARGUMENT:
 * vtable is NULL, or its struct_size is impossible or speaks of slots that this belay does not
 * know; BELAY_RESOURCE_EXHAUSTED.
 */
BELAY_API belay_hook *belay_hook_new(const belay_hook_vtable *vtable, void *self, belay_error *err);

/** Gives up the caller's hold; monitored sessions keep their own. NULL is fine. */
BELAY_API void belay_hook_free(belay_hook *hook);

/** The raw session: runs on it call no hooks (HK-RUN-12). */
BELAY_API belay_session *belay_run_context_session(belay_run_context *run);

/** Where training is: in before_run before the run, in after_run after it. */
BELAY_API const belay_progress *belay_run_context_progress(const belay_run_context *run);

/** In before_run: fetch this tensor too. The hook's fetches are numbered from 0 in the order asked
 * for. Where it needs ops that write the global step, beside those of the step itself, the step is
 * read in a run of its own after this one. BELAY_INVALID_ARGUMENT where the output is of another
 * graph, or the op has no such output: TensorFlow's own OUT_OF_RANGE would pass for the end of the
 * input. */
BELAY_API belay_code belay_run_context_fetch(belay_run_context *run, belay_output output,
                                             belay_error *err);

/**
 * In before_run: feed this tensor. BELAY_INVALID_ARGUMENT where it is of another graph, the op has
 * no such output, or another hook feeds it already;
 * where the caller does the run fails so once all hooks have been asked (HK-RUN-18, HK-RUN-19,
 * ER-27).
 *
 * @param tensor Borrowed until the run is over.
 */
BELAY_API belay_code belay_run_context_feed(belay_run_context *run, belay_output output,
                                            belay_tensor *tensor, belay_error *err);

/**
 * In before_run: run with these RunOptions too, and collect RunMetadata where `options` has a place
 * for it (HK-RUN-22 to HK-RUN-25).
 *
 * They are merged with those of the step and of the hooks before: of trace_level, timeout_in_ms and
 * inter_op_thread_pool the largest counts (an inter_op_thread_pool of 0 is none), of the switches
 * whether anyone set them; debug watches are appended; `experimental` is merged (BUG-40);
 * debug_options.global_step is the step's alone. Nobody's own options are changed (BUG-39).
 *
 * @param options Bytes are read during the call; `metadata` is filled before after_run, by a run
 *                that succeeded, and must live until then.
 * @return BELAY_OK, or BELAY_INVALID_ARGUMENT: run_options is not a RunOptions.
 */
BELAY_API belay_code belay_run_context_merge_options(belay_run_context *run,
                                                     const belay_run_options *options,
                                                     belay_error *err);

/** In after_run: the serialised RunOptions that the run had (HK-RUN-17), `*out_size` bytes; NULL
 * where it had none. Valid during the call. */
BELAY_API const void *belay_run_context_run_options(const belay_run_context *run, size_t *out_size);

/** In after_run: the hook's fetch number `index`; NULL where it asked for none. Valid during the
 * call. */
BELAY_API const belay_tensor *belay_run_context_value(belay_run_context *run, size_t index);

/** Asks the loop to end: after this run should_stop is true (HK-RUN-11). */
BELAY_API void belay_run_context_request_stop(belay_run_context *run);

/** 1 where a hook asked for that in this run, or somebody asked the monitored session to stop: a
 * hook that waits should go on no longer. */
BELAY_API uint32_t belay_run_context_stop_requested(const belay_run_context *run);

#ifdef __cplusplus
}
#endif

#endif
