#include "args.h"

#include "output.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- names that are near ---------------------------------------------------------------------- */

#define LONGEST 64

/* Edit distance, with two neighbours swapped counting once: the most common slip of fingers. */
static size_t distance(const char *a, const char *b) {
    size_t before[LONGEST + 1], last[LONGEST + 1], now[LONGEST + 1];
    size_t width = strlen(b);
    for (size_t j = 0; j <= width; j++)
        before[j] = last[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        now[0] = i;
        for (size_t j = 1; j <= width; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        memcpy(before, last, sizeof before);
        memcpy(last, now, sizeof last);
    }
    return last[width];
}

const char *cli_nearest(const char *wanted, const char *const *names, size_t count) {
    const char *found = NULL;
    size_t best = strlen(wanted) / 3 + 1;
    if (strlen(wanted) > LONGEST)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (strlen(names[i]) > LONGEST)
            continue;
        size_t d = distance(wanted, names[i]);
        if (d < best || (d == best && !found)) {
            best = d;
            found = names[i];
        }
    }
    return found;
}

/* --- values ----------------------------------------------------------------------------------- */

int cli_read_integer(const char *text, int64_t *out) {
    char *end;
    if (!*text || isspace((unsigned char)*text))
        return 0;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end)
        return 0;
    *out = value;
    return 1;
}

static int read_duration(const char *text, double *out) {
    char *end;
    if (!*text || isspace((unsigned char)*text))
        return 0;
    double value = strtod(text, &end);
    if (*end || !isfinite(value) || value < 0)
        return 0;
    *out = value;
    return 1;
}

static int wrong_value(const cli_option *option, const char *value, const char *wanted) {
    return cli_usage_error("--%s takes %s, not '%s'", option->name, wanted, value);
}

static int given_twice(const cli_option *option) {
    return cli_usage_error("--%s is given twice", option->name);
}

static void add_to_list(cli_list *list, const char *value) {
    const char **items = cli_alloc((list->count + 2) * sizeof *items);
    if (list->count)
        memcpy(items, list->items, list->count * sizeof *items);
    items[list->count] = value;
    items[list->count + 1] = NULL;
    free(list->items);
    list->items = items;
    list->count++;
}

static int store_count(const cli_option *option, const char *value, int64_t *field, int64_t least) {
    if (*field != CLI_NOT_GIVEN)
        return given_twice(option);
    if (!cli_read_integer(value, field) || *field < least)
        return wrong_value(option, value,
                           least ? "a whole number above 0" : "a whole number, 0 or more");
    return CLI_OK;
}

static int store_integer(const cli_option *option, const char *value, cli_integer *field) {
    if (field->given)
        return given_twice(option);
    field->given = 1;
    return cli_read_integer(value, &field->value) ? CLI_OK
                                                  : wrong_value(option, value, "a whole number");
}

static int store_duration(const cli_option *option, const char *value, double *field) {
    if (*field >= 0)
        return given_twice(option);
    return read_duration(value, field) ? CLI_OK : wrong_value(option, value, "a number, 0 or more");
}

static int store_text(const cli_option *option, const char *value, const char **field) {
    if (*field)
        return given_twice(option);
    if (!*value)
        return cli_usage_error("--%s is empty", option->name);
    *field = value;
    return CLI_OK;
}

static int store(const cli_option *option, const char *value, void *values) {
    char *field = (char *)values + option->offset;
    switch (option->kind) {
    case CLI_SWITCH:
        *(int *)(void *)field = 1;
        return CLI_OK;
    case CLI_TEXT:
        return store_text(option, value, (const char **)(void *)field);
    case CLI_LIST:
        add_to_list((cli_list *)(void *)field, value);
        return CLI_OK;
    case CLI_COUNT:
        return store_count(option, value, (int64_t *)(void *)field, 0);
    case CLI_POSITIVE:
        return store_count(option, value, (int64_t *)(void *)field, 1);
    case CLI_INTEGER:
        return store_integer(option, value, (cli_integer *)(void *)field);
    case CLI_DURATION:
        return store_duration(option, value, (double *)(void *)field);
    case CLI_NOT_BUILT:
        break;
    }
    return CLI_OK;
}

static void set_defaults(const cli_command *command, void *values) {
    memset(values, 0, command->values_size);
    for (const cli_option *option = command->options; option && option->name; option++) {
        char *field = (char *)values + option->offset;
        if (option->kind == CLI_COUNT || option->kind == CLI_POSITIVE)
            *(int64_t *)(void *)field = CLI_NOT_GIVEN;
        else if (option->kind == CLI_DURATION)
            *(double *)(void *)field = CLI_NOT_GIVEN;
        else if (option->kind == CLI_TEXT)
            *(const char **)(void *)field = NULL;
    }
}

