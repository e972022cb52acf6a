/* Partial runs: one run whose feeds and fetches come in pieces (SE-36 to SE-43). */
#include "base/error.h"
#include "base/mem.h"
#include "runtime/tensor.h"
#include "session/request.h"
#include "session/session.h"

struct belay_partial_run {
    belay_session *session;
    const char *handle; /* TensorFlow's; NULL: nothing was declared */
};

static belay_code set_up(belay_partial_run *partial, const char *const *feeds,
                         const char *const *fetches, belay_error *err) {
    bly_request request;
    belay_session *session = partial->session;
    if (atomic_load(&session->closed))
        return bly_fail(err, BELAY_FAILED_PRECONDITION, "Attempted to use a closed Session.");
    belay_code code = bly_request_make(&request, session->graph, feeds, fetches, NULL, err);
    if (code != BELAY_OK)
        return code;
    code = bly_session_call(session,
                            &(bly_run_call){.kind = BLY_CALL_PARTIAL_SETUP,
                                            .inputs = request.inputs,
                                            .input_count = request.feed_count,
                                            .outputs = request.outputs,
                                            .output_count = request.output_count,
                                            .new_handle = &partial->handle},
                            err);
    bly_request_clean_up(&request);
    return code;
}

belay_partial_run *belay_session_partial_run_setup(belay_session *session, const char *const *feeds,
                                                   const char *const *fetches, belay_error *err) {
    if (!session) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "session is NULL");
        return NULL;
    }
    belay_partial_run *partial = bly_calloc(1, sizeof *partial);
    if (!partial) {
        bly_fail_memory(err);
        return NULL;
    }
    partial->session = bly_session_ref(session);
    if (set_up(partial, feeds, fetches, err) != BELAY_OK) {
        belay_partial_run_free(partial);
        return NULL;
    }
    return partial;
}

/* SE-38: an operation's name gets its own words; any other unknown name the usual ones. */
static belay_code refuse_operations(const belay_graph *graph, const char *const *fetches,
                                    belay_error *err) {
    for (size_t i = 0; fetches && fetches[i]; i++) {
        TF_Operation *op = graph->rt->GraphOperationByName(graph->tf, fetches[i]);
        if (op && graph->rt->OperationNumOutputs(op) == 0)
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "partial_run doesn't support target operations: %s", fetches[i]);
    }
    return BELAY_OK;
}

static belay_code go_on(belay_partial_run *partial, const bly_request *request,
                        belay_tensor *const *inputs, belay_tensor **outputs, belay_error *err) {
    const bly_runtime *rt = partial->session->rt;
    belay_code code = BELAY_OK;
    TF_Tensor **in = bly_calloc(request->feed_count, sizeof *in);
    TF_Tensor **values = bly_calloc(request->output_count, sizeof *values);
    if (!in || !values)
        code = bly_fail_memory(err);
    for (size_t i = 0; code == BELAY_OK && i < request->feed_count; i++)
        in[i] = inputs[i]->tf;
    if (code == BELAY_OK && (request->output_count > 0 || request->feed_count > 0)) /* SE-20 */
        code = bly_session_call(partial->session,
                                &(bly_run_call){.kind = BLY_CALL_PARTIAL_RUN,
                                                .inputs = request->inputs,
                                                .input_values = in,
                                                .input_count = request->feed_count,
                                                .outputs = request->outputs,
                                                .output_values = values,
                                                .output_count = request->output_count,
                                                .handle = partial->handle},
                                err);
    if (code == BELAY_OK)
        code = bly_detach_values(request->graph, values, request->output_count, err);
    if (code == BELAY_OK)
        code = bly_request_deliver(request, inputs, values, outputs, err);
    for (size_t i = 0; values && i < request->output_count; i++)
        if (values[i])
            rt->DeleteTensor(values[i]);
    bly_free(in);
    bly_free(values);
    return code;
}

belay_code belay_partial_run_run(belay_partial_run *partial, const char *const *feeds,
                                 belay_tensor *const *inputs, const char *const *fetches,
                                 belay_tensor **outputs, belay_error *err) {
    bly_request request;
    if (!partial)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "partial is NULL");
    if (atomic_load(&partial->session->closed))
        return bly_fail(err, BELAY_FAILED_PRECONDITION, "Attempted to use a closed Session.");
    belay_code code = refuse_operations(partial->session->graph, fetches, err);
    if (code == BELAY_OK)
        code = bly_request_make(&request, partial->session->graph, feeds, fetches, NULL, err);
    if (code != BELAY_OK)
        return code;
    code = bly_request_check_inputs(&request, inputs, err);
    if (code == BELAY_OK)
        code = go_on(partial, &request, inputs, outputs, err);
    bly_request_clean_up(&request);
    return code;
}

void belay_partial_run_free(belay_partial_run *partial) {
    if (!partial)
        return;
    if (partial->handle)
        partial->session->rt->DeletePRunHandle(partial->handle);
    bly_session_unref(partial->session);
    bly_free(partial);
}
