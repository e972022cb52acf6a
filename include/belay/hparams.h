/**
 * Hyperparameters of a run, for TensorBoard's HPARAMS page: which values this run has, and, once
 * for many runs, what is varied and what is measured.
 *
 * TensorBoard takes each folder of event files as one session, with one set of hyperparameters; its
 * metrics are scalars of that run. Each of the three things below can be added once to a writer; a
 * second time is BELAY_ALREADY_EXISTS.
 *
 * Threads: any thread. Nothing here waits for the disk.
 */
#ifndef BELAY_HPARAMS_H
#define BELAY_HPARAMS_H

#include <belay/error.h>
#include <belay/export.h>
#include <belay/summary.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What the value of a hyperparameter is. */
typedef int32_t belay_hparam_type;

#define BELAY_HPARAM_NUMBER ((belay_hparam_type)0)
#define BELAY_HPARAM_BOOL   ((belay_hparam_type)1)
#define BELAY_HPARAM_TEXT   ((belay_hparam_type)2)

/** One hyperparameter with its value. Strings are UTF-8. */
typedef struct belay_hparam {
    const char *name;
    const char *text; /**< The value of a TEXT. */
    double number;    /**< The value of a NUMBER; of a BOOL, 0 is false. */
    belay_hparam_type type;
    uint32_t reserved; /**< Must be 0. */
} belay_hparam;

/** How a session ended: TensorBoard's numbers. */
typedef int32_t belay_hparams_status;

#define BELAY_HPARAMS_SUCCESS ((belay_hparams_status)1)
#define BELAY_HPARAMS_FAILURE ((belay_hparams_status)2)
#define BELAY_HPARAMS_RUNNING ((belay_hparams_status)3)

/**
 * Adds the hyperparameters of this run, and that it starts now.
 *
 * @param hparams    `count` of them, each name once. Borrowed for the call.
 * @param group_name Runs with one group name are repetitions of one trial; NULL: this run alone.
 * @return BELAY_OK, or
 *   - BELAY_INVALID_ARGUMENT: a name is NULL, empty, there twice or not UTF-8, a type is not
 *     known, or a number is infinite or none: TensorBoard would show no run of the folder;
 *   - BELAY_ALREADY_EXISTS: this writer has them already;
 *   - else as belay_summary_writer_add_scalar().
 *
 * @since 0.1
 */
BELAY_API belay_code belay_summary_writer_add_hparams(belay_summary_writer *writer,
                                                      const belay_hparam *hparams, size_t count,
                                                      const char *group_name, belay_error *err);

/**
 * Adds that the session ended now, and how.
 *
 * @param status One of BELAY_HPARAMS_*.
 * @return as belay_summary_writer_add_hparams().
 *
 * @since 0.1
 */
BELAY_API belay_code belay_summary_writer_add_hparams_end(belay_summary_writer *writer,
                                                          belay_hparams_status status,
                                                          belay_error *err);

/** What may be said of one hyperparameter beforehand. */
typedef struct belay_hparam_info {
    const char *name;
    const char *display_name;   /**< NULL: the name. */
    const char *description;    /**< NULL: none. */
    const belay_hparam *values; /**< `value_count` values that it may have; their names do not
                                   matter. NULL: not listed. */
    size_t value_count;
    double min; /**< The interval that a number is from; */
    double max; /**< none where max is not above min. */
    belay_hparam_type type;
    uint32_t reserved; /**< Must be 0. */
} belay_hparam_info;

/** A scalar that runs are compared by. */
typedef struct belay_metric_info {
    const char *tag;   /**< Its tag. */
    const char *group; /**< Folder below a session's, such as "eval"; NULL: the session's own. */
    const char *display_name; /**< NULL: the tag. */
    const char *description;  /**< NULL: none. */
} belay_metric_info;

/**
 * An experiment: what is varied, and what is measured. Zero in any field means none.
 *
 * Start from BELAY_HPARAMS_EXPERIMENT_INIT. Read during the call and not kept.
 */
typedef struct belay_hparams_experiment {
    size_t struct_size; /**< sizeof(belay_hparams_experiment) in the caller's build. */
    const char *name;
    const char *description;
    const belay_hparam_info *hparams;
    size_t hparam_count;
    const belay_metric_info *metrics;
    size_t metric_count;
} belay_hparams_experiment;

/** Initialiser with every field at its default. */
#define BELAY_HPARAMS_EXPERIMENT_INIT                                                              \
    { sizeof(belay_hparams_experiment), NULL, NULL, NULL, 0, NULL, 0 }

/**
 * Describes an experiment. It belongs into the folder above those of its runs; without one,
 * TensorBoard gathers from the runs what it can.
 *
 * @return as belay_summary_writer_add_hparams().
 *
 * @since 0.1
 */
BELAY_API belay_code belay_summary_writer_add_hparams_experiment(
    belay_summary_writer *writer, const belay_hparams_experiment *experiment, belay_error *err);

#ifdef __cplusplus
}
#endif

#endif
