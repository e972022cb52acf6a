#include "session/hooked.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/fpu.h"
#include "session/run_options.h"
#include "wire/unpack.h"

#include <stdio.h>
#include <string.h>

static const belay_when never = {BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER, BELAY_NEVER};

/* RunOptions with inter_op_thread_pool = -1: the run happens in the calling thread. */
static TF_Buffer *make_in_caller_options(const bly_runtime *rt) {
    Bly__RunOptions options = BLY__RUN_OPTIONS__INIT;
    return bly_run_options_pack(rt, &options, 1);
}

belay_code bly_hooked_init(bly_hooked *hooked, belay_graph *graph, belay_hook *const *hooks,
                           size_t hook_count, belay_error *err) {
    *hooked = (bly_hooked){.rt = graph->rt, .graph = graph, .next = never};
    hooked->progress.global_step = -1;
    hooked->progress.rewound_from = -1;
    hooked->progress.rewound_to = -1;
    hooked->context.hooked = hooked;
    hooked->slots = bly_calloc(hook_count, sizeof *hooked->slots);
    hooked->status = graph->rt->NewStatus();
    hooked->in_caller_options = make_in_caller_options(graph->rt);
    if (!hooked->slots || !hooked->status || !hooked->in_caller_options)
        return bly_fail_memory(err);
    for (size_t i = 0; i < hook_count; i++) {
        if (!hooks || !hooks[i])
            return bly_fail(err, BELAY_INVALID_ARGUMENT, "hook number %zu is NULL", i);
        hooked->slots[hooked->slot_count++].hook = bly_hook_ref(hooks[i]);
    }
    return BELAY_OK;
}

void bly_hooked_clean_up(bly_hooked *hooked) {
    struct belay_run_context *run = &hooked->context;
    bly_hooked_detach(hooked);
    for (size_t i = 0; i < hooked->slot_count; i++)
        belay_hook_free(hooked->slots[i].hook);
    bly_free(hooked->slots);
    bly_free(run->sources);
    bly_free(run->outputs);
    bly_free(run->asked);
    bly_free(run->values);
    bly_free(run->value_tensors);
    bly_free(run->inputs);
    bly_free(run->in);
    bly_free(run->own_ops);
    if (hooked->status)
        hooked->rt->DeleteStatus(hooked->status);
    if (hooked->in_caller_options)
        hooked->rt->DeleteBuffer(hooked->in_caller_options);
    *hooked = (bly_hooked){0};
}

/* What messages call a hook. */
static void name_hook(const bly_hooked *hooked, const bly_hook_slot *slot, char *out, size_t room) {
    if (!slot)
        snprintf(out, room, "a hook");
    else if (slot->hook->table.name)
        snprintf(out, room, "%s", slot->hook->table.name);
    else
        snprintf(out, room, "hook number %zu", (size_t)(slot - hooked->slots));
}

/* What became of a hook's function, which returned `code` and had `mine` to fill: an error is
 * handed on. One that is filled and not returned is none. */
static belay_code hook_result(const bly_hooked *hooked, const bly_hook_slot *slot, belay_code code,
                              const char *where, belay_error *mine, belay_error *err) {
    char name[64];
    if (code == BELAY_OK)
        return BELAY_OK;
    name_hook(hooked, slot, name, sizeof name);
    bly_fail_callback(mine, code, "%s of %s", where, name);
    bly_error_copy(err, mine);
    return code;
}

