#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "summary/event_file.h"
#include "summary/writer.h"
#include "summary/writer_impl.h"
#include "wire/unpack.h"

#include <string.h>

/* An encoding buffer that one event made larger than this is given back. */
#define KEEP_BYTES ((size_t)1 << 20)

/* What a call has to tell once it holds no lock. */
struct news {
    int closed;
    uint64_t full; /* bytes that wait while events are dropped */
};

static void tell(const belay_summary_writer *writer, const struct news *news) {
    if (news->closed)
        bly_warn("%s: events are added to a closed summary writer, and ignored", writer->logdir);
    if (news->full)
        bly_warn("%s: the disk does not keep up, and %llu bytes of events wait for it: scalars "
                 "and summaries are dropped until there is room",
                 writer->logdir, (unsigned long long)news->full);
}

/* A file that was made anew has neither the graph nor the metadata of tags. */
static void look_for_new_file_locked(belay_summary_writer *writer) {
    int renewals = bly_event_queue_renewals(writer->queue);
    if (renewals == writer->renewals)
        return;
    writer->renewals = renewals;
    writer->has_graph = 0;
    writer->graph_id = 0;
    bly_tag_set_free(&writer->metadata_tags);
}

/* Whether there is a file to add to (EV-16). */
static int is_open_locked(belay_summary_writer *writer, struct news *news) {
    if (writer->queue) {
        look_for_new_file_locked(writer);
        return 1;
    }
    news->closed = !writer->warned_closed;
    writer->warned_closed = 1;
    return 0;
}

/* Brings what was encoded into the scratch buffer on its way. */
static belay_code pass_on_locked(belay_summary_writer *writer, int may_drop, struct news *news,
                                 belay_error *err) {
    bly_buf *scratch = &writer->scratch;
    belay_code code = bly_event_queue_add(writer->queue, scratch->data, scratch->len,
                                          may_drop ? &news->full : NULL, err);
    bly_buf_clear(scratch);
    if (scratch->capacity > KEEP_BYTES)
        bly_buf_free(scratch);
    return code;
}

static belay_code add_locked(belay_summary_writer *writer, Bly__Event *event, int may_drop,
                             struct news *news, belay_error *err) {
    event->wall_time = bly_unix_time(); /* EV-07 */
    belay_code code = bly_event_put(&writer->scratch, event, err);
    if (code == BELAY_OK)
        code = pass_on_locked(writer, may_drop, news, err);
    if (code == BELAY_OK && event->what_case == BLY__EVENT__WHAT_GRAPH_DEF)
        writer->has_graph = 1;
    return code;
}

static belay_code add(belay_summary_writer *writer, Bly__Event *event, belay_error *err) {
    struct news news = {0, 0};
    belay_code code = BELAY_OK;
    bly_mutex_lock(&writer->lock);
    if (is_open_locked(writer, &news))
        code = add_locked(writer, event, 0, &news, err);
    bly_mutex_unlock(&writer->lock);
    tell(writer, &news);
    return code;
}

belay_code bly_check_tag(const char *tag, belay_error *err) {
    if (!tag)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the tag is NULL");
    if (!bly_is_utf8(tag))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "tag '%s' is not UTF-8", tag);
    return BELAY_OK;
}

belay_code belay_summary_writer_add_scalar(belay_summary_writer *writer, const char *tag,
                                           double value, int64_t step, belay_error *err) {
    if (!writer)
        return bly_no_writer(err);
    belay_code code = bly_check_tag(tag, err);
    if (code != BELAY_OK)
        return code;
    struct news news = {0, 0};
    bly_mutex_lock(&writer->lock);
    if (is_open_locked(writer, &news)) {
        code = bly_event_put_scalar(&writer->scratch, bly_unix_time(), step, tag, strlen(tag),
                                    (float)value, err);
        if (code == BELAY_OK)
            code = pass_on_locked(writer, 1, &news, err);
    }
    bly_mutex_unlock(&writer->lock);
    tell(writer, &news);
    return code;
}

/* Takes out the metadata of values whose tag had some already (EV-09), and remembers the other
 * tags. What is left with metadata is new. */
static belay_code strip_metadata_locked(belay_summary_writer *writer, Bly__Summary *summary,
                                        int *out_stripped, int *out_new, belay_error *err) {
    for (size_t i = 0; i < summary->n_value; i++) {
        Bly__Summary__Value *value = summary->value[i];
        if (value->metadata.len == 0)
            continue;
        if (bly_tag_set_has(&writer->metadata_tags, value->tag)) {
            value->metadata.len = 0; /* its memory is freed with the message */
            *out_stripped = 1;
        } else if (bly_tag_set_add(&writer->metadata_tags, value->tag)) {
            *out_new = 1;
        } else {
            summary->n_value = i; /* so that the caller forgets what was new before this one */
            return bly_fail_memory(err);
        }
    }
    return BELAY_OK;
}

