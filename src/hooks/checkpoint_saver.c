/* Saves at the start, every so often, and at the end (HK-CKPT), and tells listeners (HK-LSN). */
#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "checkpoint/saver.h"
#include "hooks/events.h"
#include "hooks/make.h"
#include "hooks/timer.h"
#include "session/scaffold.h"

#include <belay/hooks.h>

#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

_Static_assert(sizeof(belay_checkpoint_saver_options) ==
                   offsetof(belay_checkpoint_saver_options, reserved) + sizeof(uint32_t),
               "no tail padding");
_Static_assert(sizeof(belay_checkpoint_listener_vtable) ==
                   offsetof(belay_checkpoint_listener_vtable, destroy) + sizeof(void (*)(void)),
               "no tail padding");

#define DEFAULT_BASENAME "model.ckpt"
#define KNOWN_FLAGS      (BELAY_CHECKPOINT_SAVER_NO_GRAPH_DEF | BELAY_CHECKPOINT_SAVER_META_ONCE)

typedef struct listener {
    belay_checkpoint_listener_vtable table;
    void *self;
} listener;

typedef struct checkpoint_saver {
    bly_timer timer;
    bly_events events;
    char *directory;
    char *save_path;          /* directory/basename */
    belay_saver *saver;       /* NULL: not given */
    belay_saver *graph_saver; /* of this monitored session's graph; NULL: not needed, or not yet */
    belay_scaffold *scaffold; /* NULL: none */
    listener *listeners;
    size_t listener_count;
    uint32_t flags;
    int has_shown_graph; /* of this monitored session */
    char *meta_prefix;   /* META_ONCE: the checkpoint whose .meta we wrote; NULL: none yet */
} checkpoint_saver;

/* What became of a listener's function; as a hook's, it may have filled `mine` and gone on. */
static belay_code listener_result(size_t number, belay_code code, const char *where,
                                  belay_error *mine, belay_error *err) {
    if (code == BELAY_OK)
        return BELAY_OK;
    bly_fail_callback(mine, code, "%s of checkpoint listener number %zu", where, number);
    bly_error_copy(err, mine);
    return code;
}

static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    checkpoint_saver *hook = self;
    belay_code code = belay_graph_check_global_step(graph, "CheckpointSaverHook", err);
    if (code != BELAY_OK)
        return code;
    hook->has_shown_graph = 0;
    belay_saver_free(
        hook->graph_saver); /* an earlier monitored session's, perhaps of another graph */
    hook->graph_saver = NULL;
    bly_timer_reset(&hook->timer);
    code = bly_make_directories(hook->directory, err);
    if (code == BELAY_OK)
        code = bly_events_open(&hook->events, err);
    for (size_t i = 0; code == BELAY_OK && i < hook->listener_count; i++) {
        const listener *one = &hook->listeners[i];
        BLY_LOCAL_ERROR(mine);
        if (one->table.begin)
            code = listener_result(i, one->table.begin(one->self, &mine), "begin", &mine, err);
    }
    return code;
}

/* HK-CKPT-14; not before the graph is finalised, so that a scaffold's default is there
 * (HK-CKPT-15). */
static belay_saver *get_saver(checkpoint_saver *hook, belay_session *session, belay_error *err) {
    if (hook->saver)
        return hook->saver;
    if (!hook->scaffold && !hook->graph_saver)
        hook->graph_saver = belay_saver_new(belay_session_graph(session), NULL, err);
    if (!hook->scaffold)
        return hook->graph_saver;
    belay_saver *saver = belay_scaffold_saver(hook->scaffold);
    if (!saver)
        bly_fail(err, BELAY_FAILED_PRECONDITION, "the scaffold has no saver");
    return saver;
}

/* ---- one save ---- */

/* With META_ONCE there is one .meta, and it goes along to the newest checkpoint: beside an old one
 * it would be deleted with it. So it goes before the save, which deletes, and back where the save
 * fails: *to_prefix is then where it was before. 0: it is lost. */