belay_code bly_hooked_begin(bly_hooked *hooked, belay_error *err) {
    for (size_t i = 0; i < hooked->slot_count; i++) {
        belay_hook *hook = hooked->slots[i].hook;
        if (!hook->table.begin)
            continue;
        BLY_LOCAL_ERROR(mine); /* `err` may hold an earlier one */
        belay_code code = hook->table.begin(hook->self, hooked->graph, &mine);
        if (hook_result(hooked, &hooked->slots[i], code, "begin", &mine, err) != BELAY_OK)
            return code;
    }
    return BELAY_OK;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void ask_when(bly_hooked *hooked, bly_hook_slot *slot) {
    const belay_hook *hook = slot->hook;
    slot->when = never;
    if (hook->table.next_wanted) {
        hooked->in_callback = 1;
        hook->table.next_wanted(hook->self, &hooked->progress, &slot->when);
        hooked->in_callback = 0;
    } else if (hook->table.before_run || hook->table.after_run)
        slot->when.runs = 0; /* every run */
}

static void find_next(bly_hooked *hooked) {
    hooked->next = never;
    for (size_t i = 0; i < hooked->slot_count; i++) {
        const belay_when *when = &hooked->slots[i].when;
        hooked->next.runs = least(hooked->next.runs, when->runs);
        hooked->next.from_step = least(hooked->next.from_step, when->from_step);
        hooked->next.at_step = least(hooked->next.at_step, when->at_step);
        hooked->next.time_ms = least(hooked->next.time_ms, when->time_ms);
        hooked->next.at_time_ms = least(hooked->next.at_time_ms, when->at_time_ms);
    }
}

/* A hook that wants no run at all has nothing but the coordinator to say so (BUG-55). Queue runners
 * may stop that at the same time: theirs has an error. */
static void note_stop(bly_hooked *hooked, const bly_hook_slot *slot,
                      belay_coordinator *coordinator) {
    if (hooked->stopped_at_creation || !belay_coordinator_should_stop(coordinator))
        return;
    hooked->stopped_at_creation = 1;
    name_hook(hooked, slot, hooked->stopped_by, sizeof hooked->stopped_by);
}

/* after_create_session() of every hook. */
static belay_code call_created(bly_hooked *hooked, belay_coordinator *coordinator,
                               belay_error *err) {
    belay_code code = BELAY_OK;
    hooked->in_callback = 1;
    for (size_t i = 0; code == BELAY_OK && i < hooked->slot_count; i++) {
        belay_hook *hook = hooked->slots[i].hook;
        BLY_LOCAL_ERROR(mine);
        if (!hook->table.after_create_session)
            continue;
        code = hook->table.after_create_session(hook->self, hooked->session, coordinator, &mine);
        if (code == BELAY_OK)
            note_stop(hooked, &hooked->slots[i], coordinator);
        hook_result(hooked, &hooked->slots[i], code, "after_create_session", &mine, err);
    }
    hooked->in_callback = 0;
    return code;
}

belay_code bly_hooked_attach(bly_hooked *hooked, belay_session *session,
                             belay_coordinator *coordinator, belay_error *err) {
    belay_progress *progress = &hooked->progress;
    belay_code code = BELAY_OK;
    bly_hooked_detach(hooked);
    hooked->session = bly_session_ref(session);
    hooked->should_stop = 0;
    hooked->stopped_at_creation = 0;
    if (hooked->graph->global_step.read.oper)
        code = bly_session_step(session, &progress->global_step, &hooked->step_unset, err);
    if (progress->recoveries > 0)
        progress->rewound_to = progress->global_step;
    progress->now_ms = bly_now_ms();
    if (code == BELAY_OK)
        code = call_created(hooked, coordinator, err);
    if (code != BELAY_OK)
        return code;
    hooked->progress.now_ms = bly_now_ms();
    for (size_t i = 0; i < hooked->slot_count; i++)
        ask_when(hooked, &hooked->slots[i]);
    find_next(hooked);
    return BELAY_OK;
}

void bly_hooked_detach(bly_hooked *hooked) {
    bly_session_unref(hooked->session);
    hooked->session = NULL;
}

belay_code bly_hooked_end(bly_hooked *hooked, belay_error *err) {
    BLY_LOCAL_ERROR(first);
    for (size_t i = 0; i < hooked->slot_count; i++) {
        BLY_LOCAL_ERROR(mine);
        belay_hook *hook = hooked->slots[i].hook;
        if (!hook->table.end)
            continue;
        hooked->in_callback = 1;
        belay_code code = hook->table.end(hook->self, hooked->session, &mine);
        hooked->in_callback = 0;
        if (hook_result(hooked, &hooked->slots[i], code, "end", &mine, NULL) == BELAY_OK)
            continue;
        if (first.code != BELAY_OK)
            bly_error("%s", mine.message);
        bly_error_chain(&first, &mine);
    }
    if (first.code != BELAY_OK)
        bly_error_copy(err, &first);
    return first.code;
}

/* ---- one run ---- */

static int is_due_before(const belay_when *when, const belay_progress *now) {
    return now->runs >= when->runs ||
           (now->global_step >= when->from_step && when->from_step != BELAY_NEVER) ||
           now->now_ms >= when->time_ms;
}

static int is_due_after(const belay_when *when, const belay_progress *now) {
    return (now->global_step >= when->at_step && when->at_step != BELAY_NEVER) ||
           now->now_ms >= when->at_time_ms;
}

/* What a step fetches; the value after the run, which comes last, not where there is none yet. */
static size_t own_outputs(const bly_hooked *hooked, const belay_step *step) {
    return step->output_count - (step->step_after.oper && hooked->step_unset ? 1 : 0);
}

/* Starts the merged run with what the step itself asks for. */
static belay_code start_merge(bly_hooked *hooked, belay_error *err) {
    struct belay_run_context *run = &hooked->context;
    const belay_step *step = run->step;
    size_t output_count = own_outputs(hooked, step);
    run->writes_step = 0;
    run->fed_twice = (TF_Output){NULL, 0};
    run->source_count = 0;
    run->output_count = 0;
    run->input_count = 0;
    while (run->output_capacity < output_count || run->input_capacity < step->request.feed_count ||
           !run->outputs || !run->inputs) {
        size_t outputs = run->output_capacity, inputs = run->input_capacity;
        if (!bly_grow(&run->outputs, outputs, &run->output_capacity, sizeof *run->outputs) ||
            !bly_grow(&run->asked, outputs, &run->asked_capacity, sizeof *run->asked) ||
            !bly_grow(&run->values, outputs, &run->value_capacity, sizeof *run->values) ||
            !bly_grow(&run->value_tensors, outputs, &run->value_tensor_capacity,
                      sizeof *run->value_tensors) ||
            !bly_grow(&run->inputs, inputs, &run->input_capacity, sizeof *run->inputs) ||
            !bly_grow(&run->in, inputs, &run->in_capacity, sizeof *run->in))
            return bly_fail_memory(err);
    }
    for (size_t i = 0; i < output_count; i++)
        run->outputs[i] = step->outputs[i];
    for (size_t i = 0; i < step->request.feed_count; i++) {
        run->inputs[i] = step->request.inputs[i];
        run->in[i] = step->in[i];
    }
    run->output_count = output_count;
    run->input_count = step->request.feed_count;
    return BELAY_OK;
}

/* HK-RUN-19. */
static belay_code refuse_fed_twice(const struct belay_run_context *run, belay_error *err) {
    char name[256];
    bly_graph_output_name(run->hooked->graph, run->fed_twice, name, sizeof name);
    return bly_fail(err, BELAY_INVALID_ARGUMENT,
                    "Same tensor is fed by a SessionRunHook and user. Conflict: %s", name);
}

static belay_code call_before(bly_hooked *hooked, belay_error *err) {
    struct belay_run_context *run = &hooked->context;
    belay_code code = start_merge(hooked, err);
    hooked->progress.now_ms = bly_now_ms();
    run->before = 1;
    hooked->in_callback = 1;
    for (size_t i = 0; code == BELAY_OK && i < hooked->slot_count; i++) {
        bly_hook_slot *slot = &hooked->slots[i];
        if (!is_due_before(&slot->when, &hooked->progress))
            continue;
        slot->in_this_run = 1;
        slot->first_value = run->source_count;
        slot->value_count = 0;
        slot->metadata = NULL;
        run->slot = slot;
        BLY_LOCAL_ERROR(mine);
        if (slot->hook->table.before_run)
            code = slot->hook->table.before_run(slot->hook->self, run, &mine);
        hook_result(hooked, slot, code, "before_run", &mine, err);
    }
    hooked->in_callback = 0;
    run->before = 0;
    run->slot = NULL;
    return code == BELAY_OK && run->fed_twice.oper ? refuse_fed_twice(run, err) : code;
}

/* Number of the input that feeds `output`; input_count where none does. */
static size_t feed_of(const struct belay_run_context *run, TF_Output output) {
    size_t i = 0;
    while (i < run->input_count && !bly_same_output(run->inputs[i], output))
        i++;
    return i;
}

/* What the runtime is asked for: it would refuse a tensor that is fed and fetched (BUG-67). */
static size_t leave_out_fed(struct belay_run_context *run) {
    size_t asked = 0;
    for (size_t i = 0; i < run->output_count; i++)
        if (feed_of(run, run->outputs[i]) == run->input_count)
            run->asked[asked++] = run->outputs[i];
    return asked;
}

/* The first `asked` values are those of run->asked: moves each to its place, and puts in what was
 * fed (SE-21). */
static belay_code put_fed(struct belay_run_context *run, size_t asked, belay_error *err) {
    const bly_runtime *rt = run->hooked->rt;
    belay_code code = BELAY_OK;
    for (size_t i = run->output_count; i-- > asked;) {
        size_t feed = feed_of(run, run->outputs[i]);
        if (feed == run->input_count) {
            run->values[i] = run->values[--asked];
            run->values[asked] = NULL;
        } else if (!(run->values[i] = bly_tensor_copy(rt, run->in[feed]))) {
            code = bly_fail_memory(err);
        }
    }
    return code;
}

static belay_code call_after(bly_hooked *hooked, belay_error *err) {
    struct belay_run_context *run = &hooked->context;
    belay_code code = BELAY_OK;
    hooked->in_callback = 1;
    for (size_t i = 0; code == BELAY_OK && i < hooked->slot_count; i++) {
        bly_hook_slot *slot = &hooked->slots[i];
        if (!slot->in_this_run) {
            if (!is_due_after(&slot->when, &hooked->progress))
                continue;
            slot->in_this_run = 1;
            slot->value_count = 0;
        }
        run->slot = slot;
        BLY_LOCAL_ERROR(mine);
        if (slot->hook->table.after_run)
            code = slot->hook->table.after_run(slot->hook->self, run, &mine);
        hook_result(hooked, slot, code, "after_run", &mine, err);
    }
    hooked->in_callback = 0;
    run->slot = NULL;
    return code;
}

/* Those that took part say when they want to be called again; also after a failure, since they were
 * called. */
static void finish_hooks(bly_hooked *hooked) {
    for (size_t i = 0; i < hooked->slot_count; i++) {
        bly_hook_slot *slot = &hooked->slots[i];
        if (!slot->in_this_run)
            continue;
        slot->in_this_run = 0;
        ask_when(hooked, slot);
    }
    find_next(hooked);
}

static void delete_values(const bly_runtime *rt, TF_Tensor **values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (values[i])
            rt->DeleteTensor(values[i]);
        values[i] = NULL;
    }
}

