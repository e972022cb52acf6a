#include "session/step.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "wire/unpack.h"

#include <string.h>

/* The first runs build executors and say nothing about later ones. Then short turns alternate, so
 * that neither way gets all of a bad moment, and the fastest run of each counts: noise only ever
 * makes a run slower. */
#define WARM_UP_RUNS  3
#define TURN_RUNS     4
#define MEASURED_RUNS (6 * TURN_RUNS)

static belay_code add_global_step(belay_step *step, belay_graph *graph, belay_error *err) {
    const bly_request *request = &step->request;
    if (graph->global_step.count)
        step->targets[step->target_count++] = graph->global_step.count;
    if (!graph->global_step.read.oper)
        return BELAY_OK;
    belay_code code = bly_graph_step_after(
        graph, request->inputs, request->feed_count, request->outputs, request->output_count,
        (TF_Operation *const *)step->targets, step->target_count, &step->step_after, err);
    if (code == BELAY_OK && step->step_after.oper)
        step->outputs[step->output_count++] = step->step_after;
    return code;
}

belay_code bly_step_make(belay_step *step, belay_graph *graph, const char *const *feeds,
                         const char *const *fetches, const char *const *targets, belay_error *err) {
    bly_request *request = &step->request;
    belay_code code = bly_request_make(request, graph, feeds, fetches, targets, err);
    if (code != BELAY_OK)
        return code;
    step->outputs = bly_calloc(request->output_count + 1, sizeof *step->outputs);
    step->values = bly_calloc(request->output_count + 1, sizeof *step->values);
    step->targets = bly_calloc(request->target_count + 1, sizeof *step->targets);
    step->in = bly_calloc(request->feed_count, sizeof *step->in);
    if (!step->outputs || !step->values || !step->targets || !step->in)
        return bly_fail_memory(err);
    if (request->output_count > 0)
        memcpy(step->outputs, request->outputs, request->output_count * sizeof *step->outputs);
    if (request->target_count > 0)
        memcpy(step->targets, request->targets, request->target_count * sizeof *step->targets);
    step->output_count = request->output_count;
    step->target_count = request->target_count;
    return add_global_step(step, graph, err);
}

static void forget_options(belay_step *step) {
    const bly_runtime *rt = step->request.graph ? step->request.graph->rt : NULL;
    for (int i = 0; i < 2; i++) {
        if (step->packed[i])
            rt->DeleteBuffer(step->packed[i]);
        step->packed[i] = NULL;
    }
    bly_wire_free(step->options);
    step->options = NULL;
    step->metadata = NULL;
}

belay_code bly_step_set_options(belay_step *step, const belay_run_options *given,
                                belay_error *err) {
    const bly_runtime *rt = step->request.graph->rt;
    TF_Buffer *packed[2] = {NULL, NULL};
    belay_run_options options;
    belay_code code = bly_options_read(&options, sizeof options, given, "belay_run_options", err);
    if (code != BELAY_OK)
        return code;
    if (!options.run_options) {
        forget_options(step);
        step->metadata = options.metadata;
        return BELAY_OK;
    }
    BLY_LOCAL_ERROR(mine);
    Bly__RunOptions *read =
        bly_run_options_read(options.run_options, options.run_options_size, &mine);
    for (int i = 0; read && i < 2; i++)
        packed[i] = bly_run_options_pack(rt, read, bly_run_options_in_caller(read, i));
    if (read && (!packed[0] || !packed[1]))
        bly_fail_memory(&mine);
    if (mine.code != BELAY_OK) {
        for (int i = 0; i < 2; i++)
            if (packed[i])
                rt->DeleteBuffer(packed[i]);
        bly_wire_free(read);
        bly_error_copy(err, &mine);
        return mine.code;
    }
    forget_options(step);
    step->options = read;
    memcpy(step->packed, packed, sizeof packed);
    step->metadata = options.metadata;
    return BELAY_OK;
}

void bly_step_clean_up(belay_step *step) {
    forget_options(step);
    bly_request_clean_up(&step->request);
    bly_free(step->outputs);
    bly_free(step->values);
    bly_free(step->targets);
    bly_free(step->in);
    bly_free(step->extras);
}

/* The same writers give the same read; so another one says that `output` brings in more of them, or
 * that nothing can be proved any more. */
static belay_code find_out_extra(const belay_step *step, belay_graph *graph, TF_Output output,
                                 int *out, belay_error *err) {
    const bly_request *request = &step->request;
    TF_Output read;
    TF_Output *fetches = bly_calloc(request->output_count + 1, sizeof *fetches);
    if (!fetches)
        return bly_fail_memory(err);
    if (request->output_count > 0)
        memcpy(fetches, request->outputs, request->output_count * sizeof *fetches);
    fetches[request->output_count] = output;
    belay_code code = bly_graph_step_after(
        graph, request->inputs, request->feed_count, fetches, request->output_count + 1,
        (TF_Operation *const *)step->targets, step->target_count, &read, err);
    *out = code == BELAY_OK && !bly_same_output(read, step->step_after);
    bly_free(fetches);
    return code;
}

belay_code bly_step_check_extra(belay_step *step, belay_graph *graph, TF_Output output, int *out,
                                belay_error *err) {
    *out = 0;
    if (!step->step_after.oper)
        return BELAY_OK; /* no step, or one that is read in a run of its own in any case */
    for (size_t i = 0; i < step->extra_count; i++) {
        if (bly_same_output(step->extras[i].output, output)) {
            *out = step->extras[i].writes_step;
            return BELAY_OK;
        }
    }
    if (!bly_grow(&step->extras, step->extra_count, &step->extra_capacity, sizeof *step->extras))
        return bly_fail_memory(err);
    belay_code code = find_out_extra(step, graph, output, out, err);
    if (code == BELAY_OK)
        step->extras[step->extra_count++] = (bly_extra_fetch){output, *out};
    return code;
}

void bly_tuner_start(bly_tuner *tuner, belay_threads threads, int caller_allowed) {
    *tuner = (bly_tuner){.fastest_us = {INT64_MAX, INT64_MAX}};
    tuner->measuring = threads == BELAY_THREADS_AUTO && caller_allowed;
    tuner->in_caller = threads == BELAY_THREADS_CALLER && caller_allowed;
}

void bly_tuner_learn(bly_tuner *tuner, int64_t took_us) {
    int run = tuner->runs++;
    if (run < WARM_UP_RUNS) {
        tuner->in_caller = !tuner->in_caller; /* warm both */
        return;
    }
    if (took_us < tuner->fastest_us[tuner->in_caller])
        tuner->fastest_us[tuner->in_caller] = took_us;
    int measured = run - WARM_UP_RUNS + 1;
    tuner->in_caller = measured / TURN_RUNS % 2;
    if (measured < MEASURED_RUNS)
        return;
    tuner->measuring = 0;
    tuner->in_caller = tuner->fastest_us[1] <= tuner->fastest_us[0];
}
