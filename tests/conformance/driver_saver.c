/* Verbs on savers, state files and checkpoints. */
#include "driver.h"

#include "base/file.h"
#include "checkpoint/saver_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The ops that a saver runs, as its SaverDef names them. */
static json_t *ops_of(const belay_saver *saver) {
    const Bly__SaverDef *def = saver->def;
    if (!def)
        return json_null();
    return json_pack("[s, s, s]", def->filename_tensor_name, def->save_tensor_name,
                     def->restore_op_name);
}

static const struct flag {
    const char *name;
    uint32_t bit;
} saver_flags[] = {
    {"build", BELAY_SAVER_BUILD},
    {"sharded", BELAY_SAVER_SHARDED},
    {"allow_empty", BELAY_SAVER_ALLOW_EMPTY},
    {"reshape", BELAY_SAVER_RESHAPE},
    {"pad_step_number", BELAY_SAVER_PAD_STEP_NUMBER},
    {"save_relative_paths", BELAY_SAVER_RELATIVE_PATHS},
};

/* What a saver covers: [names] or {key: name}. */
static void read_variables(const json_t *given, name_list *variables, name_list *keys) {
    const char *key;
    json_t *name;
    *variables = names_of(given);
    *keys = names_of(NULL);
    json_object_foreach((json_t *)(uintptr_t)given, key, name) {
        keys->of[keys->count++] = key;
        variables->of[variables->count++] = json_string_value(name);
    }
}

static belay_code new_saver(call *c) {
    belay_graph *graph = graph_of(c);
    belay_saver_options options = BELAY_SAVER_OPTIONS_INIT;
    const json_t *keep = json_object_get(c->all, "max_to_keep");
    const json_t *given = json_object_get(c->all, "variables");
    name_list variables, keys;
    options.max_to_keep = json_is_string(keep) ? BELAY_KEEP_ALL : (int32_t)json_integer_value(keep);
    options.keep_checkpoint_every_n_hours = number_in(c->all, "keep_checkpoint_every_n_hours", 0);
    for (size_t i = 0; i < sizeof saver_flags / sizeof saver_flags[0]; i++)
        if (is_true(c->all, saver_flags[i].name))
            options.flags |= saver_flags[i].bit;
    read_variables(given, &variables, &keys);
    options.variables = given ? variables.of : NULL;
    options.keys = keys.count ? keys.of : NULL;
    options.import_scope = text_in(c->all, "import_scope", NULL);
    belay_saver *saver = belay_saver_new(graph, &options, c->err);
    if (!saver)
        return belay_error_code(c->err);
    put(c->world, SAVER, main_text(c), saver);
    c->result =
        json_pack("{s:b, s:o}", "empty", (int)belay_saver_is_empty(saver), "ops", ops_of(saver));
    return BELAY_OK;
}

static belay_saver *saver_of(call *c) {
    return get(c, SAVER, text_in(c->all, "with", "v"));
}

static belay_code save(call *c) {
    belay_session *session = session_of(c);
    belay_saver *saver = saver_of(c);
    belay_save_options options = BELAY_SAVE_OPTIONS_INIT;
    const json_t *step = json_object_get(c->all, "step");
    const char *prefix = NULL;
    if (!session || !saver)
        return NO_OBJECT;
    options.step_tensor = json_string_value(step);
    options.latest_filename = text_in(c->all, "latest_filename", NULL);
    if (json_is_false(json_object_get(c->all, "write_meta_graph")))
        options.flags |= BELAY_SAVE_NO_META_GRAPH;
    if (json_is_false(json_object_get(c->all, "write_state")))
        options.flags |= BELAY_SAVE_NO_STATE;
    belay_code code =
        belay_saver_save(saver, session, main_text(c),
                         json_is_integer(step) ? json_integer_value(step) : BELAY_NO_STEP, &options,
                         &prefix, c->err);
    if (code == BELAY_OK && prefix)
        c->result = json_string(prefix);
    return code;
}

