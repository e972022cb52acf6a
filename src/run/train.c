#define _POSIX_C_SOURCE 200809L
#include "run/train_impl.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include "checkpoint/state.h"
#include "run/fresh.h"
#include "run/sweep.h"
#include "session/monitored_session.h"

#include <belay/belay.h>

#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

_Static_assert(sizeof(belay_training_run_options) ==
                   offsetof(belay_training_run_options, reserved) + sizeof(uint32_t),
               "no tail padding");
_Static_assert(sizeof(belay_run_progress) ==
                   offsetof(belay_run_progress, elapsed_secs) + sizeof(double),
               "no tail padding");

#define DEFAULT_BATCH     32
#define DEFAULT_KEEP_LAST 5
/* An interval that never comes: saves at the start and at the end remain. */
#define NEVER_STEPS (INT64_C(1) << 60)

/* --- opening ---------------------------------------------------------------------------------- */

static belay_code keep_text(belay_training_run *run, const char **text, belay_error *err) {
    if (!*text)
        return BELAY_OK;
    belay_code code = bly_names_add(&run->kept, *text, err);
    if (code == BELAY_OK)
        *text = run->kept.items[run->kept.count - 1];
    return code;
}

/* Strings that are needed after opening; the rest of the options is used up by then. */
static belay_code keep_options(belay_training_run *run, belay_error *err) {
    belay_training_run_options *o = &run->options;
    const char **texts[] = {&o->graph, &o->dir, &o->best_metric, &o->master};
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && code == BELAY_OK; i++)
        code = keep_text(run, texts[i], err);
    return code;
}

static belay_code check_options(const belay_training_run_options *o, belay_error *err) {
    const char *wrong = NULL;
    if (!o->graph || !*o->graph)
        wrong = "no graph was named";
    else if (!o->dir || !*o->dir)
        wrong = "no folder was named";
    else if (o->steps < 0 || o->epochs < 0 || o->batch < 0)
        wrong = "steps, epochs and batch cannot be negative";
    else if (o->steps && o->epochs)
        wrong = "steps and epochs cannot both be given";
    else if (bly_count_names(o->feeds) != bly_count_names(o->feed_files))
        wrong = "each feed needs a file";
    else if (o->epochs && !bly_count_names(o->feeds))
        wrong = "epochs counts fed arrays, and there are none";
    else if (bly_count_names(o->feeds) && !o->steps && !o->epochs)
        wrong = "with feeds, steps or epochs must be given";
    else if (o->save_secs > 0 && o->save_steps > 0)
        wrong = "save_secs and save_steps cannot both be given";
    else if (o->keep_best < 0 || (o->keep_best > 0 && !o->best_metric))
        wrong = "keep_best needs best_metric";
    else if (o->reserved)
        wrong = "reserved must be 0";
    return wrong ? bly_fail(err, BELAY_INVALID_ARGUMENT, "%s", wrong) : BELAY_OK;
}

static belay_code make_plan(belay_training_run *run, belay_error *err) {
    const belay_training_run_options *o = &run->options;
    bly_plan_request request = {
        .signature = o->signature,
        .default_signature = "train",
        .train_op = o->train_op,
        .loss = o->loss,
        .fetches = o->fetches,
        .feeds = o->feeds,
        .trains = 1,
        .summaries = o->summary_steps >= 0,
    };
    belay_code code = bly_plan_make(run->graph, &request, &run->plan, err);
    for (size_t i = 0; i < run->plan.feed_names.count && code == BELAY_OK; i++)
        code = bly_names_add(&run->feed_tensors, run->plan.feeds[i].tensor, err);
    if (code != BELAY_OK)
        return code;
    run->outputs = bly_calloc(run->plan.tensors.count, sizeof *run->outputs);
    run->metrics = bly_calloc(run->plan.names.count, sizeof *run->metrics);
    if (!run->outputs || !run->metrics)
        return bly_fail_memory(err);
    for (size_t i = 0; i < run->plan.names.count; i++)
        run->metrics[i] = (double)NAN;
    return BELAY_OK;
}

