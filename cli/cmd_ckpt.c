/* belay ckpt: checkpoints, without TensorFlow. */
#include "commands.h"
#include "output.h"
#include "progress.h"
#include "values.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

typedef struct values {
    int json;
} values;

static const cli_option options[] = {
    {"json", NULL, "the result as JSON", CLI_SWITCH, offsetof(values, json)},
    {NULL, NULL, NULL, CLI_SWITCH, 0},
};

/* --- which checkpoint ------------------------------------------------------------------------- */

static int is_folder(const char *path) {
    struct stat info;
    return !stat(path, &info) && S_ISDIR(info.st_mode);
}

/* The prefix that RUN-or-PREFIX stands for, to be freed with free(); NULL with `err` filled. */
static char *find_prefix(const char *given, belay_error *err) {
    if (is_folder(given)) {
        char *latest = belay_latest_checkpoint(given, err);
        char *prefix = latest ? cli_copy(latest) : NULL;
        belay_checkpoint_path_free(latest);
        return prefix;
    }
    char *prefix = cli_copy(given);
    size_t len = strlen(prefix);
    if (len > 6 && !strcmp(prefix + len - 6, ".index"))
        prefix[len - 6] = '\0';
    return prefix;
}

static belay_checkpoint_reader *open_checkpoint(const char *given, belay_error *err) {
    char *prefix = find_prefix(given, err);
    belay_checkpoint_reader *reader = prefix ? belay_checkpoint_reader_load(prefix, err) : NULL;
    free(prefix);
    return reader;
}

/* A checkpoint of a kind that the reader does not know is not a flag that we do not know. */
static int report(const belay_error *err) {
    int code = cli_report(err);
    return code == CLI_USAGE ? CLI_FAILED : code;
}

/* --- ls --------------------------------------------------------------------------------------- */

static void time_text(int64_t unix_ms, char *text, size_t room) {
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm tm;
    if (!localtime_r(&seconds, &tm) || !strftime(text, room, "%Y-%m-%d %H:%M:%S", &tm))
        snprintf(text, room, "?");
}

