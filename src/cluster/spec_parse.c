/* The two forms in which people write clusters: "ps=a:1,b:2;worker=c:3", and JSON. */
#include "base/error.h"
#include "base/locale.h"
#include "base/mem.h"
#include "cluster/spec.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define FORM "JOB=HOST:PORT,HOST:PORT;JOB=..., or a JSON object of lists of addresses"

/* ---- JSON ---- */

static const char *type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

static belay_code add_json_task(belay_cluster_spec *spec, const char *job, int32_t index,
                                const json_t *address, belay_error *err) {
    if (!json_is_string(address))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the address of job %s task %d is %s, not a string \"HOST:PORT\"", job,
                        (int)index, type_name(address));
    return belay_cluster_spec_add_task(spec, job, index, json_string_value(address), err);
}

/* Digits only: Python's int() takes more, and whoever writes " 1_0" means something else. */
static int read_index(const char *text, int32_t *out) {
    int64_t value = 0;
    if (!*text)
        return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        value = value * 10 + (*text - '0');
        if (value > INT32_MAX)
            return 0;
    }
    *out = (int32_t)value;
    return 1;
}

static belay_code add_json_job(belay_cluster_spec *spec, const char *job, json_t *tasks,
                               belay_error *err) {
    const char *key;
    json_t *address;
    int32_t index;
    belay_code code = belay_cluster_spec_add_job(spec, job, NULL, err);
    if (code != BELAY_OK)
        return code;
    if (json_is_array(tasks)) {
        for (size_t i = 0; code == BELAY_OK && i < json_array_size(tasks); i++)
            code = add_json_task(spec, job, (int32_t)i, json_array_get(tasks, i), err);
        return code;
    }
    if (!json_is_object(tasks))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the tasks of job %s are %s, not a list of addresses or a map from an "
                        "index to an address",
                        job, type_name(tasks));
    json_object_foreach(tasks, key, address) {
        if (!read_index(key, &index))
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "job %s has a task '%s': the index of a task is a whole number", job,
                            key);
        code = add_json_task(spec, job, index, address, err);
        if (code != BELAY_OK)
            return code == BELAY_ALREADY_EXISTS
                       ? bly_fail(err, BELAY_INVALID_ARGUMENT, "job %s has two tasks %d", job,
                                  (int)index)
                       : code;
    }
    return BELAY_OK;
}

belay_code bly_cluster_add_json(belay_cluster_spec *spec, const void *object, const char *what,
                                belay_error *err) {
    json_t *jobs = (json_t *)(uintptr_t)object;
    const char *name;
    json_t *tasks;
    if (!json_is_object(jobs))
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s is %s, not an object that maps jobs to addresses", what,
                        type_name(jobs));
    json_object_foreach(jobs, name, tasks) {
        belay_code code = add_json_job(spec, name, tasks, err);
        if (code != BELAY_OK)
            return code;
    }
    return BELAY_OK;
}

static belay_code parse_json(belay_cluster_spec *spec, const char *text, belay_error *err) {
    json_error_t wrong;
    bly_locale was = bly_locale_plain();
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &wrong);
    bly_locale_restore(was);
    if (!object && json_error_code(&wrong) == json_error_out_of_memory)
        return bly_fail_memory(err);
    if (!object)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "line %d, column %d: %s", wrong.line,
                        wrong.column, wrong.text);
    belay_code code = bly_cluster_add_json(spec, object, "the cluster", err);
    json_decref(object);
    return code;
}

/* ---- the short form ---- */

/* A piece of text without the spaces around it; the caller frees it. */
static char *trimmed(const char *start, size_t len) {
    while (len > 0 && strchr(" \t\r\n", *start)) {
        start++;
        len--;
    }
    while (len > 0 && strchr(" \t\r\n", start[len - 1]))
        len--;
    return bly_strndup(start, len);
}

/* "a:1,b:2" */
static belay_code parse_tasks(belay_cluster_spec *spec, const char *job, const char *text,
                              size_t len, belay_error *err) {
    belay_code code = BELAY_OK;
    for (int32_t index = 0; code == BELAY_OK; index++) {
        const char *comma = memchr(text, ',', len);
        size_t size = comma ? (size_t)(comma - text) : len;
        char *address = trimmed(text, size);
        if (!address)
            code = bly_fail_memory(err);
        else if (!*address)
            code = bly_fail(err, BELAY_INVALID_ARGUMENT, "job %s task %d has no address", job,
                            (int)index);
        else
            code = belay_cluster_spec_add_task(spec, job, index, address, err);
        bly_free(address);
        if (!comma)
            break;
        text += size + 1;
        len -= size + 1;
    }
    return code;
}

/* "ps=a:1,b:2" */
static belay_code parse_job(belay_cluster_spec *spec, const char *text, size_t len,
                            belay_error *err) {
    const char *equals = memchr(text, '=', len);
    char *name = trimmed(text, equals ? (size_t)(equals - text) : len);
    belay_code code;
    if (!name)
        code = bly_fail_memory(err);
    else if (!equals)
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "'%s' has no '='; a cluster is " FORM, name);
    else if (!*name)
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "there is no job before a '='");
    else if (bly_cluster_job(spec, name))
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "job %s stands there twice", name);
    else
        code = parse_tasks(spec, name, equals + 1, len - (size_t)(equals + 1 - text), err);
    bly_free(name);
    return code;
}

static int is_blank(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (!strchr(" \t\r\n", text[i]))
            return 0;
    return 1;
}

/* Empty pieces do not count: a ';' at the end is no job. */
static belay_code parse_short(belay_cluster_spec *spec, const char *text, belay_error *err) {
    belay_code code = BELAY_OK;
    while (code == BELAY_OK && *text) {
        size_t len = strcspn(text, ";");
        if (!is_blank(text, len))
            code = parse_job(spec, text, len, err);
        text += len + (text[len] == ';');
    }
    return code;
}

belay_cluster_spec *belay_cluster_spec_parse(const char *text, belay_error *err) {
    if (!text) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "text is NULL");
        return NULL;
    }
    belay_cluster_spec *spec = belay_cluster_spec_new();
    belay_code code = spec ? BELAY_OK : bly_fail_memory(err);
    if (code == BELAY_OK)
        code = text[strspn(text, " \t\r\n")] == '{' ? parse_json(spec, text, err)
                                                    : parse_short(spec, text, err);
    if (code == BELAY_OK && spec->count == 0)
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "there is no job in it; a cluster is " FORM);
    if (code == BELAY_OK)
        code = bly_cluster_check(spec, err);
    if (code == BELAY_OK)
        return spec;
    belay_cluster_spec_free(spec);
    return NULL;
}
