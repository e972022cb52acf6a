/* TensorFlow's evaluate_once: ops that run until somebody asks to stop, on one checkpoint. */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"

#include <belay/hooks.h>
#include <belay/run.h>

#include <stddef.h>

_Static_assert(sizeof(belay_evaluate_once_options) ==
                   offsetof(belay_evaluate_once_options, hook_count) + sizeof(size_t),
               "no tail padding");

static void free_all(belay_tensor **tensors, size_t count) {
    for (size_t i = 0; tensors && i < count; i++)
        belay_tensor_free(tensors[i]);
    bly_free(tensors);
}

/* The hook frees what it feeds, and the caller keeps what he has: it gets copies. */
static belay_hook *make_final_hook(const belay_evaluate_once_options *o, belay_error *err) {
    belay_final_ops_options final = BELAY_FINAL_OPS_OPTIONS_INIT;
    size_t count = o->final_inputs ? bly_count_names(o->final_feeds) : 0;
    belay_tensor **inputs = bly_calloc(count + 1, sizeof *inputs);
    if (!inputs) {
        bly_fail_memory(err);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        const belay_tensor *input = o->final_inputs[i];
        inputs[i] = input ? belay_tensor_convert(input, belay_tensor_dtype(input), err) : NULL;
        if (input && !inputs[i]) {
            free_all(inputs, count);
            return NULL;
        }
    }
    final.final_ops = o->final_ops;
    final.feeds = o->final_feeds;
    final.inputs = o->final_inputs ? inputs : NULL;
    belay_hook *hook = belay_final_ops_hook_new(&final, err);
    bly_free(inputs);
    return hook;
}

static belay_monitored_session *open_session(belay_graph *graph,
                                             const belay_evaluate_once_options *o,
                                             belay_hook *const *hooks, belay_error *err) {
    belay_chief_session_creator_options chief = BELAY_CHIEF_SESSION_CREATOR_OPTIONS_INIT;
    belay_monitored_session_options options = BELAY_MONITORED_SESSION_OPTIONS_INIT;
    chief.scaffold = o->scaffold;
    chief.session = o->session;
    chief.checkpoint_filename_with_path = o->checkpoint_path;
    options.creator = belay_chief_session_creator_new(graph, &chief, err);
    if (!options.creator)
        return NULL;
    options.hooks = hooks;
    options.hook_count = o->hook_count + 1;
    belay_monitored_session *session = belay_monitored_session_open(graph, &options, err);
    belay_session_creator_free(options.creator);
    return session;
}

static belay_code run_until_stop(belay_monitored_session *session,
                                 const belay_evaluate_once_options *o, belay_error *err) {
    if (!session || !o->eval_ops)
        return belay_monitored_session_close(session, err);
    belay_step *step = belay_step_prepare(session, o->feeds, NULL, o->eval_ops, err);
    while (step && !belay_monitored_session_should_stop(session))
        if (belay_step_run(step, o->inputs, NULL, err) != BELAY_OK)
            break;
    return belay_monitored_session_close(session, err);
}

/* The hook's values go with it. */
static belay_code copy_values(const belay_hook *hook, size_t count, belay_tensor **out,
                              belay_error *err) {
    for (size_t i = 0; i < count; i++) {
        const belay_tensor *value = belay_final_ops_hook_value(hook, i);
        out[i] = belay_tensor_convert(value, belay_tensor_dtype(value), err);
        if (out[i])
            continue;
        while (i-- > 0) {
            belay_tensor_free(out[i]);
            out[i] = NULL;
        }
        return belay_error_code(err);
    }
    return BELAY_OK;
}

static belay_code evaluate(belay_graph *graph, const belay_evaluate_once_options *o,
                           belay_tensor **out, belay_error *err) {
    belay_code code = BELAY_OK;
    belay_hook **hooks = bly_calloc(o->hook_count + 1, sizeof *hooks);
    if (!hooks)
        return bly_fail_memory(err);
    for (size_t i = 0; i < o->hook_count; i++)
        hooks[i] = o->hooks ? o->hooks[i] : NULL;
    belay_hook *last = make_final_hook(o, err);
    hooks[o->hook_count] = last;
    if (!last)
        code = belay_error_code(err);
    if (code == BELAY_OK)
        code = run_until_stop(open_session(graph, o, hooks, err), o, err);
    if (code == BELAY_OK && out)
        code = copy_values(last, bly_count_names(o->final_ops), out, err);
    belay_hook_free(last);
    bly_free(hooks);
    return code;
}

belay_code belay_evaluate_once(belay_graph *graph, const belay_evaluate_once_options *given,
                               belay_tensor **out_final_values, belay_error *err) {
    belay_evaluate_once_options options;
    BLY_LOCAL_ERROR(mine);
    belay_code code =
        bly_options_read(&options, sizeof options, given, "belay_evaluate_once_options", &mine);
    for (size_t i = 0;
         code == BELAY_OK && out_final_values && i < bly_count_names(options.final_ops); i++)
        out_final_values[i] = NULL;
    if (!graph && belay_error_code(err) != BELAY_OK)
        return belay_error_code(err);
    if (code == BELAY_OK)
        code = evaluate(graph, &options, out_final_values, &mine);
    if (code != BELAY_OK)
        bly_error_copy(err, &mine);
    return code;
}
