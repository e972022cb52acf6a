#include "summary/event_queue.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/thread.h"
#include "summary/event_file.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The thread writes when this much has gathered, or half of what may gather, whatever the time. */
#define WRITE_BYTES ((size_t)256 << 10)
/* A buffer that a burst made larger than this is given back. */
#define KEEP_BYTES ((size_t)4 << 20)

struct bly_event_queue {
    char *path;               /* the thread's; it changes it under the lock */
    int fd;                   /* the thread's */
    char *directory, *suffix; /* of a new file; NULL: none is made */
    atomic_int renewals;
    double flush_secs;
    uint64_t most_bytes;
    size_t write_bytes;
    bly_thread *thread; /* the owner's */
    atomic_int references;

    bly_mutex lock;
    bly_cond wake; /* for the thread */
    bly_cond done; /* for those who wait for it */

    /* all guarded by lock */
    bly_buf pending;
    uint64_t added;   /* bytes, ever */
    uint64_t written; /* bytes, ever; added - written is what memory holds */
    uint64_t flush_to;
    int64_t next_flush_us; /* 0 at first: the first event goes out at once (EV-14) */
    int closing;
    int finished; /* the thread is past its last write, and the file is closed */
    uint64_t dropped;
    uint64_t dropped_now; /* in the shortage that is not over yet */
    belay_error failure;
};

bly_event_queue *bly_event_queue_ref(bly_event_queue *queue) {
    atomic_fetch_add(&queue->references, 1);
    return queue;
}

void bly_event_queue_unref(bly_event_queue *queue) {
    if (atomic_fetch_sub(&queue->references, 1) != 1)
        return;
    bly_buf_free(&queue->pending);
    bly_mutex_clean_up(&queue->lock);
    bly_cond_clean_up(&queue->wake);
    bly_cond_clean_up(&queue->done);
    bly_free(queue->path);
    bly_free(queue->directory);
    bly_free(queue->suffix);
    bly_free(queue);
}

static int is_removed(int fd) {
    struct stat info;
    return fstat(fd, &info) == 0 && info.st_nlink == 0;
}

/* Somebody cleaned up the folder, with the file in it: what is written to that nobody ever reads.
 */
static belay_code renew_file(bly_event_queue *queue, belay_error *err) {
    char *path = NULL;
    if (!queue->directory || !is_removed(queue->fd))
        return BELAY_OK;
    int fd = bly_event_file_create(queue->directory, queue->suffix, &path, err);
    if (fd < 0) {
        bly_error_prefix(err, "%s was removed: ", queue->path);
        return belay_error_code(err);
    }
    bly_warn("%s was removed, with the events in it; the next ones go to %s", queue->path, path);
    close(queue->fd);
    queue->fd = fd;
    bly_mutex_lock(&queue->lock);
    char *old = queue->path;
    queue->path = path;
    bly_mutex_unlock(&queue->lock);
    bly_free(old);
    atomic_fetch_add(&queue->renewals, 1);
    return BELAY_OK;
}