static belay_code repack(const Bly__Summary *summary, bly_buf *out, Bly__Event *event,
                         belay_error *err) {
    char *to = bly_buf_reserve(out, bly__summary__get_packed_size(summary));
    if (!to)
        return bly_fail_memory(err);
    event->summary.len = bly__summary__pack(summary, (uint8_t *)to);
    event->summary.data = (uint8_t *)to;
    return BELAY_OK;
}

/* What a tag tells in its metadata alone is lost the second time: that is an error, then. */
static belay_code check_new_locked(const belay_summary_writer *writer, const Bly__Summary *summary,
                                   belay_error *err) {
    for (size_t i = 0; i < summary->n_value; i++)
        if (bly_tag_set_has(&writer->metadata_tags, summary->value[i]->tag))
            return bly_fail(err, BELAY_ALREADY_EXISTS, "%s has '%s' already: it can be added once",
                            writer->logdir, summary->value[i]->tag);
    return BELAY_OK;
}

static belay_code add_summary_locked(belay_summary_writer *writer, Bly__Summary *summary,
                                     Bly__Event *event, struct news *news, belay_error *err) {
    int stripped = 0, has_new = 0;
    size_t values = summary->n_value;
    bly_buf repacked = BLY_BUF_INIT;
    belay_code code = strip_metadata_locked(writer, summary, &stripped, &has_new, err);
    if (code == BELAY_OK && stripped)
        code = repack(summary, &repacked, event, err);
    /* The metadata of a tag comes once: an event with it must not be dropped. */
    if (code == BELAY_OK)
        code = add_locked(writer, event, !has_new, news, err);
    for (size_t i = 0; code != BELAY_OK && i < summary->n_value; i++)
        if (summary->value[i]->metadata.len > 0)
            bly_tag_set_remove(&writer->metadata_tags, summary->value[i]->tag);
    summary->n_value = values;
    bly_buf_free(&repacked);
    return code;
}

static belay_code check_values(const Bly__Summary *summary, belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < summary->n_value && code == BELAY_OK; i++)
        code = bly_check_tag(summary->value[i]->tag, err);
    return code;
}

static belay_code add_summary(belay_summary_writer *writer, const void *summary, size_t size,
                              int64_t step, int once, belay_error *err) {
    belay_code code = BELAY_OK;
    struct news news = {0, 0};
    Bly__Event event = BLY__EVENT__INIT;
    event.step = step;
    event.what_case = BLY__EVENT__WHAT_SUMMARY;
    event.summary = (ProtobufCBinaryData){size, (uint8_t *)(uintptr_t)summary};
    Bly__Summary *parsed = bly_wire_unpack(&bly__summary__descriptor, summary, size, &code);
    if (!parsed)
        return code == BELAY_DATA_LOSS ? bly_fail(err, BELAY_INVALID_ARGUMENT,
                                                  "these %zu bytes are not a Summary", size)
                                       : bly_fail_memory(err);
    code = check_values(parsed, err);
    if (code == BELAY_OK) {
        bly_mutex_lock(&writer->lock);
        if (once)
            code = check_new_locked(writer, parsed, err);
        if (code == BELAY_OK && is_open_locked(writer, &news))
            code = add_summary_locked(writer, parsed, &event, &news, err);
        bly_mutex_unlock(&writer->lock);
    }
    bly_wire_free(parsed);
    tell(writer, &news);
    return code;
}

belay_code belay_summary_writer_add_summary(belay_summary_writer *writer, const void *summary,
                                            size_t size, int64_t step, belay_error *err) {
    if (!writer)
        return bly_no_writer(err);
    if (!summary && size)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the summary is NULL");
    return add_summary(writer, summary, size, step, 0, err);
}

belay_code bly_writer_add_value(belay_summary_writer *writer, Bly__SummaryValues__Value *value,
                                int64_t step, int once, belay_error *err) {
    Bly__SummaryValues summary = BLY__SUMMARY_VALUES__INIT;
    summary.n_value = 1;
    summary.value = &value;
    size_t size = bly__summary_values__get_packed_size(&summary);
    uint8_t *packed = bly_malloc(size);
    if (!packed)
        return bly_fail_memory(err);
    belay_code code =
        add_summary(writer, packed, bly__summary_values__pack(&summary, packed), step, once, err);
    bly_free(packed);
    return code;
}

char *bly_as_utf8(const char *text) {
    char *copy = bly_strdup(text);
    for (char *at = copy; at && *at;) {
        size_t len = bly_utf8_length(at);
        if (len == 0)
            *at = '?';
        at += len ? len : 1;
    }
    return copy;
}

