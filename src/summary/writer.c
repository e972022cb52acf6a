#define _DEFAULT_SOURCE /* realpath */
#include "summary/writer.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "summary/event_file.h"
#include "summary/writer_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLUSH_SECS_DEFAULT  120.0
#define QUEUE_BYTES_DEFAULT (UINT64_C(64) << 20)
#define TIMEOUT_MS_DEFAULT  10000

_Static_assert(sizeof(belay_summary_writer_options) ==
                   offsetof(belay_summary_writer_options, graph) + sizeof(void *),
               "no tail padding");

/* The shared writers. Its lock comes before any writer's. */
static bly_mutex registry_lock = PTHREAD_MUTEX_INITIALIZER;
static belay_summary_writer *registry; /* guarded by registry_lock */

/* ---- Opening and closing ---- */

static int64_t deadline_of(int64_t timeout_ms) {
    if (timeout_ms == BELAY_FOREVER)
        return BLY_NEVER;
    /* Any other negative, BELAY_AT_ONCE among them, is a deadline that has passed. */
    return bly_deadline_after_secs((double)(timeout_ms ? timeout_ms : TIMEOUT_MS_DEFAULT) / 1000);
}

belay_code bly_no_writer(belay_error *err) {
    if (belay_error_code(err) != BELAY_OK)
        return belay_error_code(err);
    return bly_fail(err, BELAY_INVALID_ARGUMENT, "the summary writer is NULL");
}

static belay_code open_locked(belay_summary_writer *writer, belay_error *err) {
    char *path = NULL;
    int fd = bly_event_file_create(writer->logdir, writer->suffix, &path, err);
    if (fd < 0)
        return belay_error_code(err);
    char *folder = realpath(writer->logdir, NULL);
    bly_free(writer->folder);
    writer->folder = bly_strdup(folder ? folder : writer->logdir);
    free(folder);
    if (writer->folder) {
        writer->queue = bly_event_queue_start(fd, path, writer->folder, writer->suffix,
                                              writer->flush_secs, writer->queue_bytes, err);
    } else {
        close(fd);
        bly_fail_memory(err);
    }
    bly_free(path);
    if (!writer->queue)
        return belay_error_code(err);
    writer->renewals = 0;
    writer->has_graph = 0;
    writer->graph_id = 0;
    writer->warned_closed = 0;
    return BELAY_OK;
}

static void free_writer(belay_summary_writer *writer) {
    bly_buf_free(&writer->scratch);
    bly_tag_set_free(&writer->metadata_tags);
    bly_tag_set_free(&writer->run_tags);
    bly_mutex_clean_up(&writer->lock);
    bly_free(writer->logdir);
    bly_free(writer->folder);
    bly_free(writer->suffix);
    bly_free(writer);
}

static belay_code check_options(const belay_summary_writer_options *options, belay_error *err) {
    if (!(options->flush_secs >= 0))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "flush_secs is %g: it must not be negative",
                        options->flush_secs);
    if (options->filename_suffix && strchr(options->filename_suffix, '/'))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "filename_suffix '%s' holds a '/': it is a part of a file's name",
                        options->filename_suffix);
    if (options->graph && (options->graph_def || options->meta_graph_def))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "graph is given, and %s too: the writer takes one of them",
                        options->graph_def ? "graph_def" : "meta_graph_def");
    return BELAY_OK;
}