static void state_text(const belay_checkpoint_info *c, char *text, size_t room) {
    snprintf(text, room, "%s%s%s%s%s", c->flags & BELAY_CHECKPOINT_COMPLETE ? "" : "damaged ",
             c->flags & BELAY_CHECKPOINT_LATEST   ? "latest "
             : c->flags & BELAY_CHECKPOINT_LISTED ? "listed "
                                                  : "",
             c->flags & BELAY_CHECKPOINT_PINNED ? "pinned " : "", c->problem ? ": " : "",
             c->problem ? c->problem : "");
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* `only`: the base name of the one that was asked for; NULL: all of the folder. */
static int is_wanted(const belay_checkpoint_info *c, const char *only) {
    return !only || !strcmp(base_name(c->prefix), only);
}

static void print_list(const belay_checkpoint_list *list, const char *only) {
    static const char *const headings[] = {"step", "size", "saved", "checkpoint", "state"};
    cli_table *table = cli_table_new(5, headings);
    cli_table_align_right(table, 0);
    cli_table_align_right(table, 1);
    for (size_t i = 0; i < belay_checkpoint_list_count(list); i++) {
        const belay_checkpoint_info *c = belay_checkpoint_list_at(list, i);
        char step[32] = "-", size[32], saved[64], state[512];
        if (!is_wanted(c, only))
            continue;
        if (c->step != BELAY_NO_STEP)
            snprintf(step, sizeof step, "%" PRId64, c->step);
        cli_size_text(c->size_bytes, size, sizeof size);
        time_text(c->saved_unix_ms, saved, sizeof saved);
        state_text(c, state, sizeof state);
        cli_table_add(table, (const char *[]){step, size, saved, c->prefix, state});
    }
    cli_table_print(table);
    cli_table_free(table);
}

static json_t *list_json(const belay_checkpoint_list *list, const char *only) {
    json_t *all = json_array();
    for (size_t i = 0; i < belay_checkpoint_list_count(list); i++) {
        const belay_checkpoint_info *c = belay_checkpoint_list_at(list, i);
        if (!is_wanted(c, only))
            continue;
        json_t *one = json_object();
        json_object_set_new(one, "prefix", cli_json_text(c->prefix));
        json_object_set_new(one, "step",
                            c->step != BELAY_NO_STEP ? json_integer(c->step) : json_null());
        json_object_set_new(one, "saved_unix_ms", json_integer(c->saved_unix_ms));
        json_object_set_new(one, "size_bytes", json_integer((json_int_t)c->size_bytes));
        json_object_set_new(one, "complete", json_boolean(c->flags & BELAY_CHECKPOINT_COMPLETE));
        json_object_set_new(one, "listed", json_boolean(c->flags & BELAY_CHECKPOINT_LISTED));
        json_object_set_new(one, "latest", json_boolean(c->flags & BELAY_CHECKPOINT_LATEST));
        json_object_set_new(one, "pinned", json_boolean(c->flags & BELAY_CHECKPOINT_PINNED));
        json_object_set_new(one, "problem", c->problem ? cli_json_text(c->problem) : json_null());
        json_array_append_new(all, one);
    }
    return all;
}

/* The folder to list: RUN, or that of PREFIX, which then becomes *out_only. To be freed with
 * free(). */
static char *find_folder(char *prefix, const char **out_only) {
    *out_only = NULL;
    if (is_folder(prefix))
        return cli_copy(prefix);
    *out_only = base_name(prefix);
    size_t len = (size_t)(*out_only - prefix);
    char *folder = cli_copy(len ? prefix : ".");
    if (len)
        folder[len > 1 ? len - 1 : 1] = '\0';
    return folder;
}

static int has_wanted(const belay_checkpoint_list *list, const char *only) {
    for (size_t i = 0; i < belay_checkpoint_list_count(list); i++)
        if (is_wanted(belay_checkpoint_list_at(list, i), only))
            return 1;
    return 0;
}

static int print_folder(const values *v, const belay_checkpoint_list *list, const char *given,
                        const char *only) {
    const char *problem = belay_checkpoint_list_state_problem(list);
    if (problem)
        cli_progress_line(BELAY_LOG_WARNING, problem);
    if (only && !has_wanted(list, only)) {
        cli_error("there is no folder and no checkpoint %s", given);
        return CLI_FAILED;
    }
    if (v->json)
        cli_print_json(list_json(list, only));
    else if (!belay_checkpoint_list_count(list))
        cli_say("no checkpoints in %s", given);
    else
        print_list(list, only);
    return CLI_OK;
}

static int ls(const values *v, const char *const *arguments, belay_error *err) {
    const char *only;
    char *given = is_folder(arguments[0]) ? cli_copy(arguments[0]) : find_prefix(arguments[0], err);
    char *folder = find_folder(given, &only);
    int code;
    belay_checkpoint_list *list = NULL;
    if (only && !is_folder(folder)) {
        cli_error("there is no folder and no checkpoint %s", given);
        code = CLI_FAILED;
    } else {
        list = belay_checkpoint_list_load(folder, err);
        code = list ? print_folder(v, list, given, only) : report(err);
    }
    belay_checkpoint_list_free(list);
    free(folder);
    free(given);
    return code;
}

/* --- show ------------------------------------------------------------------------------------- */

static json_t *tensor_json(const belay_checkpoint_tensor *t) {
    json_t *one = json_object();
    json_object_set_new(one, "name", cli_json_text(t->name));
    json_object_set_new(one, "dtype", json_string(belay_dtype_name(t->dtype)));
    json_object_set_new(one, "shape", cli_shape_json(t->rank, t->dims));
    json_object_set_new(one, "size_bytes", json_integer((json_int_t)t->size_bytes));
    json_object_set_new(one, "parts", json_integer((json_int_t)t->parts));
    return one;
}

/* PREFIX.belay.json as it lies there; NULL: none, or none that can be read. */
static json_t *read_manifest(const belay_checkpoint_reader *reader) {
    static const char suffix[] = ".belay.json";
    const char *prefix = belay_checkpoint_reader_prefix(reader);
    size_t room = strlen(prefix) + sizeof suffix;
    char *path = cli_alloc(room);
    snprintf(path, room, "%s%s", prefix, suffix);
    json_t *manifest = json_load_file(path, 0, NULL);
    free(path);
    return manifest;
}

static void print_manifest(const belay_checkpoint_reader *reader) {
    static const char *const keys[] = {"step", "metrics", "input", "belay", "tensorflow", "pinned"};
    json_t *manifest = read_manifest(reader);
    for (size_t i = 0; manifest && i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *value = json_object_get(manifest, keys[i]);
        char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_PRESERVE_ORDER) : NULL;
        if (text)
            printf("%s: %s\n", keys[i], text);
        free(text);
    }
    json_decref(manifest);
}

