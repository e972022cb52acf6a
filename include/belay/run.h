/**
 * Runs: what the `belay` command does, as calls. A run adds to a monitored session what a training
 * job needs around it: the folder and its lock, input from `.npy` files, which part of the graph is
 * the step, a ledger of what happened, evaluation, and export.
 *
 * A run's folder belongs to one trainer at a time. It holds TensorFlow's files (`checkpoint`,
 * `model.ckpt-STEP.*`, `events.out.tfevents.*`) and belay's (`model.ckpt-STEP.belay.json`,
 * `belay.lock`, `belay.ledger.jsonl`).
 */
#ifndef BELAY_RUN_H
#define BELAY_RUN_H

#include <belay/error.h>
#include <belay/monitored_session.h>
#include <belay/saver.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Training ---- */

typedef struct belay_training_run belay_training_run;

/** Rows in the files' order, not shuffled. */
#define BELAY_RUN_NO_SHUFFLE (UINT32_C(1) << 0)
/** A folder without a checkpoint is an error, not a new training. */
#define BELAY_RUN_REQUIRE_RESUME (UINT32_C(1) << 1)
/** Move what an earlier training left to DIR/before-TIME, and start anew. Nothing is deleted. */
#define BELAY_RUN_FRESH (UINT32_C(1) << 2)
/** Write PREFIX.meta with every checkpoint, not once a graph. */
#define BELAY_RUN_SAVE_GRAPH (UINT32_C(1) << 3)

/** Where training is, for somebody who watches. */
typedef struct belay_run_progress {
    size_t struct_size;      /**< sizeof(belay_run_progress) in the library's build. */
    int64_t step;            /**< The global step. */
    int64_t last_step;       /**< The step it goes to; -1: not known. */
    int64_t epoch;           /**< Epochs of the fed arrays that are over; -1: nothing is fed. */
    int64_t epochs;          /**< How many it goes to; -1: not known. */
    double steps_per_second; /**< Over the last second or so; 0: not known yet. */
    double loss;             /**< Of the last step; NaN where there is none. */
    double elapsed_secs;     /**< Since the first step of this process. */
} belay_run_progress;

/** What a watcher is told about. */
typedef uint32_t belay_run_event;

/** The session is ready; belay_training_run_resumed_from() says where it goes on from. */
#define BELAY_RUN_EVENT_STARTED ((belay_run_event)1)
/** A step was finished. */
#define BELAY_RUN_EVENT_STEP ((belay_run_event)2)
/** A checkpoint was written. */
#define BELAY_RUN_EVENT_SAVED ((belay_run_event)3)

/**
 * Called on the thread that called belay_training_run_run(), with no lock held, after every step:
 * keep it short. It may call belay_training_run_request_stop() and the getters, nothing else of
 * this run.
 */
typedef void (*belay_run_watch)(void *self, belay_training_run *run, belay_run_event event,
                                const belay_run_progress *now);

/**
 * Options for belay_training_run_open(). Zero in any field means "the default".
 *
 * Start from BELAY_TRAINING_RUN_OPTIONS_INIT. Strings and lists are copied.
 */
