/* Verbs on event files and their writers. */
#include "driver.h"

#include "base/file.h"
#include "wire/summary.pb-c.h"

#include <belay/events.h>
#include <belay/summary.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const statuses[] = {"?", "START", "STOP", "CHECKPOINT"};

static belay_code open_writer(call *c) {
    belay_summary_writer_options options = BELAY_SUMMARY_WRITER_OPTIONS_INIT;
    if (has(c->all, "graph")) {
        options.graph = graph_of(c);
        if (!options.graph)
            return belay_error_code(c->err);
    }
    belay_summary_writer *writer =
        belay_summary_writer_open(text_in(c->all, "folder", ""), &options, c->err);
    if (!writer)
        return belay_error_code(c->err);
    put(c->world, WRITER, main_text(c), writer);
    return BELAY_OK;
}

static belay_code add_described(call *c, belay_summary_writer *to, int64_t step) {
    Bly__SummaryValues summary = BLY__SUMMARY_VALUES__INIT;
    Bly__SummaryValues__Value value = BLY__SUMMARY_VALUES__VALUE__INIT, *values = &value;
    Bly__SummaryMetadata metadata = BLY__SUMMARY_METADATA__INIT;
    Bly__SummaryMetadata__PluginData plugin = BLY__SUMMARY_METADATA__PLUGIN_DATA__INIT;
    uint8_t bytes[512];
    plugin.plugin_name = (char *)(uintptr_t)text_in(c->all, "plugin", "");
    metadata.plugin_data = &plugin;
    value.tag = (char *)(uintptr_t)text_in(c->all, "summary", "");
    value.value_case = BLY__SUMMARY_VALUES__VALUE__VALUE_SIMPLE_VALUE;
    value.simple_value = (float)number_in(c->all, "value", 0);
    value.metadata = &metadata;
    summary.n_value = 1;
    summary.value = &values;
    if (bly__summary_values__get_packed_size(&summary) > sizeof bytes)
        return fail(c, BELAY_INVALID_ARGUMENT, "the summary is too long");
    size_t size = bly__summary_values__pack(&summary, bytes);
    return belay_summary_writer_add_summary(to, bytes, size, step, c->err);
}

static belay_code add_histogram(call *c, belay_summary_writer *to, int64_t step) {
    double values[64];
    const json_t *given = json_object_get(c->all, "values");
    size_t count = json_array_size(given);
    for (size_t i = 0; i < count && i < 64; i++)
        values[i] = json_number_value(json_array_get(given, i));
    return belay_summary_writer_add_histogram(to, text_in(c->all, "histogram", ""), values,
                                              BELAY_DOUBLE, count < 64 ? count : 64, step, c->err);
}

static belay_session_status status_named(const char *name) {
    for (belay_session_status i = 0; i < 4; i++)
        if (!strcmp(statuses[i], name))
            return i;
    return 0;
}

static belay_code add_event(call *c) {
    belay_summary_writer *to = get(c, WRITER, main_text(c));
    int64_t step = (int64_t)number_in(c->all, "step", 0);
    if (!to)
        return belay_error_code(c->err);
    if (has(c->all, "scalar"))
        return belay_summary_writer_add_scalar(to, text_in(c->all, "scalar", ""),
                                               number_in(c->all, "value", 0), step, c->err);
    if (has(c->all, "summary"))
        return add_described(c, to, step);
    if (has(c->all, "histogram"))
        return add_histogram(c, to, step);
    if (has(c->all, "log"))
        return belay_summary_writer_add_session_log(to, status_named(text_in(c->all, "log", "")),
                                                    NULL, text_in(c->all, "says_log", ""), step,
                                                    c->err);
    if (has(c->all, "metadata"))
        return belay_summary_writer_add_run_metadata(to, text_in(c->all, "metadata", ""), "", 0,
                                                     step, c->err);
    /* Python's add_graph has no meta graph; the bytes themselves do not matter here. */
    return graph_of(c) ? belay_summary_writer_add_graph(to, "", 0, step, c->err)
                       : belay_error_code(c->err);
}

static belay_code do_with_writer(call *c) {
    belay_summary_writer *to = get(c, WRITER, main_text(c));
    const char *what = text_in(c->all, "do", "");
    if (!to)
        return belay_error_code(c->err);
    if (!strcmp(what, "flush"))
        return belay_summary_writer_flush(to, BELAY_FOREVER, c->err);
    if (!strcmp(what, "close"))
        return belay_summary_writer_close(to, BELAY_FOREVER, c->err);
    return belay_summary_writer_reopen(to, c->err);
}

