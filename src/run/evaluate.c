#include "run/evaluate.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include "run/feeds.h"
#include "run/plan.h"
#include "run/restored.h"
#include "run/target.h"

#include <belay/run.h>

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(belay_evaluate_options) ==
                   offsetof(belay_evaluate_options, stop_self) + sizeof(void *),
               "no tail padding");

#define DEFAULT_BATCH 256

/* One scalar output. Sums are double: a mean over a million rows keeps its float32 digits. */
struct metric {
    const char *name; /* the plan's */
    double sum;
    int is_scalar;
};

struct belay_evaluation {
    char *checkpoint;
    int64_t step;
    int64_t rows;
    int64_t left_out;
    struct metric *metrics;
    size_t count;
    bly_plan plan; /* the names' home */
};

/* What an evaluation needs while it runs. */
struct work {
    const belay_evaluate_options *options;
    const char *prefix; /* the checkpoint; NULL: the newest */
    belay_evaluation *result;
    belay_graph *graph;
    belay_saver *saver;
    bly_target target;
    belay_session *session;
    bly_feeds *feeds;
    bly_names feed_tensors;
    belay_tensor **outputs;
    double weight; /* of all batches so far */
};

/* --- before ----------------------------------------------------------------------------------- */

static belay_code make_plan(struct work *work, belay_error *err) {
    const belay_evaluate_options *o = work->options;
    bly_plan_request request = {
        .signature = o->signature,
        .default_signature = "eval",
        .fetches = o->fetches,
        .feeds = o->feeds,
    };
    bly_plan *plan = &work->result->plan;
    belay_code code = bly_plan_make(work->graph, &request, plan, err);
    for (size_t i = 0; i < plan->feed_names.count && code == BELAY_OK; i++)
        code = bly_names_add(&work->feed_tensors, plan->feeds[i].tensor, err);
    if (code != BELAY_OK)
        return code;
    work->outputs = bly_calloc(plan->names.count, sizeof(belay_tensor *));
    work->result->metrics = bly_calloc(plan->names.count, sizeof(struct metric));
    if (!work->outputs || !work->result->metrics)
        return bly_fail_memory(err);
    work->result->count = plan->names.count;
    for (size_t i = 0; i < plan->names.count; i++)
        work->result->metrics[i] = (struct metric){plan->names.items[i], 0, 1};
    return BELAY_OK;
}

static belay_code open_feeds(struct work *work, belay_error *err) {
    const belay_evaluate_options *o = work->options;
    bly_feeds_options options = {o->batch, DEFAULT_BATCH, 1, 0, 0};
    if (!work->result->plan.feed_names.count)
        return BELAY_OK;
    work->feeds = bly_feeds_open(&work->result->plan, o->feed_files, &options, err);
    if (!work->feeds)
        return belay_error_code(err);
    work->result->left_out = bly_feeds_left_out(work->feeds);
    return BELAY_OK;
}

static belay_code open_session(struct work *work, belay_error *err) {
    belay_evaluation *result = work->result;
    work->saver = belay_saver_new(work->graph, NULL, err);
    if (!work->saver)
        return belay_error_code(err);
    result->checkpoint =
        work->prefix ? bly_strdup(work->prefix) : bly_choose_checkpoint(work->options->dir, err);
    if (!result->checkpoint)
        return work->prefix ? bly_fail_memory(err) : belay_error_code(err);
    work->session = bly_restored_session(work->graph, work->saver, result->checkpoint,
                                         &work->target.options, err);
    if (!work->session)
        return belay_error_code(err);
    result->step = bly_restored_step(work->session, result->checkpoint);
    return BELAY_OK;
}

/* --- the batches ------------------------------------------------------------------------------ */

/* Only what the options name must be a scalar; a signature may have other outputs beside its
 * metrics. */
static belay_code is_asked_for(const struct work *work, const char *name, belay_error *err) {
    for (size_t i = 0; work->options->fetches && work->options->fetches[i]; i++)
        if (!strcmp(work->options->fetches[i], name))
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "'%s' is not a scalar number, so it has no mean over batches", name);
    return BELAY_OK;
}

static belay_code add(struct work *work, double weight, belay_error *err) {
    for (size_t i = 0; i < work->result->count; i++) {
        struct metric *metric = &work->result->metrics[i];
        const belay_tensor *value = work->outputs[i];
        belay_dtype dtype = belay_tensor_dtype(value);
        if (belay_tensor_rank(value) != 0 || dtype == BELAY_STRING || !belay_dtype_size(dtype)) {
            metric->is_scalar = 0;
            belay_code code = is_asked_for(work, metric->name, err);
            if (code != BELAY_OK)
                return code;
        } else {
            metric->sum += belay_tensor_number(value, 0) * weight;
        }
    }
    work->weight += weight;
    return BELAY_OK;
}

static belay_code run_once(struct work *work, belay_tensor *const *inputs, double weight,
                           belay_error *err) {
    const bly_plan *plan = &work->result->plan;
    belay_code code = belay_session_run(work->session, bly_names_list(&work->feed_tensors), inputs,
                                        bly_names_list(&plan->tensors), work->outputs,
                                        bly_names_list(&plan->targets), NULL, err);
    return code == BELAY_OK ? add(work, weight, err) : code;
}

