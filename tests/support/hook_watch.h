/* What tests of hooks look at: the log lines that were written, and the events in a folder's files.
 * Everything is inline, so that a test includes what it needs. */
#ifndef HOOK_WATCH_H
#define HOOK_WATCH_H

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/thread.h"
#include "summary/event_file.h"
#include "wire/unpack.h"

#include <belay/log.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- the log ---- */

#define LOG_MOST 512

typedef struct log_line {
    belay_log_level level;
    char text[1024];
} log_line;

static bly_mutex log_lock; /* the event writer's thread may log too */
static log_line log_lines[LOG_MOST];
static size_t log_line_count;

static inline void keep_log_line(void *self, belay_log_level level, const char *message) {
    (void)self;
    bly_mutex_lock(&log_lock);
    if (log_line_count < LOG_MOST) {
        log_lines[log_line_count].level = level;
        snprintf(log_lines[log_line_count++].text, sizeof log_lines[0].text, "%s", message);
    }
    bly_mutex_unlock(&log_lock);
}

static inline void watch_log(void) {
    log_line_count = 0;
    bly_mutex_init(&log_lock);
    belay_log_set_callback(keep_log_line, NULL, BELAY_LOG_DEBUG);
}

static inline void unwatch_log(void) {
    belay_log_set_callback(NULL, NULL, BELAY_LOG_WARNING);
    bly_mutex_clean_up(&log_lock);
}

/* Lines of this level that hold `part`. */
static inline size_t count_log(belay_log_level level, const char *part) {
    size_t count = 0;
    for (size_t i = 0; i < log_line_count; i++)
        count += log_lines[i].level == level && strstr(log_lines[i].text, part) != NULL;
    return count;
}

/* The nth such line, from 0. */
static inline const char *log_with(const char *part, size_t nth) {
    for (size_t i = 0; i < log_line_count; i++)
        if (strstr(log_lines[i].text, part) && nth-- == 0)
            return log_lines[i].text;
    fail_msg("no log line with '%s'", part);
    return "";
}

/* ---- events ---- */

/* One event in a line: "START 1", "CHECKPOINT 10 path", "graph", "meta_graph", "NAME=VALUE 7",
 * "version" or "metadata step_2". */
typedef struct event_list {
    char lines[256][300];
    size_t count, files;
    const char *folder;
} event_list;

#define EVENT_LINE_ROOM 300

static inline char *next_event_line(event_list *list) {
    assert_true(list->count < sizeof list->lines / sizeof list->lines[0]);
    return list->lines[list->count++];
}

static inline void put_session_log(event_list *list, int64_t step, const Bly__SessionLog *log) {
    static const char *const statuses[] = {"?", "START", "STOP", "CHECKPOINT"};
    int has_path = log->checkpoint_path && log->checkpoint_path[0];
    snprintf(next_event_line(list), EVENT_LINE_ROOM, "%s %lld%s%s", statuses[log->status & 3],
             (long long)step, has_path ? " " : "", has_path ? log->checkpoint_path : "");
}

static inline void put_summary(event_list *list, int64_t step, ProtobufCBinaryData bytes) {
    belay_code code;
    Bly__Summary *summary =
        bly_wire_unpack(&bly__summary__descriptor, bytes.data, bytes.len, &code);
    assert_non_null(summary);
    if (summary->n_value == 0)
        snprintf(next_event_line(list), EVENT_LINE_ROOM, "summary %lld", (long long)step);
    for (size_t i = 0; i < summary->n_value; i++)
        snprintf(next_event_line(list), EVENT_LINE_ROOM, "%s=%g %lld", summary->value[i]->tag,
                 (double)summary->value[i]->simple_value, (long long)step);
    bly_wire_free(summary);
}

static inline void put_event(event_list *list, const Bly__Event *event) {
    switch (event->what_case) {
    case BLY__EVENT__WHAT_FILE_VERSION:
        strcpy(next_event_line(list), "version");
        break;
    case BLY__EVENT__WHAT_GRAPH_DEF:
        strcpy(next_event_line(list), "graph");
        break;
    case BLY__EVENT__WHAT_META_GRAPH_DEF:
        strcpy(next_event_line(list), "meta_graph");
        break;
    case BLY__EVENT__WHAT_SESSION_LOG:
        put_session_log(list, event->step, event->session_log);
        break;
    case BLY__EVENT__WHAT_TAGGED_RUN_METADATA:
        snprintf(next_event_line(list), EVENT_LINE_ROOM, "metadata %s",
                 event->tagged_run_metadata->tag);
        break;
    default:
        put_summary(list, event->step, event->summary);
        break;
    }
}

static inline belay_code read_event_file(void *self, const char *name, belay_error *err) {
    event_list *list = self;
    bly_buf bytes = BLY_BUF_INIT;
    belay_code code;
    if (!strstr(name, "tfevents"))
        return BELAY_OK;
    char *path = bly_path_join(list->folder, name);
    code = bly_file_read(path, 1 << 30, &bytes, err);
    bly_free(path);
    const unsigned char *at = (const unsigned char *)bytes.data, *payload = NULL;
    size_t len = bytes.len, payload_len = 0;
    while (code == BELAY_OK &&
           bly_record_next(&at, &len, &payload, &payload_len, NULL) == BELAY_OK) {
        Bly__Event *event = bly_wire_unpack(&bly__event__descriptor, payload, payload_len, &code);
        assert_non_null(event);
        put_event(list, event);
        bly_wire_free(event);
    }
    bly_buf_free(&bytes);
    list->files++;
    return code;
}

/* What has reached the files of a folder. Static: until the next call. */
static inline event_list *read_events(const char *folder) {
    static event_list list;
    list = (event_list){.count = 0};
    list.folder = folder;
    assert_int_equal(bly_directory_list(folder, read_event_file, &list, NULL), BELAY_OK);
    return &list;
}

/* All events whose line starts so, joined by "; ". */
static inline const char *events_with(const char *folder, const char *start) {
    static char text[4096];
    event_list *list = read_events(folder);
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < list->count; i++)
        if (strncmp(list->lines[i], start, strlen(start)) == 0)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", len ? "; " : "",
                                    list->lines[i]);
    return text;
}

#endif
