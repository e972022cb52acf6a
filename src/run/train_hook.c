#include "run/train_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "checkpoint/saver.h"

#include <math.h>
#include <string.h>

/* --- around steps ----------------------------------------------------------------------------- */

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    belay_training_run *run = self;
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < run->plan.tensors.count && code == BELAY_OK; i++)
        code = belay_graph_find_output(graph, run->plan.tensors.items[i], &run->outputs[i], err);
    return code;
}

/* A session is there, the first or one after a recovery. A restored checkpoint says where the input
 * was. */
static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    belay_training_run *run = self;
    const char *prefix = bly_saver_restored_prefix(run->saver);
    int64_t step = 0;
    (void)coordinator;
    belay_code code = belay_session_global_step(session, &step, err);
    if (code != BELAY_OK)
        return code;
    run->step = step;
    if (run->sessions++ == 0) {
        run->start_step = step;
        run->next_log_step = step + 1;
    } else {
        bly_ledger_begin(run->ledger, "recovery", step);
        bly_ledger_text(run->ledger, "from", prefix);
        bly_ledger_end(run->ledger);
    }
    if (!prefix)
        return BELAY_OK;
    if (run->sessions == 1) {
        run->resumed_from = step;
        bly_ledger_begin(run->ledger, "restore", step);
        bly_ledger_text(run->ledger, "from", prefix);
        bly_ledger_end(run->ledger);
    }
    return bly_train_set_position(run, belay_saver_restored_input_position(run->saver), step, 1,
                                  err);
}

static belay_code before_run(void *self, belay_run_context *context, belay_error *err) {
    belay_training_run *run = self;
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < run->plan.tensors.count && code == BELAY_OK; i++)
        code = belay_run_context_fetch(context, run->outputs[i], err);
    return code;
}

/* The line that TensorFlow's own training logs, and tools look for. */
static void log_loss(belay_training_run *run) {
    int64_t every = run->options.log_steps == 0 ? 100 : run->options.log_steps;
    int64_t now = bly_now_us();
    double loss = belay_training_run_loss(run);
    if (every < 0 || run->step < run->next_log_step || run->plan.loss == BLY_NAMES_NONE)
        return;
    if (run->logged_us)
        bly_info("loss = %.8g, step = %lld (%.3f sec)", loss, (long long)run->step,
                 (double)(now - run->logged_us) * 1e-6);
    else
        bly_info("loss = %.8g, step = %lld", loss, (long long)run->step);
    run->logged_us = now;
    run->next_log_step = run->step + every;
}

static belay_code after_run(void *self, belay_run_context *context, belay_error *err) {
    belay_training_run *run = self;
    (void)err;
    for (size_t i = 0; i < run->plan.tensors.count; i++) {
        const belay_tensor *value = belay_run_context_value(context, i);
        run->metrics[i] =
            value && belay_tensor_count(value) == 1 ? belay_tensor_number(value, 0) : (double)NAN;
    }
    run->step = belay_run_context_progress(context)->global_step;
    run->steps_done++;
    log_loss(run);
    return BELAY_OK;
}

belay_hook *bly_train_hook_new(belay_training_run *run, belay_error *err) {
    belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .after_create_session = after_create_session,
        .before_run = before_run,
        .after_run = after_run,
    };
    return belay_hook_new(&table, run, err);
}

/* --- around saves ----------------------------------------------------------------------------- */

static belay_code set_metrics(belay_training_run *run, belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; run->steps_done && i < run->plan.names.count && code == BELAY_OK; i++)
        if (!isnan(run->metrics[i]) || run->plan.loss == i)
            code =
                belay_saver_set_metric(run->saver, run->plan.names.items[i], run->metrics[i], err);
    return code;
}

static belay_code before_save(void *self, belay_session *session, int64_t step, belay_error *err) {
    belay_training_run *run = self;
    char position[BELAY_POSITION_SIZE];
    (void)session;
    /* Somebody wants to stop, and nothing was trained yet: then nothing is written. */
    if (atomic_load(&run->stop_requested) && run->steps_done == 0)
        return bly_fail(err, BELAY_STOPPED, "asked to stop before the first step");
    run->save_began_us = bly_now_us();
    run->step = step;
    belay_code code = bly_lock_check(run->lock, err);
    if (code == BELAY_OK)
        code = set_metrics(run, err);
    if (code != BELAY_OK || !run->feeds)
        return code;
    /* The batch of the step that is being saved was handed out already: this is the next one. */
    belay_batches_position(bly_feeds_batches(run->feeds), position, sizeof position);
    return belay_saver_set_input_position(run->saver, position, err);
}

static belay_code after_save(void *self, belay_session *session, int64_t step, uint32_t *stop,
                             belay_error *err) {
    belay_training_run *run = self;
    size_t count = belay_saver_last_checkpoint_count(run->saver);
    const char *prefix = count ? belay_saver_last_checkpoint(run->saver, count - 1) : NULL;
    (void)session;
    (void)stop;
    (void)err;
    bly_ledger_begin(run->ledger, "save", step);
    bly_ledger_text(run->ledger, "checkpoint", prefix);
    bly_ledger_number(run->ledger, "seconds", (double)(bly_now_us() - run->save_began_us) * 1e-6);
    bly_ledger_end(run->ledger);
    bly_free(run->last_checkpoint);
    run->last_checkpoint = prefix ? bly_strdup(prefix) : NULL;
    bly_train_tell(run, BELAY_RUN_EVENT_SAVED);
    return BELAY_OK;
}

const belay_checkpoint_listener_vtable bly_train_listener = {
    .struct_size = sizeof(belay_checkpoint_listener_vtable),
    .before_save = before_save,
    .after_save = after_save,
};