static belay_summary_writer *
make_writer(const char *logdir, const belay_summary_writer_options *given, belay_error *err) {
    belay_summary_writer_options options;
    BLY_LOCAL_ERROR(mine);
    if (!err)
        err = &mine;
    if (bly_options_read(&options, sizeof options, given, "belay_summary_writer_options", err) !=
            BELAY_OK ||
        check_options(&options, err) != BELAY_OK)
        return NULL;
    belay_summary_writer *writer = bly_calloc(1, sizeof *writer);
    if (!writer) {
        bly_fail_memory(err);
        return NULL;
    }
    bly_mutex_init(&writer->lock);
    writer->references = 1;
    writer->logdir = bly_strdup(logdir[0] ? logdir : ".");
    writer->suffix = bly_strdup(options.filename_suffix ? options.filename_suffix : "");
    writer->flush_secs = options.flush_secs > 0 ? options.flush_secs : FLUSH_SECS_DEFAULT;
    writer->queue_bytes = options.queue_bytes ? options.queue_bytes : QUEUE_BYTES_DEFAULT;
    belay_code code = BELAY_OK;
    if (!writer->logdir || !writer->suffix)
        code = bly_fail_memory(err);
    else
        code = open_locked(writer, err);
    if (code == BELAY_OK && options.graph_def)
        code = belay_summary_writer_add_graph(writer, options.graph_def, options.graph_def_size, 0,
                                              err);
    if (code == BELAY_OK && options.meta_graph_def)
        code = belay_summary_writer_add_meta_graph(writer, options.meta_graph_def,
                                                   options.meta_graph_def_size, 0, err);
    if (code == BELAY_OK && options.graph)
        code = belay_summary_writer_add_graph_once(writer, options.graph, err);
    if (code != BELAY_OK) {
        belay_summary_writer_close(writer, 0, NULL);
        free_writer(writer);
        return NULL;
    }
    return writer;
}

belay_summary_writer *belay_summary_writer_open(const char *logdir,
                                                const belay_summary_writer_options *options,
                                                belay_error *err) {
    if (!logdir) {
        bly_fail(err, BELAY_INVALID_ARGUMENT, "logdir is NULL");
        return NULL;
    }
    return make_writer(logdir, options, err);
}

/* A folder that was removed has given its number back, perhaps to this one. */
static int is_writer_of(belay_summary_writer *writer, const struct stat *info) {
    struct stat now;
    bly_mutex_lock(&writer->lock);
    int renewed = writer->queue && bly_event_queue_renewals(writer->queue) > 0;
    int is_there = writer->folder && stat(writer->folder, &now) == 0;
    bly_mutex_unlock(&writer->lock);
    if (!renewed && (writer->device != info->st_dev || writer->inode != info->st_ino))
        return 0;
    return is_there && now.st_dev == info->st_dev && now.st_ino == info->st_ino;
}

/* Finds or makes the writer of the folder that `info` is of. Files are made under the registry's
 * lock, so that two threads do not make two. */
static belay_summary_writer *shared_locked(const char *logdir, const struct stat *info,
                                           belay_error *err) {
    belay_summary_writer *writer = registry;
    while (writer && !is_writer_of(writer, info))
        writer = writer->next;
    if (writer) {
        if (belay_summary_writer_reopen(writer, err) != BELAY_OK)
            return NULL;
        writer->references++;
        return writer;
    }
    writer = make_writer(logdir, NULL, err);
    if (writer) {
        writer->shared = 1;
        writer->device = info->st_dev;
        writer->inode = info->st_ino;
        writer->next = registry;
        registry = writer;
    }
    return writer;
}

belay_summary_writer *belay_summary_writer_shared(const char *logdir, belay_error *err) {
    struct stat info;
    if (!logdir) {
        bly_fail(err, BELAY_INVALID_ARGUMENT, "logdir is NULL");
        return NULL;
    }
    /* The folder itself is the key, so it must be there first; its spelling is not (BUG-50). */
    if (bly_make_directories(logdir, err) != BELAY_OK)
        return NULL;
    if (stat(logdir[0] ? logdir : ".", &info) != 0) {
        bly_fail_errno(err, errno, "cannot use folder %s", logdir);
        return NULL;
    }
    bly_mutex_lock(&registry_lock);
    belay_summary_writer *writer = shared_locked(logdir, &info, err);
    bly_mutex_unlock(&registry_lock);
    return writer;
}

belay_summary_writer *bly_writer_acquire(const char *directory, belay_error *err) {
    return belay_summary_writer_shared(directory, err);
}

belay_summary_writer *belay_summary_writer_ref(belay_summary_writer *writer) {
    if (!writer)
        return NULL;
    bly_mutex_lock(&registry_lock);
    writer->references++;
    bly_mutex_unlock(&registry_lock);
    return writer;
}

/* Gives back a reference; returns whether it was the last. Nobody finds the writer any more then.
 */
static int drop(belay_summary_writer *writer) {
    bly_mutex_lock(&registry_lock);
    int last = --writer->references == 0;
    for (belay_summary_writer **at = &registry; last && writer->shared && *at; at = &(*at)->next)
        if (*at == writer) {
            *at = writer->next;
            break;
        }
    bly_mutex_unlock(&registry_lock);
    return last;
}

