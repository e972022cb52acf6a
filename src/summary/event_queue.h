/* The way from the training thread to one event file: a bounded queue of frames, and the thread
 * that writes them.
 *
 * Frames are appended to one buffer while the thread writes another; then the two change places. So
 * adding copies some bytes under a lock that is never held during a write (BUG-28), and a burst of
 * events becomes one system call. */
#ifndef BLY_SUMMARY_EVENT_QUEUE_H
#define BLY_SUMMARY_EVENT_QUEUE_H

#include <belay/error.h>

#include <stddef.h>
#include <stdint.h>

typedef struct bly_event_queue bly_event_queue;

/* Takes `fd`, also when it fails: the thread closes it. `path` is copied, for messages. Where the
 * file was removed before a write, a new one is made in `directory`, with `suffix`; NULL: never. */
bly_event_queue *bly_event_queue_start(int fd, const char *path, const char *directory,
                                       const char *suffix, double flush_secs, uint64_t most_bytes,
                                       belay_error *err);

/* Adds one frame, its CRCs not filled in. Where the queue is full and `out_full` is not NULL, the
 * event is counted and forgotten; the first time in a shortage *out_full is set to how many bytes
 * wait, for the caller to say so once it holds no lock. Returns BELAY_OK, BELAY_RESOURCE_EXHAUSTED
 * when memory is out, or what an earlier write returned. */
belay_code bly_event_queue_add(bly_event_queue *queue, const void *frame, size_t len,
                               uint64_t *out_full, belay_error *err);

/* Waits until all that was added is written (EV-15), and returns what the write did;
 * BELAY_DEADLINE_EXCEEDED where that takes longer. */
belay_code bly_event_queue_flush(bly_event_queue *queue, int64_t deadline_us, belay_error *err);

/* Flushes, ends the thread, closes the file and gives back the owner's reference. Past the deadline
 * the thread is let go: it ends by itself when the disk answers. */
belay_code bly_event_queue_finish(bly_event_queue *queue, int64_t deadline_us, belay_error *err);

/* For a flush that goes on while the owner finishes. The owner has one reference from the start. */
bly_event_queue *bly_event_queue_ref(bly_event_queue *queue);
void bly_event_queue_unref(bly_event_queue *queue);

/* A copy; NULL when memory is out. */
char *bly_event_queue_path(bly_event_queue *queue);
/* How often the file was removed and made anew. */
int bly_event_queue_renewals(const bly_event_queue *queue);
uint64_t bly_event_queue_dropped(bly_event_queue *queue);

#endif