/* Which RunOptions this run has, and whether it computes in the calling thread. The caller's own
 * win over the tuner's. */
static belay_code choose_options(bly_hooked *hooked, const belay_step *step, int *out_in_caller,
                                 belay_error *err) {
    struct belay_run_context *run = &hooked->context;
    int in_caller = step->tuner.in_caller;
    if (run->options) {
        in_caller = bly_run_options_in_caller(run->options, in_caller);
        run->merged = bly_run_options_pack(hooked->rt, run->options, in_caller);
        if (!run->merged)
            return bly_fail_memory(err);
        run->sent = run->merged;
    } else if (step->options) {
        run->sent = step->packed[in_caller];
        in_caller = bly_run_options_in_caller(step->options, in_caller);
    } else {
        run->sent = in_caller ? hooked->in_caller_options : NULL;
    }
    *out_in_caller = in_caller && hooked->session->target[0] == '\0';
    return BELAY_OK;
}

/* Hands the run's metadata to everybody who asked for it. */
static belay_code fill_metadata(bly_hooked *hooked, const belay_step *step, const TF_Buffer *told,
                                belay_error *err) {
    belay_code code = step->metadata ? bly_run_metadata_fill(step->metadata, told, err) : BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < hooked->slot_count; i++) {
        const bly_hook_slot *slot = &hooked->slots[i];
        if (slot->in_this_run && slot->metadata)
            code = bly_run_metadata_fill(slot->metadata, told, err);
    }
    return code;
}