belay_code belay_summary_writer_add_session_log(belay_summary_writer *writer,
                                                belay_session_status status,
                                                const char *checkpoint_path, const char *message,
                                                int64_t step, belay_error *err) {
    if (!writer)
        return bly_no_writer(err);
    if (status < BELAY_SESSION_START || status > BELAY_SESSION_CHECKPOINT)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "session log status %d is not known", status);
    Bly__Event event = BLY__EVENT__INIT;
    Bly__SessionLog log = BLY__SESSION_LOG__INIT;
    char *path = bly_as_utf8(checkpoint_path ? checkpoint_path : "");
    char *text = bly_as_utf8(message ? message : "");
    belay_code code;
    if (path && text) {
        log.status = status;
        log.checkpoint_path = path;
        log.msg = text;
        event.step = step;
        event.what_case = BLY__EVENT__WHAT_SESSION_LOG;
        event.session_log = &log;
        code = add(writer, &event, err);
    } else {
        code = bly_fail_memory(err);
    }
    bly_free(path);
    bly_free(text);
    return code;
}

void bly_writer_expect_start(belay_summary_writer *writer) {
    if (!writer)
        return;
    bly_mutex_lock(&writer->lock);
    writer->start_expected = 1;
    bly_mutex_unlock(&writer->lock);
}

belay_code bly_writer_start(belay_summary_writer *writer, int64_t step, belay_error *err) {
    bly_mutex_lock(&writer->lock);
    int is_expected = writer->start_expected;
    writer->start_expected = 0;
    bly_mutex_unlock(&writer->lock);
    if (!is_expected)
        return BELAY_OK;
    return belay_summary_writer_add_session_log(writer, BELAY_SESSION_START, NULL, NULL, step, err);
}

static belay_code add_graph(belay_summary_writer *writer, Bly__Event *event, const void *bytes,
                            int64_t step, belay_error *err) {
    if (!writer)
        return bly_no_writer(err);
    if (!bytes)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the graph is NULL");
    event->step = step;
    return add(writer, event, err);
}

belay_code belay_summary_writer_add_graph(belay_summary_writer *writer, const void *graph_def,
                                          size_t size, int64_t step, belay_error *err) {
    Bly__Event event = BLY__EVENT__INIT;
    event.what_case = BLY__EVENT__WHAT_GRAPH_DEF;
    event.graph_def = (ProtobufCBinaryData){size, (uint8_t *)(uintptr_t)graph_def};
    return add_graph(writer, &event, graph_def, step, err);
}

belay_code belay_summary_writer_add_meta_graph(belay_summary_writer *writer,
                                               const void *meta_graph_def, size_t size,
                                               int64_t step, belay_error *err) {
    Bly__Event event = BLY__EVENT__INIT;
    event.what_case = BLY__EVENT__WHAT_META_GRAPH_DEF;
    event.meta_graph_def = (ProtobufCBinaryData){size, (uint8_t *)(uintptr_t)meta_graph_def};
    return add_graph(writer, &event, meta_graph_def, step, err);
}

static belay_code add_run_metadata_locked(belay_summary_writer *writer, Bly__Event *event,
                                          struct news *news, belay_error *err) {
    const char *tag = event->tagged_run_metadata->tag;
    if (!bly_tag_set_add(&writer->run_tags, tag))
        return bly_fail_memory(err);
    belay_code code = add_locked(writer, event, 0, news, err);
    if (code != BELAY_OK)
        bly_tag_set_remove(&writer->run_tags, tag);
    return code;
}

belay_code belay_summary_writer_add_run_metadata(belay_summary_writer *writer, const char *tag,
                                                 const void *run_metadata, size_t size,
                                                 int64_t step, belay_error *err) {
    if (!writer)
        return bly_no_writer(err);
    belay_code code = bly_check_tag(tag, err);
    if (code == BELAY_OK && !run_metadata && size)
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "the run metadata is NULL");
    if (code != BELAY_OK)
        return code;
    struct news news = {0, 0};
    Bly__Event event = BLY__EVENT__INIT;
    Bly__TaggedRunMetadata tagged = BLY__TAGGED_RUN_METADATA__INIT;
    tagged.tag = (char *)(uintptr_t)tag;
    tagged.run_metadata = (ProtobufCBinaryData){size, (uint8_t *)(uintptr_t)run_metadata};
    event.step = step;
    event.what_case = BLY__EVENT__WHAT_TAGGED_RUN_METADATA;
    event.tagged_run_metadata = &tagged;
    bly_mutex_lock(&writer->lock);
    if (bly_tag_set_has(&writer->run_tags, tag))
        code = bly_fail(err, BELAY_ALREADY_EXISTS,
                        "run metadata is tagged '%s' already: a tag can be used once", tag);
    else if (is_open_locked(writer, &news))
        code = add_run_metadata_locked(writer, &event, &news, err);
    bly_mutex_unlock(&writer->lock);
    tell(writer, &news);
    return code;
}