static belay_code check_best_metric(const belay_training_run *run, belay_error *err) {
    const char *name = run->options.best_metric;
    if (!run->options.keep_best || bly_names_find(&run->plan.names, name) != BLY_NAMES_NONE)
        return BELAY_OK;
    return bly_fail(err, BELAY_NOT_FOUND,
                    "'%s' is not fetched, so checkpoints cannot be kept by it; fetch it with "
                    "--fetch %s",
                    name, name);
}

static belay_code open_feeds(belay_training_run *run, belay_error *err) {
    const belay_training_run_options *o = &run->options;
    bly_feeds_options options = {o->batch, DEFAULT_BATCH, o->epochs, o->seed,
                                 !(o->flags & BELAY_RUN_NO_SHUFFLE)};
    if (!run->plan.feed_names.count)
        return BELAY_OK;
    run->feeds = bly_feeds_open(&run->plan, o->feed_files, &options, err);
    if (!run->feeds)
        return belay_error_code(err);
    belay_batches *batches = bly_feeds_batches(run->feeds);
    belay_batches_position(batches, run->first_position, sizeof run->first_position);
    if (bly_feeds_left_out(run->feeds))
        bly_warn("the graph takes batches of exactly %" PRId64 " rows: the last %" PRId64
                 " of %" PRId64 " rows are left out of each epoch",
                 belay_batches_size(batches), bly_feeds_left_out(run->feeds),
                 belay_batches_rows(batches));
    return BELAY_OK;
}

/* A graph that does not count its steps gets a global step that counts runs. */
static belay_code need_global_step(belay_training_run *run, belay_error *err) {
    if (belay_graph_global_step_name(run->graph))
        return BELAY_OK;
    return belay_graph_create_global_step(run->graph, bly_names_list(&run->plan.after), err);
}

static belay_code make_scaffold(belay_training_run *run, belay_error *err) {
    const belay_training_run_options *o = &run->options;
    belay_saver_options saver = BELAY_SAVER_OPTIONS_INIT;
    belay_scaffold_options scaffold = BELAY_SCAFFOLD_OPTIONS_INIT;
    saver.max_to_keep = o->keep_last;
    /* A SavedModel's SaverDef says nothing of training: its max_to_keep is what nobody chose. */
    if (!o->keep_last && belay_graph_is_saved_model(run->graph))
        saver.max_to_keep = DEFAULT_KEEP_LAST;
    saver.keep_checkpoint_every_n_hours = o->keep_every_hours;
    saver.best_metric = o->keep_best ? o->best_metric : NULL;
    saver.keep_best = o->keep_best;
    saver.best_is_max = o->best_is_max;
    run->saver = belay_saver_new(run->graph, &saver, err);
    if (!run->saver)
        return belay_error_code(err);
    scaffold.saver = run->saver;
    run->scaffold = belay_scaffold_new(run->graph, &scaffold, err);
    return run->scaffold ? BELAY_OK : belay_error_code(err);
}

static belay_code open_all(belay_training_run *run, belay_error *err) {
    belay_code code = check_options(&run->options, err);
    if (code != BELAY_OK)
        return code;
    run->graph = bly_run_load(run->options.graph, err);
    code = run->graph ? make_plan(run, err) : belay_error_code(err);
    if (code == BELAY_OK)
        code = check_best_metric(run, err);
    if (code == BELAY_OK)
        code = open_feeds(run, err);
    if (code == BELAY_OK)
        code = need_global_step(run, err);
    if (code == BELAY_OK)
        code = make_scaffold(run, err);
    if (code == BELAY_OK)
        code = keep_options(run, err);
    if (code == BELAY_OK)
        code = bly_target_open(&run->target, run->graph, run->options.master,
                               run->options.session_config_file, err);
    return code;
}