static int show_json(const belay_checkpoint_reader *reader) {
    json_t *manifest = read_manifest(reader);
    json_t *object = json_object(), *tensors = json_array();
    for (size_t i = 0; i < belay_checkpoint_reader_count(reader); i++)
        json_array_append_new(tensors, tensor_json(belay_checkpoint_reader_at(reader, i)));
    json_object_set_new(object, "prefix", cli_json_text(belay_checkpoint_reader_prefix(reader)));
    json_object_set_new(object, "tensors", tensors);
    json_object_set_new(object, "manifest", manifest ? manifest : json_null());
    return cli_print_json(object);
}

static void show_text(const belay_checkpoint_reader *reader) {
    static const char *const headings[] = {"tensor", "dtype", "shape", "size", "parts"};
    cli_table *table = cli_table_new(5, headings);
    cli_table_align_right(table, 3);
    for (size_t i = 0; i < belay_checkpoint_reader_count(reader); i++) {
        const belay_checkpoint_tensor *t = belay_checkpoint_reader_at(reader, i);
        char shape[256], size[32], parts[32] = "";
        cli_shape_text(t->rank, t->dims, shape, sizeof shape);
        cli_size_text(t->size_bytes, size, sizeof size);
        if (t->parts)
            snprintf(parts, sizeof parts, "%" PRIu64, t->parts);
        cli_table_add(table,
                      (const char *[]){t->name, belay_dtype_name(t->dtype), shape, size, parts});
    }
    printf("%s\n", belay_checkpoint_reader_prefix(reader));
    print_manifest(reader);
    putchar('\n');
    cli_table_print(table);
    cli_table_free(table);
}

static int show(const values *v, const char *const *arguments, belay_error *err) {
    belay_checkpoint_reader *reader = open_checkpoint(arguments[0], err);
    if (!reader)
        return report(err);
    if (v->json)
        show_json(reader);
    else
        show_text(reader);
    belay_checkpoint_reader_free(reader);
    return CLI_OK;
}

/* --- cat -------------------------------------------------------------------------------------- */

/* A tensor's elements, whatever their type. */
struct content {
    const belay_checkpoint_tensor *tensor;
    void *data;                        /* NULL for strings */
    belay_checkpoint_strings *strings; /* NULL for everything else */
};

static int content_read(const belay_checkpoint_reader *reader, const belay_checkpoint_tensor *t,
                        struct content *out, belay_error *err) {
    *out = (struct content){t, NULL, NULL};
    if (t->dtype == BELAY_STRING) {
        out->strings = belay_checkpoint_reader_read_strings(reader, t->name, err);
        return out->strings != NULL;
    }
    out->data = malloc(t->size_bytes ? t->size_bytes : 1);
    if (!out->data)
        return belay_error_set(err, BELAY_RESOURCE_EXHAUSTED, "out of memory") == BELAY_OK;
    return belay_checkpoint_reader_read(reader, t->name, out->data, t->size_bytes, err) == BELAY_OK;
}

