/* Summary writers for those inside: the hooks share one per folder, and a session closes it when
 * all are done. belay/summary.h is the manual; what adds events is called from there. */
#ifndef BLY_SUMMARY_WRITER_H
#define BLY_SUMMARY_WRITER_H

#include <belay/summary.h>

#include <stddef.h>
#include <stdint.h>

/* belay_summary_writer_shared() by the name that this side uses. Each acquire needs one release. */
belay_summary_writer *bly_writer_acquire(const char *directory, belay_error *err);

/* Flushes, gives back a reference, and closes the file where it was the last. So nothing stays
 * queued when a session is gone, whatever order its hooks end in (EV-21, BUG-72). Waits until
 * `deadline_us` of bly_now_us() (BLY_NEVER: no limit); `writer` is given back whatever the result.
 * NULL is fine. */
belay_code bly_writer_release(belay_summary_writer *writer, int64_t deadline_us, belay_error *err);

/* A START event is to come: each hook of a new session says so. NULL is fine. */
void bly_writer_expect_start(belay_summary_writer *writer);

/* Adds it, where no other hook has done so by now. */
belay_code bly_writer_start(belay_summary_writer *writer, int64_t step, belay_error *err);

/* Whether the writer's file holds a graph, whichever. */
int bly_writer_has_graph(belay_summary_writer *writer);

/* Path of the file being written, which reopening changes. A copy; the caller frees it. NULL when
 * memory is out. */
char *bly_writer_path(belay_summary_writer *writer);

#endif