void cli_values_free(const cli_command *command, void *values) {
    for (const cli_option *option = command->options; option && option->name; option++)
        if (option->kind == CLI_LIST)
            free(((cli_list *)(void *)((char *)values + option->offset))->items);
}

/* --- the command line ------------------------------------------------------------------------- */

static const cli_option *find_option(const cli_command *command, const char *name, size_t len) {
    for (const cli_option *option = command->options; option && option->name; option++)
        if (strlen(option->name) == len && !memcmp(option->name, name, len))
            return option;
    return NULL;
}

static int unknown_option(const cli_command *command, const char *name, size_t len) {
    const char *names[64];
    size_t count = 0;
    char wanted[LONGEST + 1];
    for (const cli_option *o = command->options; o && o->name && count < 63; o++)
        names[count++] = o->name;
    names[count++] = "help";
    snprintf(wanted, sizeof wanted, "%.*s", len > LONGEST ? LONGEST : (int)len, name);
    const char *near = cli_nearest(wanted, names, count);
    if (near)
        return cli_usage_error("'belay %s' has no option '--%s'; did you mean '--%s'?",
                               command->name, wanted, near);
    return cli_usage_error("'belay %s' has no option '--%s'; 'belay help %s' lists them",
                           command->name, wanted, command->name);
}

/* One option at argv[*at], which starts with "--"; *at moves past its value. */
static int parse_option(const cli_command *command, int argc, char **argv, int *at, void *values) {
    const char *name = argv[*at] + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const cli_option *option = find_option(command, name, len);
    if (!option)
        return unknown_option(command, name, len);
    if (option->kind == CLI_NOT_BUILT) {
        char what[LONGEST + 3];
        snprintf(what, sizeof what, "--%s", option->name);
        return cli_not_built(what);
    }
    if (!option->metavar) {
        if (equals)
            return cli_usage_error("--%s takes no value", option->name);
        return store(option, NULL, values);
    }
    if (equals)
        return store(option, equals + 1, values);
    if (*at + 1 >= argc || !strncmp(argv[*at + 1], "--", 2))
        return cli_usage_error("--%s needs a value: --%s %s", option->name, option->name,
                               option->metavar);
    return store(option, argv[++*at], values);
}

static int check_arguments(const cli_command *command, int count, const char *const *arguments) {
    if (count < command->least)
        return cli_usage_error("usage: belay %s %s", command->name, command->arguments);
    if (command->most >= 0 && count > command->most)
        return cli_usage_error("'belay %s' does not know what to do with '%s'; usage: belay %s %s",
                               command->name, arguments[command->most], command->name,
                               command->arguments);
    return -1;
}

int cli_parse(const cli_command *command, int argc, char **argv, void *values,
              const char **arguments, int *out_count) {
    int count = 0, only_arguments = 0;
    set_defaults(command, values);
    for (int i = 0; i < argc; i++) {
        if (!only_arguments && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
            cli_print_help(command);
            return CLI_OK;
        }
        only_arguments |= !strcmp(argv[i], "--");
    }
    only_arguments = 0;
    for (int i = 0; i < argc; i++) {
        if (!only_arguments && !strcmp(argv[i], "--")) {
            only_arguments = 1;
        } else if (!only_arguments && !strncmp(argv[i], "--", 2)) {
            int code = parse_option(command, argc, argv, &i, values);
            if (code != CLI_OK)
                return code;
        } else if (!only_arguments && argv[i][0] == '-' && argv[i][1]) {
            return cli_usage_error("options begin with two dashes: '%s'", argv[i]);
        } else {
            arguments[count++] = argv[i];
        }
    }
    *out_count = count;
    return check_arguments(command, count, arguments);
}

/* --- help ------------------------------------------------------------------------------------- */

static void print_option(const cli_option *option) {
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", option->name, option->metavar ? " " : "",
             option->metavar ? option->metavar : "");
    if (strlen(left) > 26)
        printf("  %s\n  %-26s  %s%s\n", left, "", option->help,
               option->kind == CLI_NOT_BUILT ? " (not built yet)" : "");
    else
        printf("  %-26s  %s%s\n", left, option->help,
               option->kind == CLI_NOT_BUILT ? " (not built yet)" : "");
}

void cli_print_help(const cli_command *command) {
    printf("usage: belay %s %s\n\n%s\n", command->name, command->arguments, command->summary);
    if (command->details)
        printf("\n%s\n", command->details);
    if (command->options && command->options->name)
        printf("\noptions:\n");
    for (const cli_option *option = command->options; option && option->name; option++)
        print_option(option);
}