/* A queue to work with while the lock is not held, or NULL where the writer is closed. */
static bly_event_queue *borrow_queue(belay_summary_writer *writer) {
    bly_mutex_lock(&writer->lock);
    bly_event_queue *queue = writer->queue ? bly_event_queue_ref(writer->queue) : NULL;
    bly_mutex_unlock(&writer->lock);
    return queue;
}

static belay_code flush_until(belay_summary_writer *writer, int64_t deadline_us, belay_error *err) {
    bly_event_queue *queue = borrow_queue(writer);
    if (!queue)
        return BELAY_OK;
    belay_code code = bly_event_queue_flush(queue, deadline_us, err);
    bly_event_queue_unref(queue);
    return code;
}

static belay_code close_until(belay_summary_writer *writer, int64_t deadline_us, belay_error *err) {
    bly_mutex_lock(&writer->lock);
    bly_event_queue *queue = writer->queue;
    writer->queue = NULL;
    if (queue)
        writer->dropped_before += bly_event_queue_dropped(queue);
    bly_mutex_unlock(&writer->lock);
    belay_code code = queue ? bly_event_queue_finish(queue, deadline_us, err) : BELAY_OK;
    if (code != BELAY_OK) {
        /* The events that carried the metadata may be lost: the next file gets it again. */
        bly_mutex_lock(&writer->lock);
        bly_tag_set_free(&writer->metadata_tags);
        bly_mutex_unlock(&writer->lock);
    }
    return code;
}

belay_code bly_writer_release(belay_summary_writer *writer, int64_t deadline_us, belay_error *err) {
    if (!writer)
        return BELAY_OK;
    BLY_LOCAL_ERROR(later);
    belay_code code = flush_until(writer, deadline_us, err);
    if (drop(writer)) {
        belay_code closed = close_until(writer, deadline_us, code == BELAY_OK ? err : &later);
        code = code == BELAY_OK ? closed : code;
        free_writer(writer);
    }
    return code;
}

void belay_summary_writer_unref(belay_summary_writer *writer) {
    BLY_LOCAL_ERROR(err);
    if (!writer || !drop(writer))
        return;
    if (close_until(writer, deadline_of(0), &err) != BELAY_OK)
        bly_warn("%s", err.message);
    free_writer(writer);
}

belay_code belay_summary_writer_flush(belay_summary_writer *writer, int64_t timeout_ms,
                                      belay_error *err) {
    return writer ? flush_until(writer, deadline_of(timeout_ms), err) : bly_no_writer(err);
}

belay_code belay_summary_writer_close(belay_summary_writer *writer, int64_t timeout_ms,
                                      belay_error *err) {
    return writer ? close_until(writer, deadline_of(timeout_ms), err) : bly_no_writer(err);
}

belay_code belay_summary_writer_reopen(belay_summary_writer *writer, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    if (!writer)
        return bly_no_writer(err);
    bly_mutex_lock(&writer->lock);
    belay_code code = writer->queue ? BELAY_OK : open_locked(writer, err ? err : &mine);
    bly_mutex_unlock(&writer->lock);
    return code;
}

const char *belay_summary_writer_logdir(const belay_summary_writer *writer) {
    return writer ? writer->logdir : "";
}

uint64_t belay_summary_writer_dropped(belay_summary_writer *writer) {
    if (!writer)
        return 0;
    bly_mutex_lock(&writer->lock);
    uint64_t dropped = writer->dropped_before;
    if (writer->queue)
        dropped += bly_event_queue_dropped(writer->queue);
    bly_mutex_unlock(&writer->lock);
    return dropped;
}

int bly_writer_has_graph(belay_summary_writer *writer) {
    bly_mutex_lock(&writer->lock);
    int known = writer->has_graph;
    bly_mutex_unlock(&writer->lock);
    return known;
}

char *bly_writer_path(belay_summary_writer *writer) {
    bly_mutex_lock(&writer->lock);
    char *path = writer->queue ? bly_event_queue_path(writer->queue) : bly_strdup("");
    bly_mutex_unlock(&writer->lock);
    return path;
}