static int move_meta(checkpoint_saver *hook, char **to_prefix) {
    BLY_LOCAL_ERROR(ignored);
    bly_buf from = BLY_BUF_INIT, to = BLY_BUF_INIT;
    bly_buf_printf(&from, "%s.meta", hook->meta_prefix);
    bly_buf_printf(&to, "%s.meta", *to_prefix);
    int there = !from.failed && !to.failed &&
                (strcmp(from.data, to.data) == 0 ||
                 bly_file_rename(from.data, to.data, &ignored) == BELAY_OK);
    bly_buf_free(&from);
    bly_buf_free(&to);
    char *before = hook->meta_prefix;
    hook->meta_prefix = there ? *to_prefix : NULL;
    if (there)
        *to_prefix = before;
    else
        bly_free(before);
    return there;
}

static char *prefix_of(const checkpoint_saver *hook, int64_t step) {
    bly_buf prefix = BLY_BUF_INIT;
    bly_buf_printf(&prefix, "%s-%lld", hook->save_path, (long long)step);
    return bly_buf_take(&prefix);
}

static int has_file(const char *prefix, const char *suffix) {
    bly_buf path = BLY_BUF_INIT;
    bly_buf_printf(&path, "%s%s", prefix, suffix);
    int there = !path.failed && bly_file_exists(path.data);
    bly_buf_free(&path);
    return there;
}

static belay_code write_checkpoint(checkpoint_saver *hook, belay_session *session, int64_t step,
                                   belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    belay_save_options options = BELAY_SAVE_OPTIONS_INIT;
    const char *prefix = NULL;
    belay_saver *saver = get_saver(hook, session, &mine);
    if (!saver) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    int once = !(hook->flags & BELAY_CHECKPOINT_SAVER_NO_GRAPH_DEF) &&
               (hook->flags & BELAY_CHECKPOINT_SAVER_META_ONCE);
    char *beside = NULL;
    if (once && hook->meta_prefix && has_file(hook->meta_prefix, ".meta"))
        beside = prefix_of(hook, step);
    int moved = beside && move_meta(hook, &beside);
    int write_meta = !(hook->flags & BELAY_CHECKPOINT_SAVER_NO_GRAPH_DEF) && !moved;
    if (!write_meta)
        options.flags |= BELAY_SAVE_NO_META_GRAPH;
    belay_code code =
        belay_saver_save(saver, session, hook->save_path, step, &options, &prefix, err);
    if (code != BELAY_OK && moved && !has_file(hook->meta_prefix, ".index"))
        move_meta(hook, &beside);
    bly_free(beside);
    if (code != BELAY_OK || !prefix)
        return code; /* no prefix: the saver covers nothing, and wrote nothing */
    if (once && write_meta) {
        bly_free(hook->meta_prefix);
        hook->meta_prefix = bly_strdup(prefix); /* NULL: the next save writes it anew */
    }
    /* Without the step, as TensorFlow writes it (HK-CKPT-11). */
    return belay_summary_writer_add_session_log(hook->events.writer, BELAY_SESSION_CHECKPOINT,
                                                hook->save_path, NULL, step, err);
}