typedef struct belay_training_run_options {
    size_t struct_size;    /**< sizeof(belay_training_run_options) in the caller's build. */
    const char *graph;     /**< MetaGraphDef file or SavedModel folder. Must be given. */
    const char *dir;       /**< The run's folder; made where it is missing. Must be given. */
    const char *signature; /**< NULL: "train", where the graph has it. */
    const char *train_op;  /**< NULL: the only member of collection `train_op`. */
    const char *loss; /**< A fetched name or a tensor; NULL: output `loss` of the signature, else
                         the only member of collection `losses`, else none. */
    const char *const *fetches; /**< Further outputs or tensors to fetch, ending in NULL. */
    const char *const *feeds;   /**< Inputs of the signature or tensors to feed, ending in NULL. */
    const char *const *feed_files; /**< A `.npy` file for each, ending in NULL. */
    const char *best_metric;       /**< Keep the best keep_best checkpoints by this fetched name. */
    const char *master;            /**< TensorFlow target; NULL: in this process. */
    const char *session_config_file; /**< Holds a serialised ConfigProto; NULL: an empty one. */
    int64_t steps;                   /**< Until the global step is this; 0: not given. */
    int64_t epochs;                  /**< Until the arrays were seen so often; 0: not given. */
    int64_t batch;                   /**< Rows in a batch; 0: what the graph fixes, else 32. */
    int64_t seed;                    /**< Drives shuffling, and nothing else. */
    int64_t save_steps; /**< Save so often; 0: see save_secs; BELAY_OFF: only the start and the end
                           are saved. */
    double save_secs;   /**< 0 with save_steps 0: 600; BELAY_OFF. */
    int64_t summary_steps;   /**< 0: 100; BELAY_OFF. */
    int64_t log_steps;       /**< 0: 100; BELAY_OFF. */
    double keep_every_hours; /**< 0: never. */
    double grace_secs;       /**< Time for threads, and for a step that hangs, to end; 0: 120. */
    double recovery_secs;    /**< How long to go on trying where a server is lost; 0: 600;
                                BELAY_AT_ONCE; BELAY_FOREVER. */
    belay_run_watch watch;   /**< NULL: nobody watches. */
    void *watch_self;        /**< Handed to `watch`. */
    int32_t keep_last;       /**< 0: 5; BELAY_KEEP_ALL. */
    int32_t keep_best;       /**< 0: none. */
    uint32_t best_is_max;    /**< 1: a larger metric is better. */
    belay_threads threads;   /**< BELAY_THREADS_*. */
    uint32_t flags;          /**< BELAY_RUN_* bits. */
    uint32_t reserved;       /**< Must be 0. */
} belay_training_run_options;

/** Initialiser with every field at its default. */
#define BELAY_TRAINING_RUN_OPTIONS_INIT                                                            \
    {                                                                                              \
        sizeof(belay_training_run_options), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,  \
            NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0, 0, 0, 0, 0              \
    }

/**
 * Loads the graph, finds out what a step is, and checks the arrays against it. Writes nothing.
 *
 * A step runs the train op, fetches the outputs of the signature, or does both where the graph has
 * both. A graph without a global step gets one, which counts the runs.
 *
 * Threads: any thread; then one thread owns the run.
 * Blocks:  while TensorFlow and the graph are loaded.
 *
 * @param options Borrowed for the call.
 * @param err     Filled on error. May be NULL.
 * @return a run that the caller closes with belay_training_run_close(), or NULL:
 *   - BELAY_NOT_FOUND: no such graph, signature, op, tensor or array, or no TensorFlow;
 *   - BELAY_INVALID_ARGUMENT: an array does not fit what it is fed to, an input is not fed (the
 *     message lists what the signature needs), or an option is malformed;
 *   - BELAY_FAILED_PRECONDITION: the graph does not say what a step is (the message names
 *     candidates);
 *   - BELAY_DATA_LOSS: the graph or an array is damaged;
 *   - BELAY_UNIMPLEMENTED: as belay_graph_load() says.
 */
BELAY_API belay_training_run *belay_training_run_open(const belay_training_run_options *options,
                                                      belay_error *err);

/**
 * Trains: takes the folder's lock, restores the newest checkpoint or initialises, and runs steps
 * until the end that the options name, the end of the input, or a request to stop. Every step that
 * was finished is in a checkpoint when it returns BELAY_OK.
 *
 * Where the checkpoint says that the end is reached already, nothing runs and nothing is written.
 *
 * Threads: owner thread. Call it once.
 *
 * @return BELAY_OK (belay_training_run_ending() says how it ended), or
 *   - BELAY_UNAVAILABLE: another trainer holds the folder; the message names its host and process;
 *   - BELAY_NOT_FOUND: BELAY_RUN_REQUIRE_RESUME and there is no checkpoint; or the newest
 *     checkpoint is one of another model;
 *   - BELAY_FAILED_PRECONDITION: a folder is where the state file `checkpoint` has to be;
 *   - BELAY_DATA_LOSS: there are checkpoints, and none of them verifies; or a SavedModel's own
 *     variables, which a new training starts from, are damaged;
 *   - BELAY_PERMISSION_DENIED, BELAY_RESOURCE_EXHAUSTED: the folder cannot be written; where the
 *     disk is full during a save the message says what is wanted and what is free;
 *   - BELAY_DEADLINE_EXCEEDED: the file system has no locks, and another trainer took the folder
 *     over while this process was stopped;
 *   - BELAY_NAN_LOSS: the loss is not a number;
 *   - any other code, as TensorFlow reported it.
 */