/* Whether a run is for more than to see where training is. */
static int asks_something(const bly_hooked *hooked, const belay_step *step, size_t asked) {
    size_t reads_step = step->step_after.oper && !hooked->step_unset ? 1 : 0;
    return asked > reads_step || step->target_count > 0;
}

/* A run of nothing has no metadata, and not those of the run before. */
static belay_code forget_metadata(bly_hooked *hooked, const belay_step *step, belay_error *err) {
    if (!hooked->context.wants_metadata && !step->metadata)
        return BELAY_OK;
    TF_Buffer *none = hooked->rt->NewBuffer();
    belay_code code = fill_metadata(hooked, step, none, err);
    hooked->rt->DeleteBuffer(none);
    return code;
}

static belay_code run_here(bly_hooked *hooked, const bly_run_call *call, int in_caller,
                           belay_error *err) {
    const bly_runtime *rt = hooked->rt;
    bly_fpu_mode callers = in_caller ? bly_fpu_enter() : 0;
    rt->SessionRun(hooked->session->tf, call->run_options, call->inputs, call->input_values,
                   (int)call->input_count, call->outputs, call->output_values,
                   (int)call->output_count, call->targets, (int)call->target_count, call->metadata,
                   hooked->status);
    if (in_caller)
        bly_fpu_leave(callers);
    belay_code code = bly_runtime_code(rt, hooked->status);
    if (code != BELAY_OK) {
        bly_fail_tensorflow(err, code, rt->Message(hooked->status));
        rt->SetStatus(hooked->status, TF_OK, "");
    }
    return code;
}