/* HK-CKPT-10. *out_stop: a listener asked for it. */
static belay_code save(checkpoint_saver *hook, belay_session *session, int64_t step,
                       uint32_t *out_stop, belay_error *err) {
    belay_code code = BELAY_OK;
    *out_stop = 0;
    bly_info("Calling checkpoint listeners before saving checkpoint %lld...", (long long)step);
    for (size_t i = 0; code == BELAY_OK && i < hook->listener_count; i++) {
        const listener *one = &hook->listeners[i];
        BLY_LOCAL_ERROR(mine);
        if (one->table.before_save)
            code = listener_result(i, one->table.before_save(one->self, session, step, &mine),
                                   "before_save", &mine, err);
    }
    if (code != BELAY_OK)
        return code;
    bly_info("Saving checkpoints for %lld into %s.", (long long)step, hook->save_path);
    code = write_checkpoint(hook, session, step, err);
    if (code != BELAY_OK)
        return code;
    /* Only now: had it failed, the next run would try again. */
    bly_timer_update(&hook->timer, step, NULL, NULL);
    bly_info("Calling checkpoint listeners after saving checkpoint %lld...", (long long)step);
    for (size_t i = 0; code == BELAY_OK && i < hook->listener_count; i++) {
        const listener *one = &hook->listeners[i];
        uint32_t stop = 0;
        BLY_LOCAL_ERROR(mine);
        if (one->table.after_save)
            code = listener_result(i, one->table.after_save(one->self, session, step, &stop, &mine),
                                   "after_save", &mine, err);
        if (stop)
            bly_info("A CheckpointSaverListener requested that training be stopped. listener: %zu",
                     i);
        *out_stop |= stop != 0;
    }
    return code;
}

/* ---- the session starts ---- */

static int is_same_folder(const char *a, const char *b) {
    struct stat first, second;
    return stat(a[0] ? a : ".", &first) == 0 && stat(b[0] ? b : ".", &second) == 0 &&
           first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/* 1 where the session's variables were just read from the checkpoint that saving now would write:
 * it would only be written again (BUG-51). */
static int is_saved_already(const checkpoint_saver *hook, const char *restored, int64_t step) {
    bly_buf name = BLY_BUF_INIT, index = BLY_BUF_INIT;
    if (!restored)
        return 0;
    bly_buf_printf(&name, "%s-%lld", bly_path_base(hook->save_path), (long long)step);
    bly_buf_printf(&index, "%s.index", restored);
    char *here = bly_path_directory(hook->save_path);
    char *there = bly_path_directory(restored);
    int same = !name.failed && !index.failed && here && there &&
               strcmp(bly_path_base(restored), name.data) == 0 && is_same_folder(here, there) &&
               bly_file_exists(index.data);
    bly_free(here);
    bly_free(there);
    bly_buf_free(&name);
    bly_buf_free(&index);
    return same;
}

/* EV-22. A graph that cannot be written as text is no reason not to train it. */
static belay_code write_graph(const checkpoint_saver *hook, const belay_graph *graph,
                              belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    char *path = bly_path_join(hook->directory, "graph.pbtxt");
    if (!path)
        return bly_fail_memory(err);
    belay_code code = belay_graph_write(graph, path, 1, &mine);
    if (code == BELAY_INVALID_ARGUMENT || code == BELAY_DATA_LOSS) { /* too large, too deep */
        bly_warn("%s is not written: %s", path, mine.message);
        code = BELAY_OK;
    } else if (code != BELAY_OK) {
        bly_error_copy(err, &mine);
    }
    bly_free(path);
    return code;
}

/* HK-CKPT-05 */
static belay_code show_graph(const checkpoint_saver *hook, const belay_graph *graph,
                             belay_error *err) {
    belay_code code = BELAY_OK;
    if (!(hook->flags & BELAY_CHECKPOINT_SAVER_NO_GRAPH_DEF))
        code = write_graph(hook, graph, err);
    return code == BELAY_OK ? belay_summary_writer_add_graph_once(hook->events.writer, graph, err)
                            : code;
}

/* Somebody wants no step to be run. A helper thread that failed meanwhile is another matter: when
 * it does is chance, and what is saved must not be. */
static int is_over(belay_coordinator *coordinator) {
    return belay_coordinator_should_stop(coordinator) &&
           belay_coordinator_raise_requested_exception(coordinator, NULL) == BELAY_OK;
}

static belay_code after_create_session(void *self, belay_session *session,
                                       belay_coordinator *coordinator, belay_error *err) {
    checkpoint_saver *hook = self;
    int64_t step;
    uint32_t stop = 0;
    belay_code code = belay_session_step_or_initial(session, &step, err);
    if (code != BELAY_OK)
        return code;
    BLY_LOCAL_ERROR(mine);
    belay_saver *saver = get_saver(hook, session, &mine);
    if (!saver) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    if (!hook->has_shown_graph) {
        code = show_graph(hook, belay_session_graph(session), err);
        if (code != BELAY_OK)
            return code;
        hook->has_shown_graph = 1;
    }
    /* Where nothing is to be trained there is nothing new to keep, and the steps from here on count
     * from this one in either case. */
    if (!is_over(coordinator) && !is_saved_already(hook, bly_saver_restored_prefix(saver), step))
        code = save(hook, session, step, &stop, err);
    if (code == BELAY_OK)
        bly_timer_update(&hook->timer, step, NULL, NULL);
    if (stop)
        belay_coordinator_request_stop(coordinator, NULL); /* BUG-47 */
    return code;
}

/* ---- runs, and the end ---- */

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    checkpoint_saver *hook = self;
    int64_t step = belay_run_context_progress(run)->global_step;
    uint32_t stop;
    if (!bly_timer_should_trigger(&hook->timer, step))
        return BELAY_OK;
    belay_code code = save(hook, belay_run_context_session(run), step, &stop, err);
    if (stop)
        belay_run_context_request_stop(run);
    return code;
}

