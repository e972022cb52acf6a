/* What TensorBoard's hparams plugin reads: three tags, all of it in their metadata. */
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include "summary/writer_impl.h"

#include <belay/hparams.h>

#include <math.h>
#include <string.h>

_Static_assert(sizeof(belay_hparams_experiment) ==
                   offsetof(belay_hparams_experiment, metric_count) + sizeof(size_t),
               "no tail padding");

/* ---- From the caller's words to messages ---- */

static belay_code check_text(const char *what, const char *text, belay_error *err) {
    if (text && !bly_is_utf8(text))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s '%s' is not UTF-8", what, text);
    return BELAY_OK;
}

static belay_code check_name(const char *what, const char *name, bly_tag_set *seen,
                             belay_error *err) {
    if (!name || !*name)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the name of a %s is missing", what);
    if (bly_tag_set_has(seen, name))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s '%s' is there twice", what, name);
    if (!bly_tag_set_add(seen, name))
        return bly_fail_memory(err);
    return check_text(what, name, err);
}

/* Protobuf's strings are never NULL. */
static char *text_of(const char *text) {
    return text ? (char *)(uintptr_t)text : (char *)(uintptr_t) "";
}

static belay_code set_value(Bly__HParamValue *out, const belay_hparam *hparam, belay_error *err) {
    /* TensorBoard cannot tell its page of such a number, and shows no run at all then. */
    if (hparam->type == BELAY_HPARAM_NUMBER && !isfinite(hparam->number))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "hyperparameter '%s' is %g, which TensorBoard cannot show: give it as text",
                        hparam->name, hparam->number);
    if (hparam->type == BELAY_HPARAM_TEXT && hparam->text && !bly_is_utf8(hparam->text))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the text of hyperparameter '%s' is not UTF-8",
                        hparam->name);
    bly__hparam_value__init(out);
    switch (hparam->type) {
    case BELAY_HPARAM_NUMBER:
        out->kind_case = BLY__HPARAM_VALUE__KIND_NUMBER_VALUE;
        out->number_value = hparam->number;
        return BELAY_OK;
    case BELAY_HPARAM_BOOL:
        out->kind_case = BLY__HPARAM_VALUE__KIND_BOOL_VALUE;
        out->bool_value = hparam->number != 0;
        return BELAY_OK;
    case BELAY_HPARAM_TEXT:
        out->kind_case = BLY__HPARAM_VALUE__KIND_STRING_VALUE;
        out->string_value = text_of(hparam->text);
        return BELAY_OK;
    default:
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "type %d of a hyperparameter is not known",
                        (int)hparam->type);
    }
}

/* ---- Into the file ---- */

static belay_code add_content(belay_summary_writer *writer, const char *tag,
                              const Bly__HParamsPluginData *data, belay_error *err) {
    Bly__SummaryValues__Value value = BLY__SUMMARY_VALUES__VALUE__INIT;
    Bly__SummaryMetadata metadata = BLY__SUMMARY_METADATA__INIT;
    Bly__SummaryMetadata__PluginData plugin = BLY__SUMMARY_METADATA__PLUGIN_DATA__INIT;
    /* TensorBoard wants a value: an empty vector is the smallest. */
    Bly__SummaryTensor tensor = BLY__SUMMARY_TENSOR__INIT;
    Bly__TensorShapeProto shape = BLY__TENSOR_SHAPE_PROTO__INIT;
    Bly__TensorShapeProto__Dim dim = BLY__TENSOR_SHAPE_PROTO__DIM__INIT, *dims = &dim;
    size_t size = bly__hparams_plugin_data__get_packed_size(data);
    uint8_t *content = bly_malloc(size);
    if (!content)
        return bly_fail_memory(err);
    plugin.plugin_name = (char *)(uintptr_t) "hparams";
    plugin.content.data = content;
    plugin.content.len = bly__hparams_plugin_data__pack(data, content);
    metadata.plugin_data = &plugin;
    shape.n_dim = 1;
    shape.dim = &dims;
    tensor.dtype = BELAY_FLOAT;
    tensor.tensor_shape = &shape;
    value.tag = (char *)(uintptr_t)tag;
    value.value_case = BLY__SUMMARY_VALUES__VALUE__VALUE_TENSOR;
    value.tensor = &tensor;
    value.metadata = &metadata;
    belay_code code = bly_writer_add_value(writer, &value, 0, 1, err);
    bly_free(content);
    return code;
}

/* ---- A session ---- */

/* One allocation for the entries, their values and the pointers to them. */
struct entry_room {
    Bly__HParamsSessionStart__Entry entry;
    Bly__HParamValue value;
};