/* ---- what files hold ---- */

static void add_once(json_t *lines, const char *line) {
    for (size_t i = 0; i < json_array_size(lines); i++)
        if (!strcmp(json_string_value(json_array_get(lines, i)), line))
            return;
    json_array_append_new(lines, json_string(line));
}

static void add_value_line(json_t *lines, const belay_summary_value *value, int64_t step,
                           const char *plugin, int ranges) {
    char text[512];
    if (value->kind == BELAY_VALUE_HISTOGRAM && ranges)
        snprintf(text, sizeof text, "%s %lld: %g from %g to %g%s", value->tag, (long long)step,
                 value->count, value->min, value->max, plugin);
    else if (value->kind == BELAY_VALUE_HISTOGRAM)
        snprintf(text, sizeof text, "%s %lld: %g values%s", value->tag, (long long)step,
                 value->count, plugin);
    else if (!strcmp(value->tag, "global_step/sec"))
        snprintf(text, sizeof text, "%s %lld:%s", value->tag, (long long)step, plugin);
    else
        snprintf(text, sizeof text, "%s %lld: %.6g%s", value->tag, (long long)step, value->number,
                 plugin);
    json_array_append_new(lines, json_string(text));
}

/* The plugin where this very value names it, as the file has it. */
static void add_values(json_t *lines, const belay_event *event, int ranges) {
    Bly__SummaryValues *summary =
        bly__summary_values__unpack(NULL, event->size, (const uint8_t *)event->data);
    for (uint64_t i = 0; summary && i < event->value_count; i++) {
        char plugin[128] = "";
        if (summary->value[i]->metadata && summary->value[i]->metadata->plugin_data)
            snprintf(plugin, sizeof plugin, " for %s",
                     summary->value[i]->metadata->plugin_data->plugin_name);
        add_value_line(lines, &event->values[i], event->step, plugin, ranges);
    }
    bly__summary_values__free_unpacked(summary, NULL);
}

static void add_line(json_t *lines, const belay_event *event, int ranges) {
    switch (event->kind) {
    case BELAY_EVENT_SUMMARY:
        add_values(lines, event, ranges);
        break;
    case BELAY_EVENT_SESSION_LOG:
        json_array_append_new(
            lines, json_sprintf("%s %lld %s%s", statuses[event->status & 3], (long long)event->step,
                                bly_path_base(event->checkpoint_path), event->text));
        break;
    case BELAY_EVENT_RUN_METADATA:
        json_array_append_new(
            lines, json_sprintf("run_metadata %lld %s", (long long)event->step, event->text));
        break;
    case BELAY_EVENT_FILE_VERSION:
        json_array_append_new(lines, json_string(event->text));
        break;
    default:
        add_once(lines, event->kind == BELAY_EVENT_GRAPH_DEF ? "graph_def" : "meta_graph_def");
    }
}

struct listing {
    const char *folder;
    json_t *files;
    int ranges;
};

static belay_code list_file(void *self, const char *name, belay_error *err) {
    struct listing *listing = self;
    char path[4096];
    const belay_event *event;
    if (!strstr(name, "tfevents"))
        return BELAY_OK;
    snprintf(path, sizeof path, "%s/%s", listing->folder, name);
    belay_event_reader *reader = belay_event_reader_open(path, err);
    if (!reader)
        return belay_error_code(err);
    json_t *lines = json_array();
    while ((event = belay_event_reader_next(reader, err)) != NULL)
        add_line(lines, event, listing->ranges);
    json_array_append_new(listing->files, lines);
    belay_event_reader_free(reader);
    return belay_error_code(err);
}

static belay_code events(call *c) {
    struct listing listing = {main_text(c), json_array(), is_true(c->all, "ranges")};
    belay_code code = BELAY_OK;
    if (bly_is_directory(main_text(c)))
        code = bly_directory_list(main_text(c), list_file, &listing, c->err);
    c->result = listing.files;
    return code;
}

const verb event_verbs[] = {
    {"writer", open_writer}, {"add", add_event}, {"writer_do", do_with_writer},
    {"events", events},      {NULL, NULL},
};