belay_training_run *belay_training_run_open(const belay_training_run_options *given,
                                            belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    belay_training_run *run = bly_calloc(1, sizeof *run);
    if (!run) {
        bly_fail_memory(err);
        return NULL;
    }
    atomic_init(&run->stop_requested, 0);
    atomic_init(&run->askers, 0);
    atomic_init(&run->asked, NULL);
    run->start_step = run->step = run->resumed_from = -1;
    run->plan = (bly_plan)BLY_PLAN_INIT;
    belay_code code = bly_options_read(&run->options, sizeof run->options, given,
                                       "belay_training_run_options", &mine);
    if (code == BELAY_OK)
        code = open_all(run, &mine);
    if (code == BELAY_OK)
        return run;
    bly_error_copy(err, &mine);
    belay_training_run_close(run);
    return NULL;
}

void belay_training_run_close(belay_training_run *run) {
    if (!run)
        return;
    belay_scaffold_free(run->scaffold);
    belay_saver_free(run->saver);
    bly_feeds_close(run->feeds);
    bly_plan_free(&run->plan);
    belay_graph_free(run->graph);
    bly_ledger_close(run->ledger);
    bly_lock_release(run->lock);
    bly_names_free(&run->feed_tensors);
    bly_names_free(&run->kept);
    bly_target_close(&run->target);
    bly_free(run->last_checkpoint);
    bly_free(run->ending_text);
    bly_free(run->outputs);
    bly_free(run->metrics);
    bly_free(run);
}

/* --- the folder ------------------------------------------------------------------------------- */

static void write_start(belay_training_run *run) {
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    bly_ledger_begin(run->ledger, "start", -1);
    bly_ledger_text(run->ledger, "graph", run->options.graph);
    bly_ledger_text(run->ledger, "host", host);
    bly_ledger_integer(run->ledger, "pid", (int64_t)getpid());
    bly_ledger_text(run->ledger, "belay", BELAY_VERSION);
    bly_ledger_text(run->ledger, "tensorflow", belay_runtime_version());
    bly_ledger_integer(run->ledger, "seed", run->options.seed);
    bly_ledger_end(run->ledger);
}

static belay_code move_aside(belay_training_run *run, belay_error *err) {
    char *to = NULL;
    belay_code code = bly_fresh_start(run->options.dir, &to, err);
    if (code == BELAY_OK && to) {
        bly_warn("starting anew: what was in %s is now in %s", run->options.dir, to);
        bly_ledger_begin(run->ledger, "fresh", -1);
        bly_ledger_text(run->ledger, "moved_to", to);
        bly_ledger_end(run->ledger);
    }
    bly_free(to);
    return code;
}

static belay_code take_folder(belay_training_run *run, belay_error *err) {
    belay_code code = bly_make_directories(run->options.dir, err);
    if (code != BELAY_OK)
        return code;
    run->lock = bly_lock_take(run->options.dir, err);
    if (!run->lock)
        return belay_error_code(err);
    bly_sweep(run->options.dir);
    run->ledger = bly_ledger_open(run->options.dir, err);
    if (!run->ledger)
        return belay_error_code(err);
    write_start(run);
    return run->options.flags & BELAY_RUN_FRESH ? move_aside(run, err) : BELAY_OK;
}

/* --- the session ------------------------------------------------------------------------------ */

static void fill_frequencies(const belay_training_run_options *o, belay_training_options *t) {
    t->save_checkpoint_steps = o->save_steps > 0 ? o->save_steps : 0;
    t->save_checkpoint_secs = o->save_secs > 0 ? o->save_secs : 0;
    /* Off means that no save comes in between; what was trained is saved at the end all the same.
     */
    if (o->save_steps <= 0 && o->save_secs <= 0 && (o->save_steps < 0 || o->save_secs < 0))
        t->save_checkpoint_steps = NEVER_STEPS;
    t->save_summaries_steps = o->summary_steps;
    t->log_step_count_steps = o->log_steps;
    t->stop_grace_period_secs = o->grace_secs;
    t->recovery_budget_secs = o->recovery_secs;
}

static belay_hook *make_nan_hook(const belay_training_run *run, belay_error *err) {
    belay_nan_tensor_options nan = BELAY_NAN_TENSOR_OPTIONS_INIT;
    nan.loss_tensor = run->plan.tensors.items[run->plan.loss];
    return belay_nan_tensor_hook_new(&nan, err);
}