#define CANNOT_BE_SHOWN "its value cannot be shown"

/* A variant holds what some op put there: nobody else can tell values in it. */
static int can_be_shown(const belay_checkpoint_tensor *t) {
    return t->dtype == BELAY_STRING || belay_dtype_size(t->dtype) > 0;
}

static void content_free(struct content *c) {
    free(c->data);
    belay_checkpoint_strings_free(c->strings);
}

static void print_element(const struct content *c, int64_t index) {
    char text[128];
    if (c->strings) {
        size_t size;
        const char *bytes = belay_checkpoint_strings_at(c->strings, (size_t)index, &size);
        cli_print_quoted(bytes, size);
    } else {
        fputs(cli_element_text(c->tensor->dtype, c->data, index, text, sizeof text), stdout);
    }
}

/* Rows of the last dimension, one a line; a blank line between matrices. */
static void print_content(const struct content *c) {
    const belay_checkpoint_tensor *t = c->tensor;
    int64_t row = t->rank > 0 ? t->dims[t->rank - 1] : 1;
    int64_t matrix = t->rank > 1 ? row * t->dims[t->rank - 2] : 0;
    for (int64_t i = 0; i < t->elements; i++) {
        if (matrix && i && i % matrix == 0)
            putchar('\n');
        print_element(c, i);
        putchar((i + 1) % row == 0 ? '\n' : ' ');
    }
}

static json_t *content_json(const struct content *c) {
    json_t *object = tensor_json(c->tensor), *all = json_array();
    for (int64_t i = 0; i < c->tensor->elements; i++) {
        if (c->strings) {
            size_t size;
            const char *bytes = belay_checkpoint_strings_at(c->strings, (size_t)i, &size);
            json_array_append_new(all, cli_json_bytes(bytes, size));
        } else {
            json_array_append_new(all, cli_element_json(c->tensor->dtype, c->data, i));
        }
    }
    json_object_set_new(object, "values", all);
    return object;
}

/* One tensor: its values, so that a script can read them. Where `json` is not NULL it takes them
 * instead. */
static int cat_one(const belay_checkpoint_reader *reader, const belay_checkpoint_tensor *t,
                   json_t **json, belay_error *err) {
    struct content content;
    int code = CLI_OK;
    if (!content_read(reader, t, &content, err))
        code = report(err);
    else if (json)
        *json = content_json(&content);
    else
        print_content(&content);
    content_free(&content);
    return code;
}

/* One of several: under a heading, and where its values cannot be shown, that. */
static int cat_among(const belay_checkpoint_reader *reader, const belay_checkpoint_tensor *t,
                     json_t *all, belay_error *err) {
    int shown = can_be_shown(t);
    json_t *json = NULL;
    char shape[256];
    if (!all) {
        printf("%s %s %s%s\n", t->name, belay_dtype_name(t->dtype),
               cli_shape_text(t->rank, t->dims, shape, sizeof shape),
               shown ? "" : ": " CANNOT_BE_SHOWN);
        return shown ? cat_one(reader, t, NULL, err) : CLI_OK;
    }
    int code = shown ? cat_one(reader, t, &json, err) : CLI_OK;
    if (!shown) {
        json = tensor_json(t);
        json_object_set_new(json, "values", json_null());
        json_object_set_new(json, "problem", json_string(CANNOT_BE_SHOWN));
    }
    json_array_append_new(all, json);
    return code;
}

static int no_such_tensor(const belay_checkpoint_reader *reader, const char *name) {
    size_t count = belay_checkpoint_reader_count(reader);
    const char **names = cli_alloc((count + 1) * sizeof *names);
    for (size_t i = 0; i < count; i++)
        names[i] = belay_checkpoint_reader_at(reader, i)->name;
    const char *near = cli_nearest(name, names, count);
    if (near)
        cli_error("%s holds no tensor '%s'; did you mean '%s'?",
                  belay_checkpoint_reader_prefix(reader), name, near);
    else
        cli_error("%s holds no tensor '%s'", belay_checkpoint_reader_prefix(reader), name);
    free(names);
    return CLI_FAILED;
}

