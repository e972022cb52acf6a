/* belay events: event files, without TensorFlow. */
#include "commands.h"
#include "output.h"
#include "progress.h"
#include "values.h"

#include <belay/belay.h>

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

typedef struct values {
    int json;
    cli_list tags;
} values;

static const cli_option options[] = {
    {"tag", "NAME", "cat: only values with this tag; may be given again", CLI_LIST,
     offsetof(values, tags)},
    {"json", NULL, "ls: the result as JSON; cat: an object a line", CLI_SWITCH,
     offsetof(values, json)},
    {NULL, NULL, NULL, CLI_SWITCH, 0},
};

/* --- which files ------------------------------------------------------------------------------ */

struct paths {
    char **items;
    size_t count, capacity;
};

static void add_path(struct paths *paths, char *path) {
    if (paths->count == paths->capacity) {
        size_t capacity = paths->capacity ? 2 * paths->capacity : 8;
        char **more = cli_alloc(capacity * sizeof *more);
        if (paths->count)
            memcpy(more, paths->items, paths->count * sizeof *more);
        free(paths->items);
        paths->items = more;
        paths->capacity = capacity;
    }
    paths->items[paths->count++] = path;
}

static void free_paths(struct paths *paths) {
    for (size_t i = 0; i < paths->count; i++)
        free(paths->items[i]);
    free(paths->items);
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_shown(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* Event files of a folder and of those below it, as TensorBoard finds them: by their name. Links to
 * folders are not followed, so this ends. */
static void find_files(const char *folder, struct paths *found) {
    struct dirent **entries;
    int count = scandir(folder, &entries, is_shown, by_name);
    if (count < 0)
        cli_say("folder %s cannot be read, and is left out", folder);
    for (int i = 0; i < count; i++) {
        size_t room = strlen(folder) + strlen(entries[i]->d_name) + 2;
        size_t len = strlen(folder);
        char *path = cli_alloc(room);
        struct stat info;
        snprintf(path, room, "%s%s%s", folder, len && folder[len - 1] == '/' ? "" : "/",
                 entries[i]->d_name);
        int there = lstat(path, &info) == 0;
        if (there && S_ISDIR(info.st_mode))
            find_files(path, found);
        if (there && !S_ISDIR(info.st_mode) && strstr(entries[i]->d_name, "tfevents"))
            add_path(found, path);
        else
            free(path);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

static void find(const char *given, struct paths *found) {
    struct stat info;
    if (!stat(given, &info) && S_ISDIR(info.st_mode))
        find_files(given, found);
    else
        add_path(found, cli_copy(given));
}

/* --- words ------------------------------------------------------------------------------------ */

static const char *kind_of_event(const belay_event *event) {
    static const char *const names[] = {"other",   "file_version", "graph",        "summary",
                                        "message", "session_log",  "run_metadata", "meta_graph"};
    size_t known = sizeof names / sizeof names[0];
    return event->kind >= 0 && (size_t)event->kind < known ? names[event->kind] : names[0];
}

static const char *kind_of_value(const belay_summary_value *value) {
    static const char *const names[] = {"other", "scalar", "histogram", "image",
                                        "audio", "text",   "tensor"};
    size_t known = sizeof names / sizeof names[0];
    return value->kind >= 0 && (size_t)value->kind < known ? names[value->kind] : names[0];
}

static const char *status_text(belay_session_status status) {
    static const char *const names[] = {"UNKNOWN", "START", "STOP", "CHECKPOINT"};
    return status >= 0 && status <= 3 ? names[status] : names[0];
}

static void time_text(double wall_time, char *text, size_t room) {
    struct tm tm;
    char whole[32];
    double seconds = floor(wall_time);
    time_t t = (time_t)seconds;
    /* A damaged program, not a damaged file, may write any number. */
    if (!(fabs(wall_time) < 1e12) || !localtime_r(&t, &tm) ||
        !strftime(whole, sizeof whole, "%Y-%m-%d %H:%M:%S", &tm))
        snprintf(text, room, "?");
    else
        snprintf(text, room, "%s.%03d", whole, (int)((wall_time - seconds) * 1000));
}

/* The shortest decimal that is this float32. */
static const char *number_text(double number, char *text, size_t room) {
    if ((double)(float)number == number || isnan(number)) {
        float single = (float)number;
        return cli_element_text(BELAY_FLOAT, &single, 0, text, room);
    }
    return cli_element_text(BELAY_DOUBLE, &number, 0, text, room);
}

/* --- ls --------------------------------------------------------------------------------------- */

/* What was found in all files. Objects of jansson's serve as the table by name. */
struct listing {
    json_t *files;
    json_t *tags; /* by folder and tag */
    json_t *in_order;
    int code; /* CLI_OK, or that of the first file that could not be read */
};

static void set_integer(json_t *object, const char *key, int64_t value) {
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static int64_t get_integer(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

static void widen(json_t *object, int64_t step) {
    if (json_is_null(json_object_get(object, "first_step")) ||
        step < get_integer(object, "first_step"))
        set_integer(object, "first_step", step);
    if (json_is_null(json_object_get(object, "last_step")) ||
        step > get_integer(object, "last_step"))
        set_integer(object, "last_step", step);
}

static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = cli_copy(slash ? path : ".");
    if (slash)
        folder[slash == path ? 1 : slash - path] = '\0';
    return folder;
}

static json_t *tag_of(struct listing *all, const char *folder, const belay_summary_value *value) {
    size_t room = strlen(folder) + strlen(value->tag) + 2;
    char *key = cli_alloc(room);
    snprintf(key, room, "%s\n%s", folder, value->tag);
    json_t *tag = json_object_get(all->tags, key);
    if (!tag) {
        tag = json_object();
        json_object_set_new(tag, "folder", cli_json_text(folder));
        json_object_set_new(tag, "tag", cli_json_text(value->tag));
        json_object_set_new(tag, "kind", json_string(kind_of_value(value)));
        json_object_set_new(tag, "plugin", cli_json_text(value->plugin));
        json_object_set_new(tag, "values", json_integer(0));
        json_object_set_new(tag, "first_step", json_null());
        json_object_set_new(tag, "last_step", json_null());
        json_object_set_new(tag, "last", json_null());
        json_array_append(all->in_order, tag);
        json_object_set_new_nocheck(all->tags, key, tag);
    }
    free(key);
    return tag;
}

static json_t *number_json(double number) {
    char text[64];
    if (isfinite(number))
        return json_real(number);
    return json_string(number_text(number, text, sizeof text));
}

static void add_value(struct listing *all, const char *folder, const belay_summary_value *value,
                      int64_t step) {
    json_t *tag = tag_of(all, folder, value);
    set_integer(tag, "values", get_integer(tag, "values") + 1);
    widen(tag, step);
    if (value->kind == BELAY_VALUE_SCALAR)
        json_object_set_new(tag, "last", number_json(value->number));
}

static void add_event(struct listing *all, json_t *file, const char *folder,
                      const belay_event *event) {
    if (event->kind == BELAY_EVENT_FILE_VERSION)
        json_object_set_new(file, "writer", cli_json_text(event->writer));
    if (event->kind == BELAY_EVENT_SUMMARY || event->kind == BELAY_EVENT_SESSION_LOG)
        widen(file, event->step);
    json_object_set_new(file, "last_time", cli_json_number(event->wall_time));
    for (uint64_t i = 0; i < event->value_count; i++)
        add_value(all, folder, &event->values[i], event->step);
}

/* A line that says how a file ends, where that needs saying; whether it is not as it should be. */
static int check_end(const belay_event_reader *reader, const char *path, const belay_error *err) {
    uint64_t more = belay_event_reader_incomplete_bytes(reader);
    if (belay_error_code(err) != BELAY_OK)
        return cli_report(err);
    if (more)
        cli_say("%s: after %" PRIu64 " events, at byte %" PRIu64 ", %" PRIu64
                " bytes are not a whole event: it is being written, or was cut short",
                path, belay_event_reader_count(reader), belay_event_reader_position(reader), more);
    return CLI_OK;
}

static void note(struct listing *all, int code) {
    if (all->code == CLI_OK)
        all->code = code;
}

static uint64_t size_of(const char *path) {
    struct stat info;
    return stat(path, &info) ? 0 : (uint64_t)info.st_size;
}

static void list_file(struct listing *all, const char *path) {
    belay_error *err = belay_error_new();
    belay_event_reader *reader = belay_event_reader_open(path, err);
    const belay_event *event;
    if (!reader) { /* nothing is known of it: not there, or not to be read */
        note(all, cli_report(err));
        belay_error_free(err);
        return;
    }
    char *folder = folder_of(path);
    json_t *file = json_object();
    json_object_set_new(file, "file", cli_json_text(path));
    json_object_set_new(file, "size_bytes", json_integer((json_int_t)size_of(path)));
    json_object_set_new(file, "writer", json_string(""));
    json_object_set_new(file, "first_step", json_null());
    json_object_set_new(file, "last_step", json_null());
    json_object_set_new(file, "last_time", json_null());
    while ((event = belay_event_reader_next(reader, err)) != NULL)
        add_event(all, file, folder, event);
    set_integer(file, "events", (int64_t)belay_event_reader_count(reader));
    set_integer(file, "read_bytes", (int64_t)belay_event_reader_position(reader));
    set_integer(file, "incomplete_bytes", (int64_t)belay_event_reader_incomplete_bytes(reader));
    json_object_set_new(
        file, "problem",
        belay_error_code(err) == BELAY_OK ? json_null() : cli_json_text(belay_error_message(err)));
    json_array_append_new(all->files, file);
    note(all, check_end(reader, path, err));
    belay_event_reader_free(reader);
    belay_error_free(err);
    free(folder);
}

static const char *steps_text(const json_t *object, char *text, size_t room) {
    if (json_is_null(json_object_get(object, "first_step")))
        snprintf(text, room, "-");
    else
        snprintf(text, room, "%" PRId64 "-%" PRId64, get_integer(object, "first_step"),
                 get_integer(object, "last_step"));
    return text;
}

static const char *state_text(const json_t *file) {
    if (!json_is_null(json_object_get(file, "problem")))
        return "damaged";
    return get_integer(file, "incomplete_bytes") ? "not complete" : "";
}

static void print_files(const json_t *files) {
    static const char *const headings[] = {"events", "steps", "size", "last", "file", "state"};
    cli_table *table = cli_table_new(6, headings);
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i), *last = json_object_get(file, "last_time");
        char count[32], steps[64], size[32], time[64] = "-";
        snprintf(count, sizeof count, "%" PRId64, get_integer(file, "events"));
        cli_size_text((uint64_t)get_integer(file, "size_bytes"), size, sizeof size);
        if (json_is_real(last))
            time_text(json_real_value(last), time, sizeof time);
        cli_table_add(table,
                      (const char *[]){count, steps_text(file, steps, sizeof steps), size, time,
                                       json_string_value(json_object_get(file, "file")),
                                       state_text(file)});
    }
    cli_table_align_right(table, 0);
    cli_table_align_right(table, 2);
    cli_table_print(table);
    cli_table_free(table);
}

static int in_one_folder(const json_t *tags) {
    for (size_t i = 1; i < json_array_size(tags); i++)
        if (!json_equal(json_object_get(json_array_get(tags, i), "folder"),
                        json_object_get(json_array_get(tags, 0), "folder")))
            return 0;
    return 1;
}

static void print_tags(const json_t *tags) {
    static const char *const headings[] = {"values", "steps", "kind", "last", "tag", "folder"};
    cli_table *table = cli_table_new(in_one_folder(tags) ? 5 : 6, headings);
    for (size_t i = 0; i < json_array_size(tags); i++) {
        const json_t *tag = json_array_get(tags, i), *last = json_object_get(tag, "last");
        char count[32], steps[64], number[64] = "";
        snprintf(count, sizeof count, "%" PRId64, get_integer(tag, "values"));
        if (json_is_real(last))
            number_text(json_real_value(last), number, sizeof number);
        cli_table_add(table,
                      (const char *[]){count, steps_text(tag, steps, sizeof steps),
                                       json_string_value(json_object_get(tag, "kind")),
                                       json_is_string(last) ? json_string_value(last) : number,
                                       json_string_value(json_object_get(tag, "tag")),
                                       json_string_value(json_object_get(tag, "folder"))});
    }
    cli_table_align_right(table, 0);
    cli_table_print(table);
    cli_table_free(table);
}

static int ls(const values *v, const struct paths *found) {
    struct listing all = {json_array(), json_object(), json_array(), CLI_OK};
    if (v->tags.count)
        return cli_usage_error("--tag goes with 'belay events cat'");
    for (size_t i = 0; i < found->count; i++)
        list_file(&all, found->items[i]);
    if (v->json) {
        cli_print_json(json_pack("{s:O,s:O}", "files", all.files, "tags", all.in_order));
    } else if (json_array_size(all.files)) {
        print_files(all.files);
        if (json_array_size(all.in_order)) {
            putchar('\n');
            print_tags(all.in_order);
        }
    }
    json_decref(all.files);
    json_decref(all.tags);
    json_decref(all.in_order);
    return all.code;
}

/* --- cat -------------------------------------------------------------------------------------- */

static int is_wanted(const values *v, const char *tag) {
    for (size_t i = 0; i < v->tags.count; i++)
        if (!strcmp(v->tags.items[i], tag))
            return 1;
    return v->tags.count == 0;
}

static void print_value(const belay_summary_value *value) {
    char text[64], low[64], high[64];
    switch (value->kind) {
    case BELAY_VALUE_SCALAR:
        fputs(number_text(value->number, text, sizeof text), stdout);
        break;
    case BELAY_VALUE_HISTOGRAM:
        printf("%.0f values from %s to %s, mean %s", value->count,
               number_text(value->min, low, sizeof low), number_text(value->max, high, sizeof high),
               number_text(value->number, text, sizeof text));
        break;
    case BELAY_VALUE_IMAGE:
        printf("%" PRId32 "x%" PRId32 ", %s", value->width, value->height,
               cli_size_text(value->size, text, sizeof text));
        break;
    case BELAY_VALUE_AUDIO:
        printf("%g Hz, %s", value->number, cli_size_text(value->size, text, sizeof text));
        break;
    case BELAY_VALUE_TEXT:
        cli_print_quoted(value->data ? value->data : "", value->size);
        break;
    case BELAY_VALUE_TENSOR:
        printf("%s, %.0f elements", belay_dtype_name(value->dtype), value->count);
        break;
    default:
        fputs("?", stdout);
    }
}

static void print_plain(const char *text) {
    char *plain = cli_printable(text);
    fputs(plain, stdout);
    free(plain);
}

static void print_bytes(const belay_event *event) {
    char size[32];
    fputs(cli_size_text(event->size, size, sizeof size), stdout);
}

static void print_content(const belay_event *event) {
    switch (event->kind) {
    case BELAY_EVENT_FILE_VERSION:
        print_plain(event->text);
        fputs(event->writer[0] ? " by " : "", stdout);
        print_plain(event->writer);
        break;
    case BELAY_EVENT_LOG_MESSAGE:
        cli_print_quoted(event->text, strlen(event->text));
        break;
    case BELAY_EVENT_SESSION_LOG:
        printf("%s%s", status_text(event->status), event->checkpoint_path[0] ? " " : "");
        print_plain(event->checkpoint_path);
        if (event->text[0]) {
            putchar(' ');
            cli_print_quoted(event->text, strlen(event->text));
        }
        break;
    case BELAY_EVENT_RUN_METADATA:
        print_plain(event->text);
        putchar(' ');
        print_bytes(event);
        break;
    default:
        print_bytes(event);
    }
}

/* Up to what comes in the columns that are the same for all. */
static void print_head(const belay_event *event, const char *kind) {
    char time[64];
    time_text(event->wall_time, time, sizeof time);
    printf("%-23s %8" PRId64 "  %-12s  ", time, event->step, kind);
}

static void cat_text(const values *v, const belay_event *event) {
    for (uint64_t i = 0; i < event->value_count; i++) {
        const belay_summary_value *value = &event->values[i];
        if (!is_wanted(v, value->tag))
            continue;
        print_head(event, kind_of_value(value));
        print_plain(value->tag);
        fputs("  ", stdout);
        print_value(value);
        putchar('\n');
    }
    if (event->kind == BELAY_EVENT_SUMMARY || v->tags.count)
        return;
    print_head(event, kind_of_event(event));
    print_content(event);
    putchar('\n');
}

static json_t *event_json(const char *path, const belay_event *event, const char *kind) {
    json_t *object = json_object();
    json_object_set_new(object, "file", cli_json_text(path));
    set_integer(object, "offset", (int64_t)event->offset);
    json_object_set_new(object, "time", cli_json_number(event->wall_time));
    set_integer(object, "step", event->step);
    json_object_set_new(object, "kind", json_string(kind));
    return object;
}

static void print_line(json_t *object) {
    json_dumpf(object, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(object);
}

static void put_value_json(json_t *object, const belay_summary_value *value) {
    json_object_set_new(object, "tag", cli_json_text(value->tag));
    json_object_set_new(object, "plugin", cli_json_text(value->plugin));
    if (value->kind == BELAY_VALUE_SCALAR)
        json_object_set_new(object, "value", number_json(value->number));
    if (value->kind == BELAY_VALUE_HISTOGRAM) {
        json_object_set_new(object, "count", number_json(value->count));
        json_object_set_new(object, "min", number_json(value->min));
        json_object_set_new(object, "max", number_json(value->max));
        json_object_set_new(object, "mean", number_json(value->number));
    }
    if (value->kind == BELAY_VALUE_IMAGE) {
        set_integer(object, "width", value->width);
        set_integer(object, "height", value->height);
    }
    if (value->kind == BELAY_VALUE_IMAGE || value->kind == BELAY_VALUE_AUDIO)
        set_integer(object, "size_bytes", (int64_t)value->size);
    if (value->kind == BELAY_VALUE_TEXT)
        json_object_set_new(object, "value",
                            cli_json_bytes(value->data ? value->data : "", value->size));
    if (value->kind == BELAY_VALUE_TENSOR) {
        json_object_set_new(object, "dtype", json_string(belay_dtype_name(value->dtype)));
        json_object_set_new(object, "count", number_json(value->count));
    }
}

static void cat_json(const values *v, const char *path, const belay_event *event) {
    for (uint64_t i = 0; i < event->value_count; i++) {
        if (!is_wanted(v, event->values[i].tag))
            continue;
        json_t *object = event_json(path, event, kind_of_value(&event->values[i]));
        put_value_json(object, &event->values[i]);
        print_line(object);
    }
    if (event->kind == BELAY_EVENT_SUMMARY || v->tags.count)
        return;
    json_t *object = event_json(path, event, kind_of_event(event));
    if (event->kind == BELAY_EVENT_SESSION_LOG) {
        json_object_set_new(object, "status", json_string(status_text(event->status)));
        json_object_set_new(object, "checkpoint_path", cli_json_text(event->checkpoint_path));
    }
    if (event->kind == BELAY_EVENT_RUN_METADATA)
        json_object_set_new(object, "tag", cli_json_text(event->text));
    else
        json_object_set_new(object, "text", cli_json_text(event->text));
    set_integer(object, "size_bytes", (int64_t)event->size);
    print_line(object);
}

static int cat_file(const values *v, const char *path) {
    belay_error *err = belay_error_new();
    belay_event_reader *reader = belay_event_reader_open(path, err);
    const belay_event *event;
    while (reader && (event = belay_event_reader_next(reader, err)) != NULL && !ferror(stdout)) {
        if (v->json)
            cat_json(v, path, event);
        else
            cat_text(v, event);
    }
    fflush(stdout); /* what was read comes before what is said of the rest */
    int code = check_end(reader, path, err);
    belay_event_reader_free(reader);
    belay_error_free(err);
    return code;
}

static int cat(const values *v, const struct paths *found) {
    int code = CLI_OK;
    for (size_t i = 0; i < found->count; i++) {
        if (!v->json && found->count > 1)
            printf("%s== %s\n", i ? "\n" : "", found->items[i]);
        int own = cat_file(v, found->items[i]);
        code = code == CLI_OK ? own : code;
    }
    return code;
}

/* --- the verb --------------------------------------------------------------------------------- */

static int run_events(const void *given, const char *const *arguments, int count) {
    const values *v = given;
    int is_ls = !strcmp(arguments[0], "ls");
    if (!is_ls && strcmp(arguments[0], "cat") != 0)
        return cli_usage_error("'belay events' has no '%s': it has 'ls' and 'cat'", arguments[0]);
    if (count != 2)
        return cli_usage_error("usage: belay events %s FILE-or-RUN", arguments[0]);
    struct paths found = {NULL, 0, 0};
    cli_progress_start(CLI_LOG_TEXT, 0);
    find(arguments[1], &found);
    if (!found.count)
        cli_say("no event files in %s", arguments[1]);
    int code = is_ls ? (found.count || v->json ? ls(v, &found) : CLI_OK) : cat(v, &found);
    free_paths(&found);
    return code;
}

const cli_command cli_events = {
    "events",
    "ls|cat FILE-or-RUN [--tag NAME]... [--json]",
    "Event files, without TensorFlow.",
    "  ls FILE-or-RUN          files, how many events and which steps they hold, and their tags\n"
    "  cat FILE-or-RUN         every event: time, step, kind, tag, value\n\n"
    "A RUN stands for all event files in it and below. A file that is being written is read as\n"
    "far as it goes; one that is damaged, up to the damage, and the exit code is 1.",
    options,
    sizeof(values),
    1,
    -1,
    run_events,
};