BELAY_API belay_code belay_training_run_run(belay_training_run *run, belay_error *err);

/** Asks the run to end after the step that is running. Any thread, async-signal-safe. */
BELAY_API void belay_training_run_request_stop(belay_training_run *run);

/** How a run ended. */
typedef uint32_t belay_run_ending;

#define BELAY_RUN_NOT_ENDED     ((belay_run_ending)0)
#define BELAY_RUN_REACHED_STEP  ((belay_run_ending)1) /**< The step that was asked for. */
#define BELAY_RUN_REACHED_EPOCH ((belay_run_ending)2) /**< The epochs that were asked for. */
#define BELAY_RUN_INPUT_ENDED   ((belay_run_ending)3) /**< The graph's own input. */
#define BELAY_RUN_STOPPED       ((belay_run_ending)4) /**< belay_training_run_request_stop(). */
#define BELAY_RUN_HOOK_STOPPED  ((belay_run_ending)5) /**< A hook asked for it. */
#define BELAY_RUN_NOTHING_TO_DO ((belay_run_ending)6) /**< The end was reached before. */
#define BELAY_RUN_FAILED        ((belay_run_ending)7)

BELAY_API belay_run_ending belay_training_run_ending(const belay_training_run *run);

/** The same as a sentence. Belongs to the run. */
BELAY_API const char *belay_training_run_ending_text(const belay_training_run *run);

/** Global step at which this process began, and at which it is now; -1: not known yet. */
BELAY_API int64_t belay_training_run_start_step(const belay_training_run *run);
BELAY_API int64_t belay_training_run_step(const belay_training_run *run);

/** Step of the checkpoint it went on from; -1: it started anew, or has not begun. */
BELAY_API int64_t belay_training_run_resumed_from(const belay_training_run *run);

/** Prefix of the newest checkpoint that this process wrote; NULL: none. Belongs to the run. */
BELAY_API const char *belay_training_run_last_checkpoint(const belay_training_run *run);

/** What the last step gave: scalars that were fetched, by name; the value is NaN for what is not
 *  one. */
BELAY_API size_t belay_training_run_metric_count(const belay_training_run *run);
BELAY_API const char *belay_training_run_metric_name(const belay_training_run *run, size_t index);
BELAY_API double belay_training_run_metric(const belay_training_run *run, size_t index);

/** Name of the loss as metrics are named, and its last value; NULL and NaN where there is none. */
BELAY_API const char *belay_training_run_loss_name(const belay_training_run *run);
BELAY_API double belay_training_run_loss(const belay_training_run *run);

/** Frees a run, and gives the folder free. NULL is fine. */
BELAY_API void belay_training_run_close(belay_training_run *run);

/* ---- Evaluation ---- */

/** Asked now and then, on the calling thread: other than 0 ends the call with BELAY_CANCELLED. */
typedef uint32_t (*belay_should_stop)(void *self);

/**
 * Options for belay_evaluate(). Zero in any field means "the default".
 *
 * Start from BELAY_EVALUATE_OPTIONS_INIT. Read during the call and not kept.
 */
typedef struct belay_evaluate_options {
    size_t struct_size;         /**< sizeof(belay_evaluate_options) in the caller's build. */
    const char *graph;          /**< MetaGraphDef file or SavedModel folder. Must be given. */
    const char *dir;            /**< The run's folder, or a checkpoint's prefix. Must be given. */
    const char *signature;      /**< NULL: "eval", where the graph has it. */
    const char *const *fetches; /**< Further outputs or tensors, ending in NULL. */
    const char *const *feeds;   /**< Inputs of the signature or tensors to feed, ending in NULL. */
    const char *const *feed_files;   /**< A `.npy` file for each, ending in NULL. */
    const char *master;              /**< TensorFlow target; NULL: in this process. */
    const char *session_config_file; /**< Holds a serialised ConfigProto; NULL: an empty one. */
    int64_t batch;                   /**< Rows in a batch; 0: what the graph fixes, else 256. */
    belay_should_stop should_stop;   /**< NULL: nobody stops it. */
    void *stop_self;                 /**< Handed to should_stop. */
} belay_evaluate_options;

/** Initialiser with every field at its default. */
#define BELAY_EVALUATE_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(belay_evaluate_options), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL,   \
            NULL                                                                                   \
    }