static belay_code write_all(bly_event_queue *queue, const char *data, size_t len,
                            belay_error *err) {
    while (len > 0) {
        ssize_t put = write(queue->fd, data, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return bly_fail_errno(err, errno, "cannot write %s", queue->path);
        data += put;
        len -= (size_t)put;
    }
    return BELAY_OK;
}

static int wants_write_locked(const bly_event_queue *queue) {
    if (queue->pending.len == 0)
        return 0;
    return queue->closing || queue->flush_to > queue->written ||
           queue->pending.len >= queue->write_bytes || bly_now_us() >= queue->next_flush_us;
}

/* Writes what is pending. The lock is given up meanwhile. */
static void write_pending_locked(bly_event_queue *queue, bly_buf *mine) {
    BLY_LOCAL_ERROR(err);
    bly_buf full = queue->pending;
    queue->pending = *mine;
    *mine = full;
    bly_mutex_unlock(&queue->lock);

    bly_records_seal(mine->data, mine->len);
    if (renew_file(queue, &err) == BELAY_OK)
        write_all(queue, mine->data, mine->len, &err);
    size_t len = mine->len;
    bly_buf_clear(mine);
    if (mine->capacity > KEEP_BYTES)
        bly_buf_free(mine);

    bly_mutex_lock(&queue->lock);
    queue->failure = err;
    queue->written += len;
    queue->next_flush_us = bly_deadline_after_secs(queue->flush_secs);
    uint64_t lost = queue->dropped_now;
    queue->dropped_now = 0;
    bly_cond_signal_all(&queue->done);
    if (lost == 0)
        return;
    bly_mutex_unlock(&queue->lock);
    bly_warn("%s: %llu events were dropped while the disk did not keep up", queue->path,
             (unsigned long long)lost);
    bly_mutex_lock(&queue->lock);
}

static void run(void *self) {
    bly_event_queue *queue = self;
    bly_buf mine = BLY_BUF_INIT;
    bly_mutex_lock(&queue->lock);
    while (queue->failure.code == BELAY_OK) {
        if (wants_write_locked(queue))
            write_pending_locked(queue, &mine);
        else if (queue->closing)
            break;
        else
            bly_wait_until(&queue->wake, &queue->lock,
                           queue->pending.len > 0 ? queue->next_flush_us : BLY_NEVER);
    }
    bly_mutex_unlock(&queue->lock);
    bly_buf_free(&mine);

    BLY_LOCAL_ERROR(err);
    if (close(queue->fd) != 0 && errno != EINTR)
        bly_fail_errno(&err, errno, "cannot close %s", queue->path);
    bly_mutex_lock(&queue->lock);
    if (queue->failure.code == BELAY_OK)
        queue->failure = err;
    bly_buf_free(&queue->pending);
    queue->finished = 1;
    bly_cond_signal_all(&queue->done);
    bly_mutex_unlock(&queue->lock);
    bly_event_queue_unref(queue);
}

bly_event_queue *bly_event_queue_start(int fd, const char *path, const char *directory,
                                       const char *suffix, double flush_secs, uint64_t most_bytes,
                                       belay_error *err) {
    bly_event_queue *queue = bly_calloc(1, sizeof *queue);
    if (queue) {
        queue->path = bly_strdup(path);
        /* There are file systems that count no links. */
        int renews = directory && !is_removed(fd);
        queue->directory = renews ? bly_strdup(directory) : NULL;
        queue->suffix = renews ? bly_strdup(suffix) : NULL;
        if (!queue->path || (renews && (!queue->directory || !queue->suffix))) {
            bly_free(queue->path);
            bly_free(queue->directory);
            bly_free(queue->suffix);
            bly_free(queue);
            queue = NULL;
        }
    }
    if (!queue) {
        bly_fail_memory(err);
        close(fd);
        return NULL;
    }
    queue->fd = fd;
    queue->flush_secs = flush_secs;
    queue->most_bytes = most_bytes;
    queue->write_bytes = most_bytes / 2 < WRITE_BYTES ? (size_t)most_bytes / 2 : WRITE_BYTES;
    atomic_init(&queue->references, 2); /* the owner's and the thread's */
    bly_mutex_init(&queue->lock);
    bly_cond_init(&queue->wake);
    bly_cond_init(&queue->done);
    queue->thread = bly_thread_start("belay-events", run, queue, err);
    if (!queue->thread) {
        close(fd);
        bly_event_queue_unref(queue);
        bly_event_queue_unref(queue);
        return NULL;
    }
    return queue;
}

belay_code bly_event_queue_add(bly_event_queue *queue, const void *frame, size_t len,
                               uint64_t *out_full, belay_error *err) {
    belay_code code = BELAY_OK;
    bly_mutex_lock(&queue->lock);
    uint64_t waiting = queue->added - queue->written;
    size_t before = queue->pending.len;
    if (queue->failure.code != BELAY_OK) {
        code = queue->failure.code;
        bly_error_copy(err, &queue->failure);
    } else if (out_full && waiting > 0 && waiting + len > queue->most_bytes) {
        /* The newest goes: what waits is already in the order of the file. */
        queue->dropped++;
        if (queue->dropped_now++ == 0)
            *out_full = waiting;
    } else if (!bly_buf_reserve(&queue->pending, len)) {
        queue->pending.failed = 0; /* what it holds is whole */
        code = bly_fail_memory(err);
    } else {
        bly_buf_append(&queue->pending, frame, len);
        queue->added += len;
        /* The thread sleeps without a limit while nothing is pending, and looks again when much is.
         */
        if (before == 0 ||
            (before < queue->write_bytes && queue->pending.len >= queue->write_bytes))
            bly_cond_signal_all(&queue->wake);
    }
    bly_mutex_unlock(&queue->lock);
    return code;
}

/* What became of everything up to `target`. */
static belay_code outcome_locked(const bly_event_queue *queue, uint64_t target, belay_error *err) {
    if (queue->failure.code != BELAY_OK) {
        bly_error_copy(err, &queue->failure);
        return queue->failure.code;
    }
    if (queue->written < target)
        return bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                        "%s: %llu bytes of events are not written yet: the disk does not answer",
                        queue->path, (unsigned long long)(target - queue->written));
    return BELAY_OK;
}

belay_code bly_event_queue_flush(bly_event_queue *queue, int64_t deadline_us, belay_error *err) {
    bly_mutex_lock(&queue->lock);
    uint64_t target = queue->added;
    queue->flush_to = target;
    bly_cond_signal_all(&queue->wake);
    while (queue->written < target && queue->failure.code == BELAY_OK)
        if (!bly_wait_until(&queue->done, &queue->lock, deadline_us))
            break;
    belay_code code = outcome_locked(queue, target, err);
    bly_mutex_unlock(&queue->lock);
    return code;
}

belay_code bly_event_queue_finish(bly_event_queue *queue, int64_t deadline_us, belay_error *err) {
    bly_thread *thread = queue->thread;
    bly_mutex_lock(&queue->lock);
    queue->closing = 1;
    bly_cond_signal_all(&queue->wake);
    while (!queue->finished)
        if (!bly_wait_until(&queue->done, &queue->lock, deadline_us))
            break;
    int finished = queue->finished;
    belay_code code = outcome_locked(queue, queue->added, err);
    if (!finished && code == BELAY_OK)
        code = bly_fail(err, BELAY_DEADLINE_EXCEEDED,
                        "%s is not closed yet: the disk does not answer", queue->path);
    bly_mutex_unlock(&queue->lock);
    if (finished)
        bly_thread_join(thread);
    else
        bly_thread_abandon(thread);
    bly_event_queue_unref(queue);
    return code;
}

char *bly_event_queue_path(bly_event_queue *queue) {
    bly_mutex_lock(&queue->lock);
    char *path = bly_strdup(queue->path);
    bly_mutex_unlock(&queue->lock);
    return path;
}

int bly_event_queue_renewals(const bly_event_queue *queue) {
    return atomic_load(&queue->renewals);
}

uint64_t bly_event_queue_dropped(bly_event_queue *queue) {
    bly_mutex_lock(&queue->lock);
    uint64_t dropped = queue->dropped;
    bly_mutex_unlock(&queue->lock);
    return dropped;
}
