/* What writer.c (opening, sharing, closing) and add.c (adding) share. */
#ifndef BLY_SUMMARY_WRITER_IMPL_H
#define BLY_SUMMARY_WRITER_IMPL_H

#include "base/buf.h"
#include "base/thread.h"
#include "summary/event_queue.h"
#include "summary/tag_set.h"
#include "wire/summary.pb-c.h"

#include <belay/summary.h>

#include <sys/types.h>

struct belay_summary_writer {
    char *logdir;
    char *suffix;
    double flush_secs;
    uint64_t queue_bytes;

    bly_mutex lock;
    /* guarded by lock */
    bly_event_queue *queue; /* NULL: closed */
    char *folder;           /* logdir, from the root: the working folder may change */
    bly_buf scratch;        /* the event being added */
    bly_tag_set metadata_tags;
    bly_tag_set run_tags;
    int has_graph;           /* the file holds one, whichever */
    uint64_t graph_id;       /* of the belay_graph that was added last; 0: none */
    int start_expected;      /* a session began, and has no START event yet */
    uint64_t dropped_before; /* by queues that are gone */
    int warned_closed;
    int renewals; /* of the queue's file, when that was last looked at */

    /* guarded by registry_lock */
    size_t references;
    int shared;
    dev_t device;
    ino_t inode;
    belay_summary_writer *next;
};

/* What a function returns that was given NULL for a writer: the error that is there already, or one
 * of its own. */
belay_code bly_no_writer(belay_error *err);

/* INVALID_ARGUMENT for NULL and for what is not UTF-8: readers refuse a whole file for one such
 * string. */
belay_code bly_check_tag(const char *tag, belay_error *err);

/* A copy in which bytes that are not UTF-8 (a path may hold them) are '?'. NULL when memory is out.
 */
char *bly_as_utf8(const char *text);

/* Adds a value that belay made. `once`: ALREADY_EXISTS where the tag had metadata already. */
belay_code bly_writer_add_value(belay_summary_writer *writer, Bly__SummaryValues__Value *value,
                                int64_t step, int once, belay_error *err);

#endif