/**
 * Options for belay_evaluate_once() (HK-EVAL-04). Zero in any field means "the default". Read
 * during the call; nothing is given.
 */
typedef struct belay_evaluate_once_options {
    size_t struct_size;          /**< sizeof(belay_evaluate_once_options) in the caller's build. */
    const char *checkpoint_path; /**< The prefix of a checkpoint; NULL: the model is initialised. */
    belay_scaffold *scaffold;    /**< NULL: one with all defaults. */
    const belay_session_options *session; /**< Target and config. */
    const char *const *eval_ops;    /**< Operations to run until somebody asks to stop or the input
                                         ends, ending in NULL; NULL: none, only final_ops. */
    const char *const *feeds;       /**< Tensors that they are fed, ending in NULL; NULL: none. */
    belay_tensor *const *inputs;    /**< A tensor for each. */
    const char *const *final_ops;   /**< Tensors to fetch at the end, ending in NULL; NULL: none. */
    const char *const *final_feeds; /**< Tensors that these are fed, ending in NULL. */
    belay_tensor *const *final_inputs; /**< A tensor for each. */
    belay_hook *const *hooks; /**< `hook_count` of them, called around each run of eval_ops.
                                   One of them should stop it: see
                                   belay_stop_after_evals_hook_new(). */
    size_t hook_count;
} belay_evaluate_once_options;

/** Initialiser with every field at its default. */
#define BELAY_EVALUATE_ONCE_OPTIONS_INIT                                                           \
    {                                                                                              \
        sizeof(belay_evaluate_once_options), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
            NULL, 0                                                                                \
    }

/**
 * TensorFlow's evaluate_once: restores one checkpoint, runs ops in a monitored session until a hook
 * asks to stop or the input ends, and gives the values that final_ops have then. It needs no
 * folder, no signature and no arrays; belay_evaluate() is for those who have them.
 *
 * Threads: the hooks are called on the calling thread.
 * Blocks:  until then.
 *
 * @param graph            As belay_monitored_session_open() takes it.
 * @param options          Borrowed for the call. NULL: all defaults, which only restore nothing.
 * @param out_final_values A place for each of final_ops, set to a tensor that the caller frees;
 * NULL on error. May be NULL where there are none.
 * @param err              Filled on error. May be NULL.
 * @return BELAY_OK, or as belay_monitored_session_open(), belay_step_prepare(), belay_step_run()
 * and belay_monitored_session_close().
 */
BELAY_API belay_code belay_evaluate_once(belay_graph *graph,
                                         const belay_evaluate_once_options *options,
                                         belay_tensor **out_final_values, belay_error *err);

/** What an evaluation found. */
typedef struct belay_evaluation belay_evaluation;

/**
 * Evaluates a checkpoint: runs a signature over arrays, in order, and takes the means of its scalar
 * outputs, each batch with the weight of its rows. Reads the folder and changes nothing in it, so a
 * trainer may be at work there.
 *
 * Without feeds the outputs are taken once.
 *
 * @return what was found, to be freed with belay_evaluation_free(), or NULL: as
 *   belay_training_run_open(), and BELAY_NOT_FOUND: there is no checkpoint; BELAY_DATA_LOSS: there
 *   are, and none of them verifies; BELAY_CANCELLED: should_stop.
 */
BELAY_API belay_evaluation *belay_evaluate(const belay_evaluate_options *options, belay_error *err);

/**
 * Options for belay_evaluate_repeatedly(). Zero in any field means "the default".
 *
 * Start from BELAY_EVALUATE_WATCH_OPTIONS_INIT.
 */
typedef struct belay_evaluate_watch_options {
    size_t struct_size;      /**< sizeof(belay_evaluate_watch_options) in the caller's build. */
    double timeout_secs;     /**< Longest wait for the next checkpoint; 0 or BELAY_FOREVER: no
                                limit. */
    int64_t max_evaluations; /**< End after so many; 0: no limit. */
    /** Called on the calling thread after each evaluation, which belongs to the call. An error ends
     * the watching, and is its result. NULL: nobody is told. */
    belay_code (*evaluated)(void *self, const belay_evaluation *evaluation, belay_error *err);
    /** Told what is waited for: when a wait begins, and every 10 s. NULL: it is logged (INFO). */
    void (*waiting)(void *self, const char *text);
    void *self; /**< Handed to both. */
} belay_evaluate_watch_options;

