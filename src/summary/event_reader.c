#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "summary/event_file.h"
#include "summary/event_values.h"
#include "wire/unpack.h"

#include <belay/events.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES ((size_t)256 << 10)

/* What a tag's metadata said: it comes with the first value only (EV-09). */
struct tag_plugin {
    char *tag;
    char *plugin;
};

struct belay_event_reader {
    char *path;
    int fd;
    bly_buf bytes; /* of the file; what is before `start` was read */
    size_t start;
    uint64_t position; /* of `start` in the file */
    uint64_t count;
    uint64_t incomplete;
    struct tag_plugin *plugins; /* sorted by tag */
    size_t plugin_count;
    size_t plugin_capacity;
    belay_error damage;

    /* the latest event */
    Bly__Event *message;
    Bly__SummaryValues *summary;
    belay_summary_value *values;
    size_t value_capacity;
    belay_event event;
};

belay_event_reader *belay_event_reader_open(const char *path, belay_error *err) {
    struct stat info;
    if (!path) {
        bly_fail(err, BELAY_INVALID_ARGUMENT, "the path is NULL");
        return NULL;
    }
    /* Opening a pipe would wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0) {
        bly_fail_errno(err, errno, "cannot read %s", path);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    belay_event_reader *reader = NULL;
    if (!S_ISREG(info.st_mode))
        bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is not a file", path);
    else if (!(reader = bly_calloc(1, sizeof *reader)) || !(reader->path = bly_strdup(path)))
        bly_fail_memory(err);
    if (!reader || !reader->path) {
        bly_free(reader);
        close(fd);
        return NULL;
    }
    reader->fd = fd;
    belay_error_clear(&reader->damage);
    return reader;
}

static void forget_event(belay_event_reader *reader) {
    bly_wire_free(reader->message);
    bly_wire_free(reader->summary);
    reader->message = NULL;
    reader->summary = NULL;
}

void belay_event_reader_free(belay_event_reader *reader) {
    if (!reader)
        return;
    forget_event(reader);
    for (size_t i = 0; i < reader->plugin_count; i++) {
        bly_free(reader->plugins[i].tag);
        bly_free(reader->plugins[i].plugin);
    }
    bly_free(reader->plugins);
    bly_free(reader->values);
    bly_buf_free(&reader->bytes);
    close(reader->fd);
    bly_free(reader->path);
    bly_free(reader);
}

/* ---- Which plugin a tag is for ---- */

static size_t place_of(const belay_event_reader *reader, const char *tag) {
    size_t low = 0, high = reader->plugin_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(reader->plugins[middle].tag, tag) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const char *plugin_of(const belay_event_reader *reader, const char *tag) {
    size_t at = place_of(reader, tag);
    int known = at < reader->plugin_count && !strcmp(reader->plugins[at].tag, tag);
    return known ? reader->plugins[at].plugin : "";
}

/* The first metadata of a tag decides, as in TensorBoard. 0 when memory is out. */
static int remember_plugin(belay_event_reader *reader, const char *tag, const char *plugin) {
    size_t at = place_of(reader, tag);
    if (at < reader->plugin_count && !strcmp(reader->plugins[at].tag, tag))
        return 1;
    struct tag_plugin one = {bly_strdup(tag), bly_strdup(plugin)};
    if (!one.tag || !one.plugin ||
        !bly_grow(&reader->plugins, reader->plugin_count, &reader->plugin_capacity, sizeof one)) {
        bly_free(one.tag);
        bly_free(one.plugin);
        return 0;
    }
    memmove(reader->plugins + at + 1, reader->plugins + at,
            (reader->plugin_count - at) * sizeof one);
    reader->plugins[at] = one;
    reader->plugin_count++;
    return 1;
}

/* ---- From bytes to an event ---- */

static belay_code read_values(belay_event_reader *reader, belay_error *err) {
    const Bly__SummaryValues *summary = reader->summary;
    if (summary->n_value > reader->value_capacity) {
        belay_summary_value *more =
            bly_realloc(reader->values, summary->n_value * sizeof *reader->values);
        if (!more)
            return bly_fail_memory(err);
        reader->values = more;
        reader->value_capacity = summary->n_value;
    }
    for (size_t i = 0; i < summary->n_value; i++) {
        const Bly__SummaryValues__Value *value = summary->value[i];
        if (value->metadata && value->metadata->plugin_data &&
            !remember_plugin(reader, value->tag, value->metadata->plugin_data->plugin_name))
            return bly_fail_memory(err);
        bly_event_value(value, plugin_of(reader, value->tag), &reader->values[i]);
    }
    reader->event.values = reader->values;
    reader->event.value_count = summary->n_value;
    return BELAY_OK;
}

static void set_data(belay_event *event, belay_event_kind kind, const ProtobufCBinaryData *bytes) {
    event->kind = kind;
    event->data = bytes->data;
    event->size = bytes->len;
}

static void read_session_log(belay_event *event, const Bly__SessionLog *log) {
    event->kind = BELAY_EVENT_SESSION_LOG;
    event->status = log->status;
    event->checkpoint_path = log->checkpoint_path;
    event->text = log->msg;
}

static belay_code read_summary(belay_event_reader *reader, belay_error *err) {
    belay_code code;
    const ProtobufCBinaryData *bytes = &reader->message->summary;
    set_data(&reader->event, BELAY_EVENT_SUMMARY, bytes);
    reader->summary =
        bly_wire_unpack(&bly__summary_values__descriptor, bytes->data, bytes->len, &code);
    if (reader->summary)
        return read_values(reader, err);
    return code == BELAY_DATA_LOSS ? bly_fail(err, code, "an event's summary is no Summary")
                                   : bly_fail_memory(err);
}

static belay_code read_event(belay_event_reader *reader, belay_error *err) {
    const Bly__Event *message = reader->message;
    belay_event *event = &reader->event;
    *event = (belay_event){.wall_time = message->wall_time,
                           .step = message->step,
                           .offset = reader->position,
                           .text = "",
                           .checkpoint_path = "",
                           .writer = ""};
    if (message->source_metadata)
        event->writer = message->source_metadata->writer;
    switch (message->what_case) {
    case BLY__EVENT__WHAT_FILE_VERSION:
        event->kind = BELAY_EVENT_FILE_VERSION;
        event->text = message->file_version;
        break;
    case BLY__EVENT__WHAT_GRAPH_DEF:
        set_data(event, BELAY_EVENT_GRAPH_DEF, &message->graph_def);
        break;
    case BLY__EVENT__WHAT_META_GRAPH_DEF:
        set_data(event, BELAY_EVENT_META_GRAPH_DEF, &message->meta_graph_def);
        break;
    case BLY__EVENT__WHAT_TAGGED_RUN_METADATA:
        set_data(event, BELAY_EVENT_RUN_METADATA, &message->tagged_run_metadata->run_metadata);
        event->text = message->tagged_run_metadata->tag;
        break;
    case BLY__EVENT__WHAT_LOG_MESSAGE:
        event->kind = BELAY_EVENT_LOG_MESSAGE;
        event->text = message->log_message->message;
        break;
    case BLY__EVENT__WHAT_SESSION_LOG:
        read_session_log(event, message->session_log);
        break;
    case BLY__EVENT__WHAT_SUMMARY:
        return read_summary(reader, err);
    default:
        break;
    }
    return BELAY_OK;
}

static belay_code parse_event(belay_event_reader *reader, const void *payload, size_t len,
                              belay_error *err) {
    belay_code code;
    reader->message = bly_wire_unpack(&bly__event__descriptor, payload, len, &code);
    if (reader->message)
        return read_event(reader, err);
    return code == BELAY_DATA_LOSS ? bly_fail(err, code, "a record is not an Event")
                                   : bly_fail_memory(err);
}

/* ---- From the file to bytes ---- */

/* Appends what comes next in the file. Sets *out_more to 0 at its end. */
static belay_code read_more(belay_event_reader *reader, int *out_more, belay_error *err) {
    bly_buf *bytes = &reader->bytes;
    if (reader->start > 0) {
        bytes->len -= reader->start;
        memmove(bytes->data, bytes->data + reader->start, bytes->len);
        reader->start = 0;
    }
    /* A large record makes the steps larger, so that it is not moved too often. */
    size_t want = bytes->len > READ_BYTES ? bytes->len : READ_BYTES;
    char *to = bly_buf_reserve(bytes, want);
    if (!to) {
        bytes->failed = 0; /* what it holds is whole */
        return bly_fail_memory(err);
    }
    ssize_t got;
    do
        got = pread(reader->fd, to, want, (off_t)(reader->position + bytes->len));
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return bly_fail_errno(err, errno, "cannot read %s", reader->path);
    bytes->len += (size_t)got;
    *out_more = got > 0;
    return BELAY_OK;
}

/* Says where, once and for all. */
static belay_code set_damage(belay_event_reader *reader, const belay_error *what,
                             belay_error *err) {
    if (reader->position == 0)
        bly_fail(&reader->damage, BELAY_DATA_LOSS,
                 "%s is not an event file, or its beginning is damaged", reader->path);
    else
        bly_fail(&reader->damage, BELAY_DATA_LOSS,
                 "%s is damaged at byte %llu, after %llu events: %s", reader->path,
                 (unsigned long long)reader->position, (unsigned long long)reader->count,
                 what->message);
    bly_error_copy(err, &reader->damage);
    return BELAY_DATA_LOSS;
}

/* The next event that is whole. BELAY_OUT_OF_RANGE at the end. */
static belay_code advance(belay_event_reader *reader, belay_error *err) {
    const unsigned char *payload = NULL;
    size_t payload_len = 0, len = 0;
    belay_code code;
    for (int more = 1;;) {
        /* Reading may move the bytes: where they lie is looked up anew each time. */
        const unsigned char *at =
            reader->bytes.data ? (unsigned char *)reader->bytes.data + reader->start : NULL;
        len = reader->bytes.len - reader->start;
        code = bly_record_next(&at, &len, &payload, &payload_len, err);
        if (code != BELAY_OUT_OF_RANGE || !more)
            break;
        code = read_more(reader, &more, err);
        if (code != BELAY_OK)
            return code;
    }
    reader->incomplete = code == BELAY_OUT_OF_RANGE ? len : 0;
    if (code == BELAY_OK)
        code = parse_event(reader, payload, payload_len, err);
    if (code != BELAY_OK)
        return code;
    size_t record = BLY_RECORD_HEAD + payload_len + BLY_RECORD_TAIL;
    reader->start += record;
    reader->position += record;
    reader->count++;
    return BELAY_OK;
}

const belay_event *belay_event_reader_next(belay_event_reader *reader, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    if (!reader) {
        bly_fail(err, BELAY_INVALID_ARGUMENT, "the event reader is NULL");
        return NULL;
    }
    forget_event(reader);
    if (reader->damage.code != BELAY_OK) {
        bly_error_copy(err, &reader->damage);
        return NULL;
    }
    belay_code code = advance(reader, &mine);
    if (code == BELAY_DATA_LOSS) {
        set_damage(reader, &mine, err);
        return NULL;
    }
    if (err)
        belay_error_clear(err);
    if (code == BELAY_OK)
        return &reader->event;
    if (code != BELAY_OUT_OF_RANGE)
        bly_error_copy(err, &mine);
    return NULL;
}

uint64_t belay_event_reader_count(const belay_event_reader *reader) {
    return reader ? reader->count : 0;
}

uint64_t belay_event_reader_position(const belay_event_reader *reader) {
    return reader ? reader->position : 0;
}

uint64_t belay_event_reader_incomplete_bytes(const belay_event_reader *reader) {
    return reader ? reader->incomplete : 0;
}