static belay_code restore(call *c) {
    belay_session *session = session_of(c);
    belay_saver *saver = saver_of(c);
    if (!session || !saver)
        return NO_OBJECT;
    return belay_saver_restore(saver, session, json_string_value(c->main), c->err);
}

static belay_code warm_start(call *c) {
    belay_session *session = session_of(c);
    name_list assignments = names_of(json_object_get(c->all, "assignments"));
    belay_warm_start_options options = BELAY_WARM_START_OPTIONS_INIT;
    if (!session)
        return NO_OBJECT;
    options.assignments = assignments.count ? assignments.of : NULL;
    /* What belay logs is no part of the trace: TensorFlow does this in initialisers. */
    json_t *unseen = json_array(), *events = collect_in(unseen);
    belay_code code = belay_warm_start(session, main_text(c), &options, NULL, c->err);
    collect_in(events);
    json_decref(unseen);
    return code;
}

static belay_code last(call *c) {
    belay_saver *saver = get(c, SAVER, main_text(c));
    if (!saver)
        return NO_OBJECT;
    c->result = json_array();
    for (size_t i = 0; i < belay_saver_last_checkpoint_count(saver); i++)
        json_array_append_new(c->result, json_string(belay_saver_last_checkpoint(saver, i)));
    return BELAY_OK;
}

static belay_code recover_last(call *c) {
    belay_saver *saver = saver_of(c);
    name_list prefixes = names_of(c->main);
    if (!saver)
        return NO_OBJECT;
    return belay_saver_recover_last_checkpoints(saver, prefixes.of, prefixes.count, c->err);
}

/* ---- the state file ---- */

static json_t *seconds_text(double value) {
    char text[64];
    snprintf(text, sizeof text, "%.6g", value);
    return json_string(text);
}

static belay_code state(call *c) {
    bly_state found = BLY_STATE_INIT;
    belay_code code = bly_state_read(main_text(c), text_in(c->all, "name", NULL), &found, c->err);
    if (code == BELAY_NOT_FOUND) {
        belay_error_clear(c->err);
        return BELAY_OK;
    }
    if (code != BELAY_OK)
        return code;
    json_t *paths = json_array(), *times = json_array();
    for (size_t i = 0; i < found.count; i++) {
        json_array_append_new(paths, json_string(found.paths[i]));
        if (found.timestamps)
            json_array_append_new(times, seconds_text(found.timestamps[i]));
    }
    c->result = json_pack("{s:s, s:o, s:o, s:o}", "latest", found.latest, "all", paths,
                          "timestamps", times, "last_preserved",
                          seconds_text(found.has_last_preserved ? found.last_preserved : 0));
    bly_state_free(&found);
    return BELAY_OK;
}

static belay_code write_state(call *c) {
    name_list paths = names_of(json_object_get(c->all, "all"));
    const json_t *times = json_object_get(c->all, "timestamps");
    double seconds[NAMES_MOST];
    int appended;
    bly_state content = BLY_STATE_INIT;
    content.latest = (char *)(uintptr_t)text_in(c->all, "latest", NULL);
    content.paths = (char **)(uintptr_t)paths.of;
    content.count = paths.count;
    for (size_t i = 0; i < json_array_size(times) && i < NAMES_MOST; i++)
        seconds[i] = json_number_value(json_array_get(times, i));
    if (times && json_array_size(times) != paths.count)
        return fail(c, NO_VERB, "a bly_state has as many times as paths");
    content.timestamps = times ? seconds : NULL;
    content.has_last_preserved = has(c->all, "last_preserved");
    content.last_preserved = number_in(c->all, "last_preserved", 0);
    return bly_state_write(main_text(c), text_in(c->all, "name", NULL), &content,
                           is_true(c->all, "relative"), &appended, c->err);
}

static belay_code latest(call *c) {
    const char *name = text_in(c->all, "name", NULL);
    char *prefix = NULL;
    belay_code code = BELAY_OK;
    if (name) {
        code = bly_state_latest(main_text(c), name, &prefix, NULL, c->err);
    } else {
        prefix = belay_latest_checkpoint(main_text(c), c->err);
        code = belay_error_code(c->err);
    }
    if (code == BELAY_NOT_FOUND) {
        belay_error_clear(c->err);
        code = BELAY_OK;
    }
    if (prefix)
        c->result = json_string(prefix);
    belay_checkpoint_path_free(prefix);
    return code;
}