/** Initialiser with every field at its default. */
#define BELAY_EVALUATE_WATCH_OPTIONS_INIT                                                          \
    { sizeof(belay_evaluate_watch_options), 0, 0, NULL, NULL, NULL }

/**
 * Evaluates the newest checkpoint of a run's folder, then each new one as it appears, until the
 * training is over: until its last line in the folder's ledger says that it reached its end. Then
 * the newest checkpoint has been evaluated.
 *
 * A training that was stopped or failed is not over: it may go on. Neither is one that keeps no
 * ledger, such as Python's: give a limit. Of checkpoints that appear during an evaluation only the
 * newest is taken; one that is damaged is passed over with a warning, and so is one that the
 * trainer deletes while it is read. The folder need not be there yet.
 *
 * Blocks: until then. It says every 10 s what it waits for; options->should_stop is asked every
 * 0.5 s.
 *
 * @param options As belay_evaluate() takes them; `dir` is a folder.
 * @param watch   Borrowed for the call. NULL: all defaults.
 * @return BELAY_OK, or
 *   - BELAY_DEADLINE_EXCEEDED: no new checkpoint came in time;
 *   - BELAY_CANCELLED: should_stop;
 *   - BELAY_NOT_FOUND: training is over, and left no checkpoint;
 *   - any other code: as belay_evaluate(), or from `evaluated`.
 */
BELAY_API belay_code belay_evaluate_repeatedly(const belay_evaluate_options *options,
                                               const belay_evaluate_watch_options *watch,
                                               belay_error *err);

/** Frees it. NULL is fine. */
BELAY_API void belay_evaluation_free(belay_evaluation *evaluation);

/** The checkpoint's prefix and its global step (BELAY_NO_STEP: it has none). */
BELAY_API const char *belay_evaluation_checkpoint(const belay_evaluation *evaluation);
BELAY_API int64_t belay_evaluation_step(const belay_evaluation *evaluation);

/** Rows that were evaluated, and rows left out because the batch's size is fixed. */
BELAY_API int64_t belay_evaluation_rows(const belay_evaluation *evaluation);
BELAY_API int64_t belay_evaluation_rows_left_out(const belay_evaluation *evaluation);

/** The means, in sorted order of their names. */
BELAY_API size_t belay_evaluation_metric_count(const belay_evaluation *evaluation);
BELAY_API const char *belay_evaluation_metric_name(const belay_evaluation *evaluation,
                                                   size_t index);
BELAY_API double belay_evaluation_metric(const belay_evaluation *evaluation, size_t index);

/* ---- Export ---- */

/**
 * Options for belay_export_saved_model(). Zero in any field means "the default".
 *
 * Start from BELAY_EXPORT_OPTIONS_INIT. Read during the call and not kept.
 */
typedef struct belay_export_options {
    size_t struct_size; /**< sizeof(belay_export_options) in the caller's build. */
    const char *graph;  /**< The graph that was trained. Must be given. */
    const char *dir;    /**< The run's folder, or a checkpoint's prefix. Must be given. */
    const char *to;     /**< Folder to write; missing or empty. Must be given. */
    belay_should_stop should_stop; /**< NULL: nobody stops it. */
    void *stop_self;               /**< Handed to should_stop. */
} belay_export_options;

/** Initialiser with every field at its default. */
#define BELAY_EXPORT_OPTIONS_INIT                                                                  \
    { sizeof(belay_export_options), NULL, NULL, NULL, NULL, NULL }

/**
 * Writes a SavedModel that holds the variables of a checkpoint, for TensorFlow Serving, Python, or
 * belay itself. The folder appears whole or not at all.
 *
 * A SavedModel is copied with other variables; a MetaGraphDef becomes one, with its signatures.
 *
 * @param out_step Set to the checkpoint's global step, or BELAY_NO_STEP. May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_ALREADY_EXISTS: `to` is there, and not empty;
 *   - BELAY_FAILED_PRECONDITION: the graph has no signature, so nobody could use it;
 *   - BELAY_NOT_FOUND, BELAY_DATA_LOSS: as belay_evaluate().
 */
BELAY_API belay_code belay_export_saved_model(const belay_export_options *options,
                                              int64_t *out_step, belay_error *err);

#ifdef __cplusplus
}
#endif

#endif