/* Calls the runtime; the tuner watches. */
static belay_code call_runtime(bly_hooked *hooked, belay_step *step, int merged, belay_error *err) {
    struct belay_run_context *run = &hooked->context;
    const bly_runtime *rt = hooked->rt;
    size_t asked;
    int in_caller = 0, wants_metadata = run->wants_metadata || step->metadata;
    if (atomic_load_explicit(&hooked->session->closed, memory_order_relaxed))
        return bly_fail(err, BELAY_FAILED_PRECONDITION, "Attempted to use a closed Session.");
    asked = merged ? leave_out_fed(run) : own_outputs(hooked, step);
    belay_code code = choose_options(hooked, step, &in_caller, err);
    if (code == BELAY_OK && !asks_something(hooked, step, asked)) { /* SE-20 */
        code = forget_metadata(hooked, step, err);
        wants_metadata = 0;
        if (code == BELAY_OK && asked == 0)
            return merged ? put_fed(run, asked, err) : BELAY_OK;
    }
    if (code != BELAY_OK)
        return code;
    TF_Buffer *told = wants_metadata ? rt->NewBuffer() : NULL; /* BUG-43 */
    int64_t started = step->tuner.measuring ? bly_now_us() : 0;
    bly_run_call call = {.run_options = run->sent,
                         .inputs = merged ? run->inputs : step->request.inputs,
                         .input_values = merged ? run->in : step->in,
                         .input_count = merged ? run->input_count : step->request.feed_count,
                         .outputs = merged ? run->asked : step->outputs,
                         .output_values = merged ? run->values : step->values,
                         .output_count = asked,
                         .targets = step->targets,
                         .target_count = step->target_count,
                         .metadata = told};
    code = hooked->session->is_remote ? bly_remote_run(hooked->session, &call, err)
                                      : run_here(hooked, &call, in_caller, err);
    if (code == BELAY_OK && told)
        code = fill_metadata(hooked, step, told, err);
    else if (code == BELAY_OK && step->tuner.measuring && !run->options)
        bly_tuner_learn(&step->tuner, bly_now_us() - started);
    if (told)
        rt->DeleteBuffer(told);
    return code == BELAY_OK && merged ? put_fed(run, asked, err) : code;
}

/* After a run: where training is now. */
static belay_code update_progress(bly_hooked *hooked, const belay_step *step, TF_Tensor **values,
                                  int read_again, belay_error *err) {
    if (step->step_after.oper && !read_again && !hooked->step_unset) {
        hooked->progress.global_step =
            bly_tensor_integer(hooked->rt, values[step->output_count - 1]);
        return BELAY_OK;
    }
    if (!hooked->graph->global_step.read.oper)
        return BELAY_OK;
    return bly_session_step(hooked->session, &hooked->progress.global_step, &hooked->step_unset,
                            err);
}