static belay_code exists(call *c) {
    c->result = json_boolean(bly_checkpoint_exists(main_text(c)));
    return BELAY_OK;
}

static belay_code mtimes(call *c) {
    name_list prefixes = names_of(c->main);
    double seconds;
    c->result = json_array();
    for (size_t i = 0; i < prefixes.count; i++)
        if (bly_checkpoint_mtime(prefixes.of[i], &seconds))
            json_array_append_new(c->result, json_integer((json_int_t)seconds));
    return BELAY_OK;
}

static belay_code remove_checkpoint(call *c) {
    return bly_checkpoint_remove(main_text(c), c->err);
}

static belay_code meta_name(call *c) {
    char *name = bly_checkpoint_meta_name(main_text(c));
    c->result = json_string(name);
    belay_checkpoint_path_free(name);
    return BELAY_OK;
}

/* ---- what a checkpoint holds ---- */

static belay_tensor *read_strings(const belay_checkpoint_reader *reader,
                                  const belay_checkpoint_tensor *t, belay_error *err) {
    belay_checkpoint_strings *from = belay_checkpoint_reader_read_strings(reader, t->name, err);
    size_t count = belay_checkpoint_strings_count(from);
    const char **texts = calloc(count + 1, sizeof *texts);
    size_t *sizes = calloc(count + 1, sizeof *sizes);
    for (size_t i = 0; from && i < count; i++)
        texts[i] = belay_checkpoint_strings_at(from, i, &sizes[i]);
    belay_tensor *tensor =
        from ? belay_tensor_new_strings(texts, sizes, t->dims, (uint32_t)t->rank, err) : NULL;
    free(texts);
    free(sizes);
    belay_checkpoint_strings_free(from);
    return tensor;
}

static belay_tensor *read_tensor(const belay_checkpoint_reader *reader,
                                 const belay_checkpoint_tensor *t, belay_error *err) {
    if (t->dtype == BELAY_STRING)
        return read_strings(reader, t, err);
    belay_tensor *tensor = belay_tensor_new(t->dtype, t->dims, (uint32_t)t->rank, err);
    if (tensor && belay_checkpoint_reader_read(reader, t->name, belay_tensor_data(tensor),
                                               t->size_bytes, err) != BELAY_OK) {
        belay_tensor_free(tensor);
        return NULL;
    }
    return tensor;
}

static json_t *content_text(const belay_checkpoint_reader *reader, const belay_checkpoint_tensor *t,
                            int with_values, belay_error *err) {
    belay_tensor *tensor = with_values ? read_tensor(reader, t, err) : NULL;
    json_t *what = with_values ? text_of(tensor) : shape_of(t->dtype, t->rank, t->dims);
    json_t *text = json_sprintf("%s %s", t->name, json_string_value(what));
    json_decref(what);
    belay_tensor_free(tensor);
    return text;
}

static belay_code contents(call *c) {
    belay_checkpoint_reader *reader = belay_checkpoint_reader_load(main_text(c), c->err);
    if (!reader)
        return belay_error_code(c->err);
    c->result = json_array();
    for (size_t i = 0; i < belay_checkpoint_reader_count(reader); i++)
        json_array_append_new(c->result, content_text(reader, belay_checkpoint_reader_at(reader, i),
                                                      is_true(c->all, "values"), c->err));
    belay_checkpoint_reader_free(reader);
    return belay_error_code(c->err);
}

const verb saver_verbs[] = {
    {"saver", new_saver},
    {"save", save},
    {"restore", restore},
    {"warm_start", warm_start},
    {"last", last},
    {"recover_last", recover_last},
    {"state", state},
    {"write_state", write_state},
    {"latest", latest},
    {"exists", exists},
    {"mtimes", mtimes},
    {"remove", remove_checkpoint},
    {"meta_name", meta_name},
    {"contents", contents},
    {NULL, NULL},
};
