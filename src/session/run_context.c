/* What hooks see of a run, and what they add to it. */
#include "session/hooked.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "wire/unpack.h"

#include <string.h>

belay_session *belay_run_context_session(belay_run_context *run) {
    return run ? run->hooked->session : NULL;
}

const belay_progress *belay_run_context_progress(const belay_run_context *run) {
    return run ? &run->hooked->progress : NULL;
}

void belay_run_context_request_stop(belay_run_context *run) {
    if (!run)
        return;
    if (!run->stop_requested)
        run->stopped_by = run->slot;
    run->stop_requested = 1;
}

uint32_t belay_run_context_stop_requested(const belay_run_context *run) {
    const atomic_int *stop = run ? run->hooked->session_stop : NULL;
    return run && (run->stop_requested || (stop && atomic_load(stop)));
}

static belay_code only_before(const belay_run_context *run, const char *what, belay_error *err) {
    if (run && run->before)
        return BELAY_OK;
    if (!run)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "run is NULL");
    return bly_fail(err, BELAY_FAILED_PRECONDITION, "a hook can %s only in before_run", what);
}

/* TensorFlow would look for an op of another graph by its name, and find the wrong one or none. */
static belay_code check_graph(belay_run_context *run, belay_output output, belay_error *err) {
    const belay_graph *graph = run->hooked->graph;
    for (size_t i = 0; i < run->own_op_count; i++)
        if (run->own_ops[i] == output.op)
            return BELAY_OK;
    const char *name = graph->rt->OperationName(output.op);
    if (graph->rt->GraphOperationByName(graph->tf, name) != output.op)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s:%lld is of another graph than the session's: find it with "
                        "belay_graph_find_output() in the graph that begin is given",
                        name, (long long)output.index);
    if (!bly_grow(&run->own_ops, run->own_op_count, &run->own_op_capacity, sizeof *run->own_ops))
        return bly_fail_memory(err);
    run->own_ops[run->own_op_count++] = output.op;
    return BELAY_OK;
}

/* TensorFlow reports a wrong index as OUT_OF_RANGE, which would pass for the end of the input. */
static belay_code check_output(belay_run_context *run, belay_output output, belay_error *err) {
    const bly_runtime *rt = run->hooked->graph->rt;
    belay_code code = check_graph(run, output, err);
    if (code != BELAY_OK)
        return code;
    if (output.index >= 0 && output.index < rt->OperationNumOutputs(output.op))
        return BELAY_OK;
    return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s has no output number %lld",
                    rt->OperationName(output.op), (long long)output.index);
}

/* Arrays that grow together. */
static int grow_outputs(belay_run_context *run) {
    return bly_grow(&run->outputs, run->output_count, &run->output_capacity,
                    sizeof *run->outputs) &&
           bly_grow(&run->asked, run->output_count, &run->asked_capacity, sizeof *run->asked) &&
           bly_grow(&run->values, run->output_count, &run->value_capacity, sizeof *run->values) &&
           bly_grow(&run->value_tensors, run->output_count, &run->value_tensor_capacity,
                    sizeof *run->value_tensors);
}

static int grow_inputs(belay_run_context *run) {
    return bly_grow(&run->inputs, run->input_count, &run->input_capacity, sizeof *run->inputs) &&
           bly_grow(&run->in, run->input_count, &run->in_capacity, sizeof *run->in);
}

static size_t find(const TF_Output *list, size_t count, TF_Output wanted) {
    size_t i = 0;
    while (i < count && !bly_same_output(list[i], wanted))
        i++;
    return i;
}