/* Before the session is freed. Whoever asks does so in a few instructions, or in a signal handler
 * above us. */
static void unpublish(belay_training_run *run) {
    atomic_store(&run->asked, NULL);
    while (atomic_load(&run->askers))
        sched_yield();
}

/* From when the session is made, and before it is open: it may have to wait for its master. */
static void publish(void *self, belay_monitored_session *session) {
    belay_training_run *run = self;
    if (!session) {
        unpublish(run);
        return;
    }
    atomic_store(&run->asked, session);
    if (atomic_load(&run->stop_requested))
        belay_monitored_session_request_stop(session);
}

/* The run's own hooks go first: an error of theirs, NaN above all, then comes before the save of
 * that step. */
static belay_monitored_session *open_session(belay_training_run *run, belay_error *err) {
    const belay_training_run_options *o = &run->options;
    belay_training_options t = BELAY_TRAINING_OPTIONS_INIT;
    belay_checkpoint_listener listener = {&bly_train_listener, run};
    bly_session_witness witness = {publish, run};
    belay_hook *hooks[2] = {bly_train_hook_new(run, err), NULL};
    belay_monitored_session *session = NULL;
    t.session = &run->target.options;
    t.checkpoint_dir = o->dir;
    t.scaffold = run->scaffold;
    t.threads = o->threads;
    t.prepare_flags = o->flags & BELAY_RUN_REQUIRE_RESUME ? BELAY_PREPARE_REQUIRE_CHECKPOINT : 0;
    t.meta_graph_once = !(o->flags & BELAY_RUN_SAVE_GRAPH);
    t.listeners = &listener;
    t.listener_count = 1;
    t.chief_only_hooks = hooks;
    t.chief_only_hook_count = 1;
    fill_frequencies(o, &t);
    if (hooks[0] && run->plan.loss != BLY_NAMES_NONE) {
        hooks[1] = make_nan_hook(run, err);
        t.chief_only_hook_count = 2;
    }
    if (hooks[0] && (hooks[1] || t.chief_only_hook_count == 1))
        session = bly_training_session_open(run->graph, &t, &witness, err);
    belay_hook_free(hooks[0]);
    belay_hook_free(hooks[1]);
    return session;
}

/* --- stopping --------------------------------------------------------------------------------- */

void belay_training_run_request_stop(belay_training_run *run) {
    if (!run)
        return;
    atomic_store(&run->stop_requested, 1);
    atomic_fetch_add(&run->askers, 1);
    belay_monitored_session *session = atomic_load(&run->asked);
    if (session)
        belay_monitored_session_request_stop(session);
    atomic_fetch_sub(&run->askers, 1);
}

/* --- watching --------------------------------------------------------------------------------- */

void bly_train_tell(belay_training_run *run, belay_run_event event) {
    const belay_training_run_options *o = &run->options;
    belay_run_progress now = {.struct_size = sizeof now};
    if (!o->watch)
        return;
    int64_t now_us = bly_now_us();
    if (event == BELAY_RUN_EVENT_STEP) {
        bly_rate_update(&run->rate, run->step, now_us);
        run->first_step_us = run->first_step_us ? run->first_step_us : now_us;
    }
    now.step = run->step;
    now.last_step = o->steps ? o->steps : -1;
    now.epoch = run->feeds ? belay_batches_epoch(bly_feeds_batches(run->feeds)) : -1;
    now.epochs = o->epochs ? o->epochs : -1;
    now.steps_per_second = run->rate.per_second;
    now.loss = belay_training_run_loss(run);
    now.elapsed_secs = run->first_step_us ? (double)(now_us - run->first_step_us) * 1e-6 : 0;
    o->watch(o->watch_self, run, event, &now);
}

/* --- training --------------------------------------------------------------------------------- */

static void end_with(belay_training_run *run, belay_run_ending ending, const char *text) {
    run->ending = ending;
    bly_free(run->ending_text);
    run->ending_text = bly_strdup(text);
}

