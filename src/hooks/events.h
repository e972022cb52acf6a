/* Where a hook's events go: a writer that its user gave, the process's one writer for a folder, or
 * nowhere. */
#ifndef BLY_HOOKS_EVENTS_H
#define BLY_HOOKS_EVENTS_H

#include <belay/session.h>
#include <belay/summary.h>

typedef struct bly_events {
    char *directory;             /* NULL: none */
    belay_summary_writer *given; /* NULL: none; a reference of our own, so that its order of freeing
                                    does not matter */
    belay_summary_writer *writer; /* from open to close; NULL: events go nowhere */
    int unstarted;                /* this session wants its START event */
} bly_events;

/* `directory` and `given` may be NULL; given wins. */
belay_code bly_events_init(bly_events *events, const char *directory, belay_summary_writer *given,
                           belay_error *err);
void bly_events_clean_up(bly_events *events);

/* For begin(). A folder's writer is taken only now: a hook that is never used leaves no file. */
belay_code bly_events_open(bly_events *events, belay_error *err);

/* For after_create_session(): a folder's file gets the graph, where it has none (EV-19, EV-20). So
 * TensorBoard shows it where no checkpoint hook writes to the same folder. */
belay_code bly_events_session(bly_events *events, belay_session *session, belay_error *err);

/* For after_run(), before anything is added: a START event of the session, unless it has one in
 * that file (HK-SUM-04). A recovery may have gone back to an earlier step, and readers forget what
 * came after then (BUG-45), whichever hooks there are. */
belay_code bly_events_start(bly_events *events, int64_t step, belay_error *err);

/* For end(): brings what was added to the file, and gives the folder's writer back (BUG-48,
 * BUG-72). */
belay_code bly_events_close(bly_events *events, belay_error *err);

#endif