static belay_code fill_entries(struct entry_room *room, Bly__HParamsSessionStart__Entry **pointers,
                               const belay_hparam *hparams, size_t count, belay_error *err) {
    bly_tag_set names = {NULL, 0, 0};
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < count && code == BELAY_OK; i++) {
        code = check_name("hyperparameter", hparams[i].name, &names, err);
        if (code == BELAY_OK)
            code = set_value(&room[i].value, &hparams[i], err);
        bly__hparams_session_start__entry__init(&room[i].entry);
        room[i].entry.key = text_of(hparams[i].name);
        room[i].entry.value = &room[i].value;
        pointers[i] = &room[i].entry;
    }
    bly_tag_set_free(&names);
    return code;
}

belay_code belay_summary_writer_add_hparams(belay_summary_writer *writer,
                                            const belay_hparam *hparams, size_t count,
                                            const char *group_name, belay_error *err) {
    Bly__HParamsPluginData data = BLY__HPARAMS_PLUGIN_DATA__INIT;
    Bly__HParamsSessionStart start = BLY__HPARAMS_SESSION_START__INIT;
    if (!writer)
        return bly_no_writer(err);
    if (!hparams && count)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%zu hyperparameters are NULL", count);
    belay_code code = check_text("group name", group_name, err);
    if (code != BELAY_OK)
        return code;
    struct entry_room *room = bly_calloc(count + 1, sizeof *room);
    start.hparams = bly_calloc(count + 1, sizeof *start.hparams);
    if (!room || !start.hparams)
        code = bly_fail_memory(err);
    if (code == BELAY_OK)
        code = fill_entries(room, start.hparams, hparams, count, err);
    if (code == BELAY_OK) {
        start.n_hparams = count;
        start.group_name = text_of(group_name);
        start.start_time_secs = bly_unix_time();
        data.data_case = BLY__HPARAMS_PLUGIN_DATA__DATA_SESSION_START_INFO;
        data.session_start_info = &start;
        code = add_content(writer, "_hparams_/session_start_info", &data, err);
    }
    bly_free(start.hparams);
    bly_free(room);
    return code;
}

belay_code belay_summary_writer_add_hparams_end(belay_summary_writer *writer,
                                                belay_hparams_status status, belay_error *err) {
    Bly__HParamsPluginData data = BLY__HPARAMS_PLUGIN_DATA__INIT;
    Bly__HParamsSessionEnd end = BLY__HPARAMS_SESSION_END__INIT;
    if (!writer)
        return bly_no_writer(err);
    if (status < BELAY_HPARAMS_SUCCESS || status > BELAY_HPARAMS_RUNNING)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "status %d of a session is not known",
                        (int)status);
    end.status = status;
    end.end_time_secs = bly_unix_time();
    data.data_case = BLY__HPARAMS_PLUGIN_DATA__DATA_SESSION_END_INFO;
    data.session_end_info = &end;
    return add_content(writer, "_hparams_/session_end_info", &data, err);
}

/* ---- An experiment ---- */

struct info_room {
    Bly__HParamInfo info;
    Bly__HParamInterval interval;
    Bly__HParamValues domain;
    Bly__HParamValue *values;
};

struct metric_room {
    Bly__MetricInfo info;
    Bly__MetricName name;
};

static belay_code fill_values(struct info_room *room, const belay_hparam_info *given,
                              belay_error *err) {
    belay_code code = BELAY_OK;
    bly__hparam_values__init(&room->domain);
    room->values = bly_calloc(given->value_count, sizeof *room->values);
    room->domain.values = bly_calloc(given->value_count, sizeof *room->domain.values);
    if (!room->values || !room->domain.values)
        return bly_fail_memory(err);
    for (size_t i = 0; i < given->value_count && code == BELAY_OK; i++) {
        code = set_value(&room->values[i], &given->values[i], err);
        room->domain.values[i] = &room->values[i];
    }
    room->domain.n_values = given->value_count;
    room->info.domain_discrete = &room->domain;
    return code;
}

static belay_code fill_info(struct info_room *room, const belay_hparam_info *given,
                            bly_tag_set *names, belay_error *err) {
    /* TensorBoard's numbers of our types. */
    static const int32_t types[] = {3, 2, 1};
    belay_code code = check_name("hyperparameter", given->name, names, err);
    if (code == BELAY_OK)
        code = check_text("display name", given->display_name, err);
    if (code == BELAY_OK)
        code = check_text("description", given->description, err);
    if (code == BELAY_OK && (given->type < BELAY_HPARAM_NUMBER || given->type > BELAY_HPARAM_TEXT))
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "type %d of hyperparameter '%s' is not known",
                        (int)given->type, given->name);
    if (code != BELAY_OK)
        return code;
    bly__hparam_info__init(&room->info);
    room->info.name = text_of(given->name);
    room->info.display_name = text_of(given->display_name);
    room->info.description = text_of(given->description);
    room->info.type = types[given->type];
    if (given->values && given->value_count)
        return fill_values(room, given, err);
    if (given->max > given->min) {
        bly__hparam_interval__init(&room->interval);
        room->interval.min_value = given->min;
        room->interval.max_value = given->max;
        room->info.domain_interval = &room->interval;
    }
    return BELAY_OK;
}

