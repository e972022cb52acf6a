#include "session/session.h"

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "cluster/server.h"
#include "cluster/spec.h"
#include "runtime/tensor.h"

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(belay_session_options) ==
                   offsetof(belay_session_options, config_size) + sizeof(size_t),
               "no tail padding");
_Static_assert(sizeof(belay_run_options) == offsetof(belay_run_options, metadata) + sizeof(void *),
               "no tail padding");

/* How long closing a session waits for a remote master. */
#define CLOSE_SECS 5.0

/* ConfigProto.operation_timeout_in_ms, found without a schema of the whole message: field 11, a
 * varint. */
static int config_has_timeout(const unsigned char *data, size_t len) {
    for (size_t at = 0; at < len;) {
        uint64_t key = 0, value = 0;
        for (int shift = 0; at < len && shift < 64; shift += 7) {
            key |= (uint64_t)(data[at] & 0x7f) << shift;
            if (!(data[at++] & 0x80))
                break;
        }
        if ((key & 7) == 1 || (key & 7) == 5) {
            at += (key & 7) == 1 ? 8 : 4;
            continue;
        }
        for (int shift = 0; at < len && shift < 64; shift += 7) {
            value |= (uint64_t)(data[at] & 0x7f) << shift;
            if (!(data[at++] & 0x80))
                break;
        }
        if (key >> 3 == 11 && (key & 7) == 0)
            return (int64_t)value > 0;
        if ((key & 7) == 2) {
            if (value > len - at)
                return 0; /* TensorFlow will refuse it */
            at += value;
        }
    }
    return 0;
}

TF_SessionOptions *bly_session_options_make(const bly_runtime *rt,
                                            const belay_session_options *options,
                                            belay_error *err) {
    TF_SessionOptions *made = rt->NewSessionOptions();
    if (options->target)
        rt->SetTarget(made, options->target);
    if (options->config) {
        TF_Status *status = rt->NewStatus();
        rt->SetConfig(made, options->config, options->config_size, status);
        if (bly_runtime_finish(rt, status, err) != BELAY_OK) {
            bly_error_prefix(err, "config: ");
            rt->DeleteSessionOptions(made);
            return NULL;
        }
    }
    return made;
}

/* A server of this process waits for the other tasks of its cluster. */
static int waits_for_others(const char *target) {
    const belay_cluster_spec *cluster = bly_server_cluster(target);
    size_t tasks = 0;
    if (!cluster)
        return target[0] != '\0';
    for (size_t i = 0; i < cluster->count; i++)
        tasks += cluster->jobs[i].count;
    return tasks > 1;
}

belay_session *belay_session_open(belay_graph *graph, const belay_session_options *given,
                                  belay_error *err) {
    belay_session_options options;
    if (!graph) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "graph is NULL");
        return NULL;
    }
    if (bly_options_read(&options, sizeof options, given, "belay_session_options", err) != BELAY_OK)
        return NULL;
    const bly_runtime *rt = graph->rt;
    belay_session *session = bly_calloc(1, sizeof *session);
    char *target = bly_strdup(options.target ? options.target : "");
    TF_SessionOptions *tf_options = NULL;
    if (!session || !target) {
        bly_fail_memory(err);
        goto failed;
    }
    tf_options = bly_session_options_make(rt, &options, err);
    if (!tf_options)
        goto failed;
    TF_Status *status = rt->NewStatus();
    session->tf = rt->NewSession(graph->tf, tf_options, status);
    rt->DeleteSessionOptions(tf_options);
    if (bly_runtime_finish(rt, status, err) != BELAY_OK)
        goto failed;
    atomic_init(&session->references, 1);
    session->rt = rt;
    session->graph = bly_graph_ref(graph);
    session->target = target;
    session->is_remote = waits_for_others(target);
    bly_remote_runs_init(&session->runs);
    session->has_timeout =
        options.config && config_has_timeout(options.config, options.config_size);
    return session;
failed:
    bly_free(target);
    bly_free(session);
    return NULL;
}

belay_session *bly_session_ref(belay_session *session) {
    atomic_fetch_add(&session->references, 1);
    return session;
}

belay_graph *belay_session_graph(belay_session *session) {
    return session ? session->graph : NULL;
}

const char *belay_session_target(const belay_session *session) {
    return session ? session->target : "";
}

struct TF_Session *belay_session_raw(belay_session *session) {
    return session ? session->tf : NULL;
}

belay_code belay_session_close(belay_session *session, belay_error *err) {
    return session ? bly_session_close_within(session, CLOSE_SECS, err) : belay_error_code(err);
}

/* The last reference may be a helper thread's: TensorFlow's session must outlive every run in it.
 */
void bly_session_unref(belay_session *session) {
    if (!session || atomic_fetch_sub(&session->references, 1) != 1)
        return;
    bly_session_close_here(session, NULL);
    bly_remote_runs_clean_up(&session->runs, session->rt);
    TF_Status *status = session->rt->NewStatus();
    session->rt->DeleteSession(session->tf, status);
    session->rt->DeleteStatus(status);
    belay_graph_free(session->graph);
    bly_free(session->target);
    bly_free(session);
}

void belay_session_free(belay_session *session) {
    if (!session)
        return;
    /* SE-07: first, whoever else still holds it */
    BLY_LOCAL_ERROR(closing);
    if (bly_session_close_within(session, CLOSE_SECS, &closing) == BELAY_DEADLINE_EXCEEDED)
        bly_warn("closing the session: %s", closing.message);
    bly_session_unref(session);
}