static void next_wanted(void *self, const belay_progress *now, belay_when *out) {
    checkpoint_saver *hook = self;
    (void)now;
    out->at_step = bly_timer_next_step(&hook->timer);
    out->at_time_ms = bly_timer_next_ms(&hook->timer);
}

static belay_code end(void *self, belay_session *session, belay_error *err) {
    checkpoint_saver *hook = self;
    BLY_LOCAL_ERROR(mine);
    BLY_LOCAL_ERROR(closing);
    int64_t step = 0;
    uint32_t stop; /* it is stopping */
    belay_code code = belay_session_step_or_initial(session, &step, &mine);
    if (code == BELAY_OK && !(hook->timer.has_fired && hook->timer.last_step == step))
        code = save(hook, session, step, &stop, &mine);
    for (size_t i = 0; code == BELAY_OK && i < hook->listener_count; i++) {
        const listener *one = &hook->listeners[i];
        BLY_LOCAL_ERROR(told);
        if (one->table.end)
            code = listener_result(i, one->table.end(one->self, session, step, &told), "end", &told,
                                   &mine);
    }
    /* The last CHECKPOINT event too is in the file when the session is gone (BUG-72). */
    bly_events_close(&hook->events, &closing);
    bly_error_chain(&mine, &closing);
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}

/* ---- making and freeing ---- */

static void destroy(void *self) {
    checkpoint_saver *hook = self;
    for (size_t i = 0; i < hook->listener_count; i++)
        if (hook->listeners[i].table.destroy)
            hook->listeners[i].table.destroy(hook->listeners[i].self);
    bly_free(hook->listeners);
    bly_events_clean_up(&hook->events);
    belay_saver_free(hook->saver);
    belay_saver_free(hook->graph_saver);
    belay_scaffold_free(hook->scaffold);
    bly_free(hook->directory);
    bly_free(hook->save_path);
    bly_free(hook->meta_prefix);
    bly_free(hook);
}

static void destroy_given(const belay_checkpoint_listener *given) {
    const belay_checkpoint_listener_vtable *table = given->vtable;
    if (table && table->struct_size >= sizeof *table && table->destroy)
        table->destroy(given->self);
}

/* The hook never came to be, and its listeners neither. */
static void destroy_all_given(const belay_checkpoint_saver_options *options) {
    if (!options || options->struct_size < offsetof(belay_checkpoint_saver_options, flags) ||
        !options->listeners)
        return;
    for (size_t i = 0; i < options->listener_count; i++)
        destroy_given(&options->listeners[i]);
}

/* What listeners own is given with them, also where the hook cannot be made; so those that cannot
 * be kept are destroyed here. */
