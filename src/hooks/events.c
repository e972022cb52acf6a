#include "hooks/events.h"

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "summary/writer.h"

belay_code bly_events_init(bly_events *events, const char *directory, belay_summary_writer *given,
                           belay_error *err) {
    *events = (bly_events){NULL, NULL, NULL, 0};
    if (given)
        events->given = belay_summary_writer_ref(given);
    else if (directory && !(events->directory = bly_strdup(directory)))
        return bly_fail_memory(err);
    return BELAY_OK;
}

static void give_back(bly_events *events) {
    if (events->writer && events->writer != events->given)
        belay_summary_writer_unref(events->writer);
    events->writer = NULL;
}

void bly_events_clean_up(bly_events *events) {
    give_back(events);
    belay_summary_writer_unref(events->given);
    bly_free(events->directory);
}

belay_code bly_events_open(bly_events *events, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    give_back(events); /* an earlier monitored session that had no end() */
    if (events->given || !events->directory) {
        events->writer = events->given;
        return BELAY_OK;
    }
    events->writer = belay_summary_writer_shared(events->directory, &mine);
    if (!events->writer)
        bly_error_copy(err, &mine);
    return mine.code;
}

belay_code bly_events_session(bly_events *events, belay_session *session, belay_error *err) {
    events->unstarted = 1;
    bly_writer_expect_start(events->writer);
    if (!events->writer || events->writer == events->given || bly_writer_has_graph(events->writer))
        return BELAY_OK;
    return belay_summary_writer_add_graph_once(events->writer, belay_session_graph(session), err);
}

belay_code bly_events_start(bly_events *events, int64_t step, belay_error *err) {
    if (!events->writer || !events->unstarted)
        return BELAY_OK;
    events->unstarted = 0;
    return bly_writer_start(events->writer, step, err);
}

belay_code bly_events_close(bly_events *events, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    if (!events->writer)
        return BELAY_OK;
    if (belay_summary_writer_flush(events->writer, 0, &mine) == BELAY_DEADLINE_EXCEEDED) {
        /* The writing goes on, and nothing is lost by not waiting for it. */
        bly_warn("%s: the disk is slow to take the last events",
                 belay_summary_writer_logdir(events->writer));
        belay_error_clear(&mine);
    }
    give_back(events);
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}