belay_code bly_session_call(belay_session *session, const bly_run_call *call, belay_error *err) {
    if (atomic_load_explicit(&session->closed, memory_order_relaxed))
        return bly_fail(err, BELAY_FAILED_PRECONDITION, "Attempted to use a closed Session.");
    if (session->is_remote)
        return bly_remote_run(session, call, err);
    TF_Status *status = session->rt->NewStatus();
    bly_run_call_make(session->rt, session->tf, call, status);
    return bly_runtime_finish(session->rt, status, err);
}

belay_code bly_session_run(belay_session *session, const TF_Buffer *run_options,
                           const TF_Output *inputs, TF_Tensor *const *input_values,
                           size_t input_count, const TF_Output *outputs, TF_Tensor **output_values,
                           size_t output_count, const TF_Operation *const *targets,
                           size_t target_count, TF_Buffer *metadata, belay_error *err) {
    return bly_session_call(session,
                            &(bly_run_call){.run_options = run_options,
                                            .inputs = inputs,
                                            .input_values = input_values,
                                            .input_count = input_count,
                                            .outputs = outputs,
                                            .output_values = output_values,
                                            .output_count = output_count,
                                            .targets = targets,
                                            .target_count = target_count,
                                            .metadata = metadata},
                            err);
}

belay_code bly_session_run_op(belay_session *session, const TF_Operation *op, belay_error *err) {
    if (!op)
        return BELAY_OK;
    return bly_session_run(session, NULL, NULL, NULL, 0, NULL, NULL, 0, &op, 1, NULL, err);
}

belay_code bly_session_run_helpers_op(belay_session *session, const TF_Operation *op,
                                      belay_error *err) {
    return bly_session_call(
        session, &(bly_run_call){.targets = &op, .target_count = 1, .is_helpers = 1}, err);
}

belay_code bly_session_fetch(belay_session *session, TF_Output output, TF_Tensor **out,
                             belay_error *err) {
    *out = NULL;
    return bly_session_run(session, NULL, NULL, NULL, 0, &output, out, 1, NULL, 0, NULL, err);
}

TF_Tensor *bly_string_tensor(const bly_runtime *rt, const char *text) {
    TF_Tensor *tensor = rt->AllocateTensor(TF_STRING, NULL, 0, sizeof(TF_TString));
    if (!tensor)
        return NULL;
    TF_TString *string = rt->TensorData(tensor);
    rt->StringInit(string);
    rt->StringCopy(string, text, strlen(text));
    return tensor;
}

belay_code belay_session_global_step(belay_session *session, int64_t *out_step, belay_error *err) {
    TF_Tensor *value = NULL;
    int64_t ignored;
    out_step = out_step ? out_step : &ignored;
    *out_step = -1;
    if (!session)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "session is NULL");
    const bly_global_step *step = &session->graph->global_step;
    if (!step->read.oper && belay_graph_global_step_name(session->graph) == NULL)
        return bly_fail(err, BELAY_FAILED_PRECONDITION, "%s has no global step",
                        session->graph->path);
    belay_code code = bly_session_fetch(session, step->read, &value, err);
    if (code != BELAY_OK)
        return code;
    *out_step = (int64_t)bly_tensor_integer(session->rt, value);
    session->rt->DeleteTensor(value);
    return BELAY_OK;
}

belay_code bly_session_step(belay_session *session, int64_t *out_step, int *out_unset,
                            belay_error *err) {
    const bly_global_step *step = &session->graph->global_step;
    TF_Tensor *value = NULL;
    BLY_LOCAL_ERROR(mine);
    belay_code code = belay_session_global_step(session, out_step, &mine);
    *out_unset = code == BELAY_FAILED_PRECONDITION && step->initial.oper;
    if (*out_unset && bly_session_fetch(session, step->initial, &value, NULL) == BELAY_OK) {
        *out_step = (int64_t)bly_tensor_integer(session->rt, value);
        session->rt->DeleteTensor(value);
        return BELAY_OK;
    }
    if (code != BELAY_OK)
        bly_error_copy(err, &mine);
    return code;
}

belay_code belay_session_step_or_initial(belay_session *session, int64_t *out_step,
                                         belay_error *err) {
    int unset;
    int64_t ignored;
    out_step = out_step ? out_step : &ignored;
    return session ? bly_session_step(session, out_step, &unset, err)
                   : belay_session_global_step(session, out_step, err);
}

static int is_empty(const belay_graph *graph) {
    size_t at = 0;
    return graph->rt->GraphNextOperation(graph->tf, &at) == NULL;
}

belay_code belay_session_run(belay_session *session, const char *const *feeds,
                             belay_tensor *const *inputs, const char *const *fetches,
                             belay_tensor **outputs, const char *const *targets,
                             const belay_run_options *options, belay_error *err) {
    if (!session)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "session is NULL");
    if (atomic_load(&session->closed))
        return bly_fail(err, BELAY_FAILED_PRECONDITION, "Attempted to use a closed Session.");
    if (is_empty(session->graph))
        return bly_fail(err, BELAY_FAILED_PRECONDITION,
                        "The Session graph is empty. Add operations to the graph before calling "
                        "run().");
    BLY_LOCAL_ERROR(mine);
    belay_callable *callable =
        belay_session_make_callable(session, feeds, fetches, targets, options, &mine);
    if (callable)
        belay_callable_run(callable, inputs, outputs, &mine);
    belay_callable_free(callable);
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}