static int cat_tensor(const values *v, const belay_checkpoint_reader *reader, const char *name,
                      belay_error *err) {
    const belay_checkpoint_tensor *t = belay_checkpoint_reader_find(reader, name);
    json_t *json = NULL;
    if (!t)
        return no_such_tensor(reader, name);
    if (!can_be_shown(t)) {
        cli_error("tensor '%s' in %s is of type %s: " CANNOT_BE_SHOWN, name,
                  belay_checkpoint_reader_prefix(reader), belay_dtype_name(t->dtype));
        return CLI_FAILED;
    }
    int code = cat_one(reader, t, v->json ? &json : NULL, err);
    if (json)
        cli_print_json(json);
    return code;
}

static int cat_all(const values *v, const belay_checkpoint_reader *reader, belay_error *err) {
    json_t *all = v->json ? json_array() : NULL;
    int code = CLI_OK;
    for (size_t i = 0; i < belay_checkpoint_reader_count(reader) && code == CLI_OK; i++)
        code = cat_among(reader, belay_checkpoint_reader_at(reader, i), all, err);
    if (code == CLI_OK && all)
        cli_print_json(all);
    else
        json_decref(all);
    return code;
}

static int cat(const values *v, const char *const *arguments, belay_error *err) {
    belay_checkpoint_reader *reader = open_checkpoint(arguments[0], err);
    if (!reader)
        return report(err);
    int code = arguments[1] ? cat_tensor(v, reader, arguments[1], err) : cat_all(v, reader, err);
    belay_checkpoint_reader_free(reader);
    return code;
}

/* --- verify ----------------------------------------------------------------------------------- */

static void print_verdict(const values *v, const char *name, const belay_checkpoint_reader *reader,
                          const char *problem) {
    if (!v->json) {
        if (problem)
            printf("%s: damaged\n", name);
        else
            printf("%s: every byte is as it was written, %zu tensors\n", name,
                   belay_checkpoint_reader_count(reader));
        return;
    }
    json_t *object = json_object();
    json_object_set_new(object, "prefix", cli_json_text(name));
    json_object_set_new(object, "verifies", json_boolean(!problem));
    json_object_set_new(object, "problem", problem ? cli_json_text(problem) : json_null());
    cli_print_json(object);
}

static int verify(const values *v, const char *const *arguments, belay_error *err) {
    belay_checkpoint_reader *reader = open_checkpoint(arguments[0], err);
    const char *name = reader ? belay_checkpoint_reader_prefix(reader) : arguments[0];
    int code = CLI_OK;
    if (reader && belay_checkpoint_reader_verify(reader, err) == BELAY_OK) {
        print_verdict(v, name, reader, NULL);
    } else if (belay_error_code(err) == BELAY_DATA_LOSS) {
        print_verdict(v, name, reader, belay_error_message(err));
        cli_report(err);
        code = CLI_DIFFERENT;
    } else {
        code = report(err);
    }
    belay_checkpoint_reader_free(reader);
    return code;
}

/* --- diff ------------------------------------------------------------------------------------- */

struct comparison {
    cli_table *table; /* NULL: JSON */
    json_t *json;
    size_t different;
};

static void tell_difference(struct comparison *c, const char *name, const char *text) {
    c->different++;
    if (c->table) {
        cli_table_add(c->table, (const char *[]){name, text});
        return;
    }
    json_t *one = json_object();
    json_object_set_new(one, "name", cli_json_text(name));
    json_object_set_new(one, "difference", cli_json_text(text));
    json_array_append_new(c->json, one);
}

static int same_shape(const belay_checkpoint_tensor *a, const belay_checkpoint_tensor *b) {
    return a->rank == b->rank &&
           (a->rank == 0 || !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims));
}