belay_code belay_run_context_fetch(belay_run_context *run, belay_output output, belay_error *err) {
    TF_Output wanted = {output.op, (int)output.index};
    int writes_step = 0;
    belay_code code = only_before(run, "fetch", err);
    if (code != BELAY_OK)
        return code;
    if (!output.op)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the output to fetch was never found");
    if ((code = check_output(run, output, err)) != BELAY_OK)
        return code;
    size_t at = find(run->outputs, run->output_count, wanted);
    if (at == run->output_count)
        code = bly_step_check_extra(run->step, run->hooked->graph, wanted, &writes_step, err);
    if (code != BELAY_OK)
        return code;
    if (!bly_grow(&run->sources, run->source_count, &run->source_capacity, sizeof *run->sources) ||
        (at == run->output_count && !grow_outputs(run)))
        return bly_fail_memory(err);
    if (at == run->output_count) {
        run->values[at] = NULL;
        run->outputs[run->output_count++] = wanted;
        run->writes_step |= writes_step;
    }
    run->sources[run->source_count++] = at;
    run->slot->value_count++;
    return BELAY_OK;
}

belay_code belay_run_context_feed(belay_run_context *run, belay_output output, belay_tensor *tensor,
                                  belay_error *err) {
    TF_Output wanted = {output.op, (int)output.index};
    char name[256];
    belay_code code = only_before(run, "feed", err);
    if (code != BELAY_OK)
        return code;
    if (!output.op || !tensor)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        tensor ? "the tensor to feed was never found" : "tensor is NULL");
    if ((code = check_output(run, output, err)) != BELAY_OK)
        return code;
    size_t at = find(run->inputs, run->input_count, wanted);
    int by_caller = at < run->step->request.feed_count;
    if (at < run->input_count && (!by_caller || bly_same_output(run->fed_twice, wanted))) {
        bly_graph_output_name(run->hooked->graph, wanted, name, sizeof name);
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "Same tensor is fed by two hooks. Conflict: %s", name);
    }
    if (by_caller) { /* refused when all hooks have been asked, as TensorFlow does (HK-RUN-19) */
        if (!run->fed_twice.oper)
            run->fed_twice = wanted;
        return BELAY_OK;
    }
    if (!grow_inputs(run))
        return bly_fail_memory(err);
    run->in[at] = tensor->tf;
    run->inputs[run->input_count++] = wanted;
    return BELAY_OK;
}

/* The step's options, to be merged into: a copy, since they are the step's for the next run too
 * (BUG-39). */
static belay_code need_options(belay_run_context *run, belay_error *err) {
    const TF_Buffer *base = run->step->packed[0];
    if (run->options)
        return BELAY_OK;
    BLY_LOCAL_ERROR(mine);
    run->options = base ? bly_run_options_read(base->data, base->length, &mine)
                        : bly_run_options_read(NULL, 0, &mine);
    if (!run->options)
        bly_error_copy(err, &mine);
    return mine.code;
}

belay_code belay_run_context_merge_options(belay_run_context *run, const belay_run_options *given,
                                           belay_error *err) {
    belay_run_options options;
    belay_code code = only_before(run, "set options", err);
    if (code == BELAY_OK)
        code = bly_options_read(&options, sizeof options, given, "belay_run_options", err);
    if (code != BELAY_OK)
        return code;
    if (options.run_options) {
        BLY_LOCAL_ERROR(mine);
        Bly__RunOptions *asked =
            bly_run_options_read(options.run_options, options.run_options_size, &mine);
        if (asked && need_options(run, &mine) == BELAY_OK)
            bly_run_options_merge(run->options, asked, &mine);
        bly_wire_free(asked);
        if (mine.code != BELAY_OK) {
            bly_error_copy(err, &mine);
            return mine.code;
        }
    }
    if (options.metadata)
        run->slot->metadata = options.metadata;
    run->wants_metadata |= options.metadata != NULL;
    return BELAY_OK;
}

const void *belay_run_context_run_options(const belay_run_context *run, size_t *out_size) {
    const TF_Buffer *sent = !run || run->before ? NULL : run->sent;
    if (out_size)
        *out_size = sent ? sent->length : 0;
    return sent ? sent->data : NULL;
}

const belay_tensor *belay_run_context_value(belay_run_context *run, size_t index) {
    if (!run || run->before || !run->slot || index >= run->slot->value_count)
        return NULL;
    size_t source = run->sources[run->slot->first_value + index];
    belay_tensor *tensor = &run->value_tensors[source];
    tensor->rt = run->hooked->rt;
    tensor->tf = run->values[source];
    return tensor->tf ? tensor : NULL;
}