static belay_code take_listeners(checkpoint_saver *hook,
                                 const belay_checkpoint_saver_options *options, belay_error *err) {
    const belay_checkpoint_listener *given = options->listeners;
    belay_code code = BELAY_OK;
    hook->listeners = bly_calloc(options->listener_count, sizeof *hook->listeners);
    if (!hook->listeners)
        code = bly_fail_memory(err);
    for (size_t i = 0; given && i < options->listener_count; i++) {
        const belay_checkpoint_listener_vtable *table = given[i].vtable;
        listener *mine = hook->listeners ? &hook->listeners[hook->listener_count] : NULL;
        if (!table) {
            if (code == BELAY_OK)
                code = bly_fail(err, BELAY_INVALID_ARGUMENT, "listener number %zu has no table", i);
        } else if (mine && bly_options_read(&mine->table, sizeof mine->table, table,
                                            "belay_checkpoint_listener_vtable",
                                            code == BELAY_OK ? err : NULL) == BELAY_OK) {
            mine->self = given[i].self;
            hook->listener_count++;
        } else {
            if (code == BELAY_OK)
                code = BELAY_INVALID_ARGUMENT;
            destroy_given(&given[i]);
        }
    }
    if (code == BELAY_OK && !given && options->listener_count > 0)
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "listeners is NULL, and listener_count is %zu",
                        options->listener_count);
    return code;
}

static belay_code check_options(const belay_checkpoint_saver_options *options, belay_error *err) {
    if (!options->checkpoint_dir || !options->checkpoint_dir[0])
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "checkpoint_dir must be given");
    if (options->saver && options->scaffold)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "You cannot provide both saver and scaffold.");
    if (options->reserved || (options->flags & ~KNOWN_FLAGS))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        options->reserved ? "reserved must be 0"
                                          : "flags has a bit set that this belay does not know");
    return BELAY_OK;
}

static belay_code read_options(checkpoint_saver *hook, const belay_checkpoint_saver_options *given,
                               belay_error *err) {
    belay_checkpoint_saver_options options;
    belay_code code =
        bly_options_read(&options, sizeof options, given, "belay_checkpoint_saver_options", err);
    if (code != BELAY_OK) {
        destroy_all_given(given);
        return code;
    }
    code = take_listeners(hook, &options, err); /* first: from here on destroy() has them */
    if (code == BELAY_OK)
        code = check_options(&options, err);
    if (code == BELAY_OK)
        code = bly_timer_init(&hook->timer, options.save_secs, options.save_steps, err);
    if (code == BELAY_OK)
        code = bly_events_init(&hook->events, options.checkpoint_dir, NULL, err);
    if (code != BELAY_OK)
        return code;
    const char *basename =
        options.checkpoint_basename ? options.checkpoint_basename : DEFAULT_BASENAME;
    hook->flags = options.flags;
    hook->saver = options.saver ? bly_saver_ref(options.saver) : NULL;
    hook->scaffold = options.scaffold ? bly_scaffold_ref(options.scaffold) : NULL;
    hook->directory = bly_strdup(options.checkpoint_dir);
    hook->save_path = bly_path_join(options.checkpoint_dir, basename);
    return hook->directory && hook->save_path ? BELAY_OK : bly_fail_memory(err);
}

belay_hook *belay_checkpoint_saver_hook_new(const belay_checkpoint_saver_options *given,
                                            belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .after_create_session = after_create_session,
        .after_run = after_run,
        .end = end,
        .next_wanted = next_wanted,
        .destroy = destroy,
        .name = "CheckpointSaverHook",
    };
    checkpoint_saver *hook = bly_calloc(1, sizeof *hook);
    if (!hook) {
        destroy_all_given(given);
        bly_fail_memory(err);
        return NULL;
    }
    if (read_options(hook, given, err) != BELAY_OK) {
        destroy(hook);
        return NULL;
    }
    return belay_hook_new(&table, hook, err);
}