/* 1 where no further step is wanted. */
static int is_over(belay_training_run *run, belay_monitored_session *session) {
    char text[64];
    if (run->options.steps && run->step >= run->options.steps) {
        snprintf(text, sizeof text, "reached step %" PRId64, run->options.steps);
        end_with(run, BELAY_RUN_REACHED_STEP, text);
    } else if (atomic_load(&run->stop_requested)) {
        end_with(run, BELAY_RUN_STOPPED, "asked to stop");
    } else if (belay_monitored_session_should_stop(session)) {
        end_with(run, BELAY_RUN_HOOK_STOPPED, "a hook asked to stop");
    } else {
        return 0;
    }
    return 1;
}

static void end_of_input(belay_training_run *run, belay_error *err) {
    belay_error_clear(err);
    end_with(run, BELAY_RUN_INPUT_ENDED, "the graph's input ended");
}

static void end_of_epochs(belay_training_run *run, belay_error *err) {
    char text[64];
    belay_error_clear(err);
    snprintf(text, sizeof text, "%" PRId64 " epoch%s over", run->options.epochs,
             run->options.epochs == 1 ? " is" : "s are");
    end_with(run, BELAY_RUN_REACHED_EPOCH, text);
}

/* One step; 1 where it was the last. */
static int run_step(belay_training_run *run, belay_step *step, belay_error *err) {
    belay_tensor *const *inputs = NULL;
    if (run->feeds) {
        belay_code code = bly_feeds_next(run->feeds, &inputs, NULL, err);
        if (code == BELAY_OUT_OF_RANGE)
            end_of_epochs(run, err);
        if (code != BELAY_OK)
            return 1;
    }
    belay_code code = belay_step_run(step, inputs, NULL, err);
    if (code == BELAY_OUT_OF_RANGE)
        end_of_input(run, err);
    if (code != BELAY_OK)
        return 1;
    bly_train_tell(run, BELAY_RUN_EVENT_STEP);
    return 0;
}

static belay_code train(belay_training_run *run, belay_monitored_session *session,
                        belay_error *err) {
    belay_step *step = belay_step_prepare(session, bly_names_list(&run->feed_tensors), NULL,
                                          bly_names_list(&run->plan.targets), err);
    while (step && !is_over(run, session) && !run_step(run, step, err))
        ;
    unpublish(run);
    /* Hooks see the end in there; the last checkpoint is one of their doings. */
    return belay_monitored_session_close(session, err);
}

/* A session that was not opened because somebody wanted to stop is no failure. */
static int was_stopped(belay_training_run *run, const belay_error *err) {
    return atomic_load(&run->stop_requested) &&
           (err->code == BELAY_STOPPED || err->code == BELAY_CANCELLED ||
            belay_error_is_recoverable(err));
}

/* A stop came while the first checkpoint was being written, and no step was finished: then none is
 * left behind, and the next start is a new one. */
static void remove_untrained(belay_training_run *run) {
    BLY_LOCAL_ERROR(mine);
    bly_buf state = BLY_BUF_INIT;
    bly_buf_printf(&state, "%s/%s", run->options.dir, BLY_STATE_FILE);
    if (!state.failed && unlink(state.data) == 0)
        for (size_t i = belay_saver_last_checkpoint_count(run->saver); i-- > 0;)
            if (bly_checkpoint_remove(belay_saver_last_checkpoint(run->saver, i), &mine) !=
                BELAY_OK)
                bly_warn("%s", mine.message);
    bly_buf_free(&state);
}

static belay_code run_session(belay_training_run *run, belay_error *err) {
    belay_code code = take_folder(run, err);
    if (code != BELAY_OK)
        return code;
    belay_monitored_session *session = open_session(run, err);
    if (!session) {
        if (!was_stopped(run, err))
            return belay_error_code(err);
        belay_error_clear(err);
        end_with(run, BELAY_RUN_STOPPED, "asked to stop");
        return BELAY_OK;
    }
    bly_train_tell(run, BELAY_RUN_EVENT_STARTED);
    code = train(run, session, err);
    if (code == BELAY_OK && run->ending == BELAY_RUN_STOPPED && run->steps_done == 0 &&
        run->resumed_from < 0)
        remove_untrained(run);
    return code;
}