static belay_code run_once(bly_hooked *hooked, belay_step *step, belay_tensor *const *inputs,
                           belay_tensor **outputs, int without_hooks, int *out_hooks,
                           belay_error *err) {
    struct belay_run_context *run = &hooked->context;
    int merged = 0;
    if (hooked->next.time_ms != BELAY_NEVER)
        hooked->progress.now_ms = bly_now_ms();
    if (!without_hooks && is_due_before(&hooked->next, &hooked->progress)) {
        *out_hooks = 1;
        belay_code code = call_before(hooked, err);
        if (code != BELAY_OK)
            return code;
        merged = run->output_count > own_outputs(hooked, step) ||
                 run->input_count > step->request.feed_count || run->source_count > 0;
    }
    TF_Tensor **values = merged ? run->values : step->values;
    size_t value_count = merged ? run->output_count : own_outputs(hooked, step);
    memset(values, 0, value_count * sizeof *values);
    belay_code code = call_runtime(hooked, step, merged, err);
    if (code == BELAY_OK)
        code = bly_detach_values(hooked->graph, values, value_count, err);
    if (code == BELAY_OK && !without_hooks)
        hooked->progress.runs++;
    if (code == BELAY_OK)
        code = update_progress(hooked, step, values, merged && run->writes_step, err);
    if (hooked->next.at_time_ms != BELAY_NEVER)
        hooked->progress.now_ms = bly_now_ms();
    if (code == BELAY_OK && !without_hooks &&
        (*out_hooks || is_due_after(&hooked->next, &hooked->progress))) {
        *out_hooks = 1;
        hooked->progress.now_ms = bly_now_ms();
        code = call_after(hooked, err);
    }
    if (code == BELAY_OK)
        code = bly_request_deliver(&step->request, inputs, values, outputs, err);
    delete_values(hooked->rt, values, value_count);
    return code;
}

/* What a run leaves behind for none of the next. */
static void forget_options(bly_hooked *hooked) {
    struct belay_run_context *run = &hooked->context;
    bly_wire_free(run->options);
    run->options = NULL;
    if (run->merged)
        hooked->rt->DeleteBuffer(run->merged);
    run->merged = NULL;
    run->sent = NULL;
    run->wants_metadata = 0;
}

belay_reaction bly_hooked_react(bly_hooked *hooked, const belay_error *error) {
    belay_reaction reaction = BELAY_REACTION_KEEP;
    hooked->in_callback = 1;
    for (size_t i = 0; reaction == BELAY_REACTION_KEEP && i < hooked->slot_count; i++) {
        bly_hook_slot *slot = &hooked->slots[i];
        if (!slot->hook->table.on_error)
            continue;
        reaction = slot->hook->table.on_error(slot->hook->self, error);
        if (reaction == BELAY_REACTION_STOP)
            name_hook(hooked, slot, hooked->stopped_by, sizeof hooked->stopped_by);
    }
    hooked->in_callback = 0;
    return reaction;
}

belay_code bly_hooked_run(bly_hooked *hooked, belay_step *step, belay_tensor *const *inputs,
                          belay_tensor **outputs, int without_hooks, belay_error *err) {
    struct belay_run_context *run = &hooked->context;
    int hooks_took_part = 0;
    if (hooked->should_stop && !without_hooks)
        return bly_fail(err, BELAY_FAILED_PRECONDITION,
                        "Run called even after should_stop requested.");
    belay_code code = bly_request_check_inputs(&step->request, inputs, err);
    if (code != BELAY_OK)
        return code;
    for (size_t i = 0; i < step->request.feed_count; i++)
        step->in[i] = inputs[i]->tf;
    run->step = step;
    run->stop_requested = 0;
    code = run_once(hooked, step, inputs, outputs, without_hooks, &hooks_took_part, err);
    if (hooks_took_part) {
        finish_hooks(hooked);
        forget_options(hooked);
    }
    if (run->stop_requested) { /* BUG-11, BUG-78: also where the run failed */
        hooked->should_stop = 1;
        name_hook(hooked, run->stopped_by, hooked->stopped_by, sizeof hooked->stopped_by);
    }
    return code;
}