static int same_string(const struct content *a, const struct content *b, int64_t i) {
    size_t na, nb;
    const char *sa = belay_checkpoint_strings_at(a->strings, (size_t)i, &na);
    const char *sb = belay_checkpoint_strings_at(b->strings, (size_t)i, &nb);
    return na == nb && !memcmp(sa, sb, na);
}

/* Counts elements whose bytes differ, and how far numbers are apart at most. */
static int64_t count_different(const struct content *a, const struct content *b, double *apart) {
    int64_t count = 0;
    size_t size = belay_dtype_size(a->tensor->dtype);
    *apart = 0;
    for (int64_t i = 0; i < a->tensor->elements; i++) {
        if (a->strings) {
            count += !same_string(a, b, i);
            continue;
        }
        if (!memcmp((char *)a->data + (size_t)i * size, (char *)b->data + (size_t)i * size, size))
            continue;
        count++;
        double d = fabs(cli_element_number(a->tensor->dtype, a->data, i) -
                        cli_element_number(b->tensor->dtype, b->data, i));
        if (d > *apart)
            *apart = d;
    }
    return count;
}

static int compare_content(struct comparison *c, const belay_checkpoint_reader *a,
                           const belay_checkpoint_tensor *ta, const belay_checkpoint_reader *b,
                           const belay_checkpoint_tensor *tb, belay_error *err) {
    if (!can_be_shown(ta)) {
        if (ta->crc32c != tb->crc32c || ta->size_bytes != tb->size_bytes)
            tell_difference(c, ta->name, "other bytes; " CANNOT_BE_SHOWN);
        return 1;
    }
    struct content ca = {NULL, NULL, NULL}, cb = {NULL, NULL, NULL};
    double apart;
    char text[256];
    int ok = content_read(a, ta, &ca, err) && content_read(b, tb, &cb, err);
    int64_t count = ok ? count_different(&ca, &cb, &apart) : 0;
    if (count) {
        if (ta->dtype == BELAY_STRING)
            snprintf(text, sizeof text, "%" PRId64 " of %" PRId64 " strings", count, ta->elements);
        else
            snprintf(text, sizeof text, "%" PRId64 " of %" PRId64 " values, at most %.6g apart",
                     count, ta->elements, apart);
        tell_difference(c, ta->name, text);
    }
    content_free(&ca);
    content_free(&cb);
    return ok;
}

static int compare_tensor(struct comparison *c, const belay_checkpoint_reader *a,
                          const belay_checkpoint_tensor *ta, const belay_checkpoint_reader *b,
                          belay_error *err) {
    const belay_checkpoint_tensor *tb = belay_checkpoint_reader_find(b, ta->name);
    char text[640], sa[256], sb[256];
    if (!tb) {
        tell_difference(c, ta->name, "only in the first");
    } else if (ta->dtype != tb->dtype || !same_shape(ta, tb)) {
        snprintf(text, sizeof text, "%s %s, %s %s", belay_dtype_name(ta->dtype),
                 cli_shape_text(ta->rank, ta->dims, sa, sizeof sa), belay_dtype_name(tb->dtype),
                 cli_shape_text(tb->rank, tb->dims, sb, sizeof sb));
        tell_difference(c, ta->name, text);
    } else {
        return compare_content(c, a, ta, b, tb, err);
    }
    return 1;
}

static int compare(struct comparison *c, const belay_checkpoint_reader *a,
                   const belay_checkpoint_reader *b, belay_error *err) {
    for (size_t i = 0; i < belay_checkpoint_reader_count(a); i++)
        if (!compare_tensor(c, a, belay_checkpoint_reader_at(a, i), b, err))
            return 0;
    for (size_t i = 0; i < belay_checkpoint_reader_count(b); i++) {
        const char *name = belay_checkpoint_reader_at(b, i)->name;
        if (!belay_checkpoint_reader_find(a, name))
            tell_difference(c, name, "only in the second");
    }
    return 1;
}

