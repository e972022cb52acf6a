/* A plain session's run that is resolved once (SE-45). */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "runtime/tensor.h"
#include "session/request.h"
#include "session/run_options.h"
#include "session/session.h"

struct belay_callable {
    belay_session *session;
    bly_request request;
    TF_Buffer *options;           /* NULL: none */
    belay_run_metadata *metadata; /* the caller's; NULL: none is collected */
    TF_Tensor **in;
    TF_Tensor **values;
};

static belay_code prepare(belay_callable *callable, const char *const *feeds,
                          const char *const *fetches, const char *const *targets,
                          const belay_run_options *given, belay_error *err) {
    belay_run_options options;
    bly_request *request = &callable->request;
    belay_code code = bly_options_read(&options, sizeof options, given, "belay_run_options", err);
    if (code == BELAY_OK)
        code = bly_request_make(request, callable->session->graph, feeds, fetches, targets, err);
    if (code != BELAY_OK)
        return code;
    callable->in = bly_calloc(request->feed_count, sizeof *callable->in);
    callable->values = bly_calloc(request->output_count, sizeof *callable->values);
    if (!callable->in || !callable->values)
        return bly_fail_memory(err);
    if (options.run_options)
        callable->options = callable->session->rt->NewBufferFromString(options.run_options,
                                                                       options.run_options_size);
    callable->metadata = options.metadata;
    return BELAY_OK;
}

belay_callable *belay_session_make_callable(belay_session *session, const char *const *feeds,
                                            const char *const *fetches, const char *const *targets,
                                            const belay_run_options *options, belay_error *err) {
    if (!session) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "session is NULL");
        return NULL;
    }
    belay_callable *callable = bly_calloc(1, sizeof *callable);
    if (!callable) {
        bly_fail_memory(err);
        return NULL;
    }
    callable->session = bly_session_ref(session);
    if (prepare(callable, feeds, fetches, targets, options, err) != BELAY_OK) {
        belay_callable_free(callable);
        return NULL;
    }
    return callable;
}

belay_code belay_callable_run(belay_callable *callable, belay_tensor *const *inputs,
                              belay_tensor **outputs, belay_error *err) {
    if (!callable)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "callable is NULL");
    bly_request *request = &callable->request;
    const bly_runtime *rt = callable->session->rt;
    belay_code code = bly_request_check_inputs(request, inputs, err);
    if (code != BELAY_OK)
        return code;
    TF_Buffer *metadata = callable->metadata ? rt->NewBuffer() : NULL;
    for (size_t i = 0; i < request->feed_count; i++)
        callable->in[i] = inputs[i]->tf;
    for (size_t i = 0; i < request->output_count; i++)
        callable->values[i] = NULL;
    if (request->output_count > 0 || request->target_count > 0) /* SE-20 */
        code = bly_session_run(callable->session, callable->options, request->inputs, callable->in,
                               request->feed_count, request->outputs, callable->values,
                               request->output_count, request->targets, request->target_count,
                               metadata, err);
    if (code == BELAY_OK && metadata)
        code = bly_run_metadata_fill(callable->metadata, metadata, err);
    if (code == BELAY_OK)
        code = bly_detach_values(request->graph, callable->values, request->output_count, err);
    if (code == BELAY_OK)
        code = bly_request_deliver(request, inputs, callable->values, outputs, err);
    for (size_t i = 0; i < request->output_count; i++)
        if (callable->values[i])
            rt->DeleteTensor(callable->values[i]);
    if (metadata)
        rt->DeleteBuffer(metadata);
    return code;
}

void belay_callable_free(belay_callable *callable) {
    if (!callable)
        return;
    if (callable->options)
        callable->session->rt->DeleteBuffer(callable->options);
    bly_request_clean_up(&callable->request);
    bly_free(callable->in);
    bly_free(callable->values);
    bly_session_unref(callable->session);
    bly_free(callable);
}