/* Then the same command would have nothing left to do; who evaluates it need not wait for more. */
static int is_at_its_end(const belay_training_run *run) {
    return run->ending == BELAY_RUN_REACHED_STEP || run->ending == BELAY_RUN_REACHED_EPOCH ||
           run->ending == BELAY_RUN_INPUT_ENDED || run->ending == BELAY_RUN_HOOK_STOPPED;
}

static void write_stop(belay_training_run *run, const belay_error *err) {
    if (!run->ledger)
        return;
    bly_ledger_begin(run->ledger, "stop", run->step);
    bly_ledger_text(run->ledger, "reason", belay_training_run_ending_text(run));
    if (err->code != BELAY_OK)
        bly_ledger_text(run->ledger, "code", belay_code_name(err->code));
    bly_ledger_truth(run->ledger, "over", is_at_its_end(run));
    bly_ledger_integer(run->ledger, "steps_done", run->steps_done);
    bly_ledger_end(run->ledger);
}

static belay_code run_all(belay_training_run *run, belay_error *err) {
    int nothing_to_do;
    if (atomic_load(&run->stop_requested)) {
        end_with(run, BELAY_RUN_STOPPED, "asked to stop");
        return BELAY_OK;
    }
    belay_code code = bly_train_look(run, &nothing_to_do, err);
    if (code != BELAY_OK)
        return code;
    if (nothing_to_do) {
        end_with(run, BELAY_RUN_NOTHING_TO_DO, "nothing to do, it was there before");
        return BELAY_OK;
    }
    return run_session(run, err);
}

belay_code belay_training_run_run(belay_training_run *run, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    if (!run)
        return belay_error_code(err) ? belay_error_code(err)
                                     : bly_fail(err, BELAY_INVALID_ARGUMENT, "run is NULL");
    if (run->was_run++)
        return bly_fail(err, BELAY_FAILED_PRECONDITION, "this run was run before");
    belay_code code = run_all(run, &mine);
    if (code != BELAY_OK) {
        end_with(run, BELAY_RUN_FAILED, mine.message);
        bly_error_copy(err, &mine);
    }
    write_stop(run, &mine);
    bly_ledger_close(run->ledger);
    run->ledger = NULL;
    bly_lock_release(run->lock);
    run->lock = NULL;
    return code;
}

/* --- asking ----------------------------------------------------------------------------------- */

belay_run_ending belay_training_run_ending(const belay_training_run *run) {
    return run ? run->ending : BELAY_RUN_NOT_ENDED;
}

const char *belay_training_run_ending_text(const belay_training_run *run) {
    return run && run->ending_text ? run->ending_text : "";
}

int64_t belay_training_run_start_step(const belay_training_run *run) {
    return run ? run->start_step : -1;
}

int64_t belay_training_run_step(const belay_training_run *run) {
    return run ? run->step : -1;
}

int64_t belay_training_run_resumed_from(const belay_training_run *run) {
    return run ? run->resumed_from : -1;
}

const char *belay_training_run_last_checkpoint(const belay_training_run *run) {
    return run ? run->last_checkpoint : NULL;
}

size_t belay_training_run_metric_count(const belay_training_run *run) {
    return run ? run->plan.names.count : 0;
}

const char *belay_training_run_metric_name(const belay_training_run *run, size_t index) {
    return index < belay_training_run_metric_count(run) ? run->plan.names.items[index] : NULL;
}

double belay_training_run_metric(const belay_training_run *run, size_t index) {
    return index < belay_training_run_metric_count(run) ? run->metrics[index] : (double)NAN;
}

const char *belay_training_run_loss_name(const belay_training_run *run) {
    return run ? belay_training_run_metric_name(run, run->plan.loss) : NULL;
}

double belay_training_run_loss(const belay_training_run *run) {
    return run ? belay_training_run_metric(run, run->plan.loss) : (double)NAN;
}