static belay_code run_batches(struct work *work, belay_error *err) {
    belay_tensor *const *inputs;
    int64_t rows;
    if (!work->feeds)
        return run_once(work, NULL, 1, err);
    for (;;) {
        belay_code code = bly_feeds_next(work->feeds, &inputs, &rows, err);
        if (code == BELAY_OUT_OF_RANGE) {
            belay_error_clear(err);
            return BELAY_OK;
        }
        if (code == BELAY_OK)
            code = run_once(work, inputs, (double)rows, err);
        if (code != BELAY_OK)
            return code;
        work->result->rows += rows;
        if (work->options->should_stop && work->options->should_stop(work->options->stop_self))
            return bly_fail(err, BELAY_CANCELLED, "asked to stop");
    }
}

/* --- after ------------------------------------------------------------------------------------ */

static int compare(const void *a, const void *b) {
    return strcmp(((const struct metric *)a)->name, ((const struct metric *)b)->name);
}

/* Sums become means; outputs without a mean go. */
static void finish(struct work *work) {
    belay_evaluation *result = work->result;
    size_t kept = 0;
    for (size_t i = 0; i < result->count; i++) {
        result->metrics[i].sum /= work->weight;
        if (result->metrics[i].is_scalar)
            result->metrics[kept++] = result->metrics[i];
    }
    result->count = kept;
    qsort(result->metrics, kept, sizeof *result->metrics, compare);
}

static belay_code evaluate(struct work *work, belay_error *err) {
    const belay_evaluate_options *o = work->options;
    if (!o->graph || !*o->graph || !o->dir || !*o->dir)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "graph and dir must be given");
    if (bly_count_names(o->feeds) != bly_count_names(o->feed_files) || o->batch < 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        o->batch < 0 ? "batch cannot be negative" : "each feed needs a file");
    work->graph = bly_run_load(o->graph, err);
    belay_code code = work->graph ? make_plan(work, err) : belay_error_code(err);
    if (code == BELAY_OK)
        code = open_feeds(work, err);
    if (code == BELAY_OK)
        code = bly_target_open(&work->target, work->graph, o->master, o->session_config_file, err);
    if (code == BELAY_OK)
        code = open_session(work, err);
    if (code == BELAY_OK)
        code = run_batches(work, err);
    if (code == BELAY_OK)
        finish(work);
    return code;
}

belay_evaluation *belay_evaluate(const belay_evaluate_options *given, belay_error *err) {
    return bly_evaluate_checkpoint(given, NULL, err);
}

belay_evaluation *bly_evaluate_checkpoint(const belay_evaluate_options *given, const char *prefix,
                                          belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    belay_evaluate_options options = BELAY_EVALUATE_OPTIONS_INIT;
    struct work work = {.options = &options, .prefix = prefix};
    belay_code code =
        bly_options_read(&options, sizeof options, given, "belay_evaluate_options", &mine);
    if (code == BELAY_OK) {
        work.result = bly_calloc(1, sizeof *work.result);
        code = work.result ? evaluate(&work, &mine) : bly_fail_memory(&mine);
    }
    for (size_t i = 0; work.outputs && i < work.result->plan.names.count; i++)
        belay_tensor_free(work.outputs[i]);
    bly_free(work.outputs);
    bly_names_free(&work.feed_tensors);
    bly_feeds_close(work.feeds);
    belay_session_free(work.session);
    bly_target_close(&work.target);
    belay_saver_free(work.saver);
    belay_graph_free(work.graph);
    if (code == BELAY_OK)
        return work.result;
    belay_evaluation_free(work.result);
    bly_error_copy(err, &mine);
    return NULL;
}

void belay_evaluation_free(belay_evaluation *evaluation) {
    if (!evaluation)
        return;
    bly_plan_free(&evaluation->plan);
    bly_free(evaluation->metrics);
    bly_free(evaluation->checkpoint);
    bly_free(evaluation);
}

const char *belay_evaluation_checkpoint(const belay_evaluation *evaluation) {
    return evaluation ? evaluation->checkpoint : NULL;
}

int64_t belay_evaluation_step(const belay_evaluation *evaluation) {
    return evaluation ? evaluation->step : BELAY_NO_STEP;
}

int64_t belay_evaluation_rows(const belay_evaluation *evaluation) {
    return evaluation ? evaluation->rows : 0;
}

int64_t belay_evaluation_rows_left_out(const belay_evaluation *evaluation) {
    return evaluation ? evaluation->left_out : 0;
}

size_t belay_evaluation_metric_count(const belay_evaluation *evaluation) {
    return evaluation ? evaluation->count : 0;
}

const char *belay_evaluation_metric_name(const belay_evaluation *evaluation, size_t index) {
    return index < belay_evaluation_metric_count(evaluation) ? evaluation->metrics[index].name
                                                             : NULL;
}

double belay_evaluation_metric(const belay_evaluation *evaluation, size_t index) {
    return index < belay_evaluation_metric_count(evaluation) ? evaluation->metrics[index].sum
                                                             : (double)NAN;
}