static int diff(const values *v, const char *const *arguments, belay_error *err) {
    static const char *const headings[] = {"tensor", "difference"};
    struct comparison c = {v->json ? NULL : cli_table_new(2, headings),
                           v->json ? json_array() : NULL, 0};
    belay_checkpoint_reader *a = open_checkpoint(arguments[0], err);
    belay_checkpoint_reader *b = a ? open_checkpoint(arguments[1], err) : NULL;
    int code = CLI_OK;
    if (!b || !compare(&c, a, b, err)) {
        code = report(err);
        json_decref(c.json);
    } else {
        code = c.different ? CLI_DIFFERENT : CLI_OK;
        if (v->json)
            cli_print_json(c.json);
        else if (c.different)
            cli_table_print(c.table);
        else
            cli_say("no difference");
    }
    if (c.table)
        cli_table_free(c.table);
    belay_checkpoint_reader_free(a);
    belay_checkpoint_reader_free(b);
    return code;
}

/* --- the verb --------------------------------------------------------------------------------- */

static const struct action {
    const char *name, *arguments;
    int least, most;
    int (*run)(const values *v, const char *const *arguments, belay_error *err);
} actions[] = {
    {"ls", "RUN", 1, 1, ls},
    {"show", "RUN-or-PREFIX", 1, 1, show},
    {"cat", "RUN-or-PREFIX [TENSOR]", 1, 2, cat},
    {"verify", "RUN-or-PREFIX", 1, 1, verify},
    {"diff", "RUN-or-PREFIX RUN-or-PREFIX", 2, 2, diff},
    {"prune", "RUN", 1, -1, NULL},
    {"pin", "RUN-or-PREFIX", 1, -1, NULL},
    {"unpin", "RUN-or-PREFIX", 1, -1, NULL},
};
#define ACTION_COUNT (sizeof actions / sizeof actions[0])

static int unknown_action(const char *name) {
    const char *names[ACTION_COUNT];
    for (size_t i = 0; i < ACTION_COUNT; i++)
        names[i] = actions[i].name;
    const char *near = cli_nearest(name, names, ACTION_COUNT);
    if (near)
        return cli_usage_error("'belay ckpt' has no '%s'; did you mean '%s'?", name, near);
    return cli_usage_error("'belay ckpt' has no '%s'; 'belay help ckpt' lists what it has", name);
}

static int run_action(const struct action *action, const values *v, const char *const *arguments,
                      int count) {
    char what[64];
    if (!action->run) {
        snprintf(what, sizeof what, "'belay ckpt %s'", action->name);
        return cli_not_built(what);
    }
    if (count < action->least || (action->most >= 0 && count > action->most))
        return cli_usage_error("usage: belay ckpt %s %s", action->name, action->arguments);
    cli_progress_start(CLI_LOG_TEXT, 0);
    belay_error *err = belay_error_new();
    int code = action->run(v, arguments, err);
    belay_error_free(err);
    return code;
}

static int run_ckpt(const void *given, const char *const *arguments, int count) {
    for (size_t i = 0; i < ACTION_COUNT; i++)
        if (!strcmp(actions[i].name, arguments[0]))
            return run_action(&actions[i], given, arguments + 1, count - 1);
    return unknown_action(arguments[0]);
}

const cli_command cli_ckpt = {
    "ckpt",
    "ls|show|cat|verify|diff RUN-or-PREFIX ... [--json]",
    "Checkpoints, without TensorFlow.",
    "  ls RUN                  what a folder holds, oldest first\n"
    "  show RUN-or-PREFIX      the tensors of a checkpoint\n"
    "  cat RUN-or-PREFIX [TENSOR]\n"
    "                          values; of one tensor, or of all\n"
    "  verify RUN-or-PREFIX    checks every byte; exit code 3: damaged\n"
    "  diff A B                what differs; exit code 3: something does\n"
    "  prune, pin, unpin       not built yet\n\n"
    "A RUN stands for its newest checkpoint.",
    options,
    sizeof(values),
    1,
    -1,
    run_ckpt,
};