static belay_code fill_metric(struct metric_room *room, const belay_metric_info *given,
                              belay_error *err) {
    belay_code code = bly_check_tag(given->tag, err);
    if (code == BELAY_OK)
        code = check_text("group", given->group, err);
    if (code == BELAY_OK)
        code = check_text("display name", given->display_name, err);
    if (code == BELAY_OK)
        code = check_text("description", given->description, err);
    bly__metric_info__init(&room->info);
    bly__metric_name__init(&room->name);
    room->name.tag = text_of(given->tag);
    room->name.group = text_of(given->group);
    room->info.name = &room->name;
    room->info.display_name = text_of(given->display_name);
    room->info.description = text_of(given->description);
    return code;
}

static belay_code fill_experiment(Bly__HParamsExperiment *out, struct info_room *infos,
                                  struct metric_room *metrics,
                                  const belay_hparams_experiment *given, belay_error *err) {
    bly_tag_set names = {NULL, 0, 0};
    belay_code code = check_text("name", given->name, err);
    if (code == BELAY_OK)
        code = check_text("description", given->description, err);
    for (size_t i = 0; i < given->hparam_count && code == BELAY_OK; i++) {
        code = fill_info(&infos[i], &given->hparams[i], &names, err);
        out->hparam_infos[i] = &infos[i].info;
    }
    for (size_t i = 0; i < given->metric_count && code == BELAY_OK; i++) {
        code = fill_metric(&metrics[i], &given->metrics[i], err);
        out->metric_infos[i] = &metrics[i].info;
    }
    bly_tag_set_free(&names);
    out->n_hparam_infos = given->hparam_count;
    out->n_metric_infos = given->metric_count;
    out->name = text_of(given->name);
    out->description = text_of(given->description);
    out->time_created_secs = bly_unix_time();
    return code;
}

static belay_code add_experiment(belay_summary_writer *writer,
                                 const belay_hparams_experiment *given, belay_error *err) {
    Bly__HParamsPluginData data = BLY__HPARAMS_PLUGIN_DATA__INIT;
    Bly__HParamsExperiment experiment = BLY__HPARAMS_EXPERIMENT__INIT;
    struct info_room *infos = bly_calloc(given->hparam_count + 1, sizeof *infos);
    struct metric_room *metrics = bly_calloc(given->metric_count + 1, sizeof *metrics);
    experiment.hparam_infos = bly_calloc(given->hparam_count + 1, sizeof *experiment.hparam_infos);
    experiment.metric_infos = bly_calloc(given->metric_count + 1, sizeof *experiment.metric_infos);
    belay_code code;
    if (!infos || !metrics || !experiment.hparam_infos || !experiment.metric_infos)
        code = bly_fail_memory(err);
    else
        code = fill_experiment(&experiment, infos, metrics, given, err);
    if (code == BELAY_OK) {
        data.data_case = BLY__HPARAMS_PLUGIN_DATA__DATA_EXPERIMENT;
        data.experiment = &experiment;
        code = add_content(writer, "_hparams_/experiment", &data, err);
    }
    for (size_t i = 0; infos && i < given->hparam_count; i++) {
        bly_free(infos[i].values);
        bly_free(infos[i].domain.values);
    }
    bly_free(infos);
    bly_free(metrics);
    bly_free(experiment.hparam_infos);
    bly_free(experiment.metric_infos);
    return code;
}

belay_code belay_summary_writer_add_hparams_experiment(belay_summary_writer *writer,
                                                       const belay_hparams_experiment *experiment,
                                                       belay_error *err) {
    belay_hparams_experiment given;
    if (!writer)
        return bly_no_writer(err);
    belay_code code =
        bly_options_read(&given, sizeof given, experiment, "belay_hparams_experiment", err);
    if (code == BELAY_OK &&
        ((!given.hparams && given.hparam_count) || (!given.metrics && given.metric_count)))
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "%s of the experiment are NULL",
                        given.hparams ? "the metrics" : "the hyperparameters");
    return code == BELAY_OK ? add_experiment(writer, &given, err) : code;
}
