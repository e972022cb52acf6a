#include "output.h"

#include "progress.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- messages --------------------------------------------------------------------------------- */

int cli_is_rich_terminal(int fd) {
    const char *term = getenv("TERM");
    return isatty(fd) && term && *term && strcmp(term, "dumb") != 0;
}

int cli_has_colour(int fd) {
    const char *no_colour = getenv("NO_COLOR");
    return cli_is_rich_terminal(fd) && !(no_colour && *no_colour);
}

static void say_error(const char *format, va_list arguments) {
    char text[4096];
    vsnprintf(text, sizeof text, format, arguments);
    cli_progress_line(BELAY_LOG_ERROR, text);
}

void cli_error(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say_error(format, arguments);
    va_end(arguments);
}

int cli_usage_error(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say_error(format, arguments);
    va_end(arguments);
    return CLI_USAGE;
}

int cli_not_built(const char *what) {
    return cli_usage_error("%s is not built yet", what);
}

void cli_say(const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    cli_progress_line(BELAY_LOG_INFO, text);
}

int cli_exit_code(const belay_error *err) {
    switch (belay_error_code(err)) {
    case BELAY_OK:
        return CLI_OK;
    case BELAY_RESOURCE_EXHAUSTED:
    case BELAY_UNAVAILABLE:
    case BELAY_ABORTED:
    case BELAY_DEADLINE_EXCEEDED:
        return CLI_RETRY;
    case BELAY_UNIMPLEMENTED:
        /* What belay itself does not know yet; an op that TensorFlow lacks will not come by itself
         * either. */
        return belay_error_origin(err) == BELAY_ORIGIN_BELAY ? CLI_USAGE : CLI_FAILED;
    default:
        return CLI_FAILED;
    }
}

int cli_report(const belay_error *err) {
    cli_error("%s", *belay_error_message(err) ? belay_error_message(err)
                                              : belay_code_name(belay_error_code(err)));
    size_t stored = belay_error_chained_count(err);
    for (size_t i = 0; i < stored && *belay_error_chained_message(err, i); i++)
        cli_progress_line(BELAY_LOG_WARNING, belay_error_chained_message(err, i));
    return cli_exit_code(err);
}

/* --- memory ----------------------------------------------------------------------------------- */

void *cli_alloc(size_t size) {
    void *p = calloc(1, size ? size : 1);
    if (!p) {
        fputs("belay: error: out of memory\n", stderr);
        exit(CLI_RETRY);
    }
    return p;
}

char *cli_copy(const char *text) {
    char *copy = cli_alloc(strlen(text) + 1);
    memcpy(copy, text, strlen(text));
    return copy;
}

char *cli_printable(const char *text) {
    char *copy = cli_copy(text);
    json_t *valid = json_string(text); /* NULL: not UTF-8, and a terminal shows what it likes */
    for (char *c = copy; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || (!valid && (unsigned char)*c >= 0x80))
            *c = '?';
    json_decref(valid);
    return copy;
}

/* --- tables ----------------------------------------------------------------------------------- */

struct cli_table {
    size_t columns;
    size_t rows;     /* the headings are the first */
    size_t capacity; /* rows that `cells` has room for */
    char **cells;
    int *right;
};

cli_table *cli_table_new(size_t columns, const char *const *headings) {
    cli_table *table = cli_alloc(sizeof *table);
    table->columns = columns;
    table->right = cli_alloc(columns * sizeof *table->right);
    cli_table_add(table, headings);
    return table;
}

void cli_table_align_right(cli_table *table, size_t column) {
    table->right[column] = 1;
}

void cli_table_add(cli_table *table, const char *const *cells) {
    if (table->rows == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 16;
        char **grown = cli_alloc(capacity * table->columns * sizeof *grown);
        if (table->rows)
            memcpy(grown, table->cells, table->rows * table->columns * sizeof *grown);
        free(table->cells);
        table->cells = grown;
        table->capacity = capacity;
    }
    for (size_t i = 0; i < table->columns; i++)
        table->cells[table->rows * table->columns + i] = cli_printable(cells[i] ? cells[i] : "");
    table->rows++;
}

/* Columns that a UTF-8 text takes, near enough for names: one for each character. */
static size_t width_of(const char *text) {
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void print_cell(const char *cell, size_t width, int right, int last) {
    size_t pad = width - width_of(cell);
    if (right)
        printf("%*s", (int)pad, "");
    fputs(cell, stdout);
    if (!right && !last)
        printf("%*s", (int)pad, "");
    fputs(last ? "\n" : "  ", stdout);
}

void cli_table_print(cli_table *table) {
    size_t *width = cli_alloc(table->columns * sizeof *width);
    for (size_t i = 0; i < table->rows * table->columns; i++) {
        size_t w = width_of(table->cells[i]);
        if (w > width[i % table->columns])
            width[i % table->columns] = w;
    }
    for (size_t row = 0; row < table->rows; row++) {
        int bold = row == 0 && cli_has_colour(STDOUT_FILENO);
        fputs(bold ? "\033[1m" : "", stdout);
        for (size_t i = 0; i < table->columns; i++)
            print_cell(table->cells[row * table->columns + i], width[i], table->right[i],
                       i + 1 == table->columns);
        fputs(bold ? "\033[0m" : "", stdout);
    }
    free(width);
}

void cli_table_free(cli_table *table) {
    for (size_t i = 0; i < table->rows * table->columns; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table->right);
    free(table);
}

/* --- values as text --------------------------------------------------------------------------- */

const char *cli_size_text(uint64_t bytes, char *text, size_t room) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    if (bytes < 1024) {
        snprintf(text, room, "%" PRIu64 " B", bytes);
        return text;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    for (; value >= 1023.95 && unit < 4; unit++)
        value /= 1024;
    snprintf(text, room, "%.1f %s", value, units[unit]);
    return text;
}

const char *cli_shape_text(int32_t rank, const int64_t *dims, char *text, size_t room) {
    if (rank < 0) {
        snprintf(text, room, "?");
        return text;
    }
    size_t at = (size_t)snprintf(text, room, "[");
    for (int32_t i = 0; i < rank && at < room; i++) {
        const char *comma = i ? "," : "";
        at += (size_t)(dims[i] < 0 ? snprintf(text + at, room - at, "%s?", comma)
                                   : snprintf(text + at, room - at, "%s%" PRId64, comma, dims[i]));
    }
    if (at < room)
        snprintf(text + at, room - at, "]");
    return text;
}

/* --- JSON ------------------------------------------------------------------------------------- */

json_t *cli_shape_json(int32_t rank, const int64_t *dims) {
    if (rank < 0)
        return json_null();
    json_t *shape = json_array();
    for (int32_t i = 0; i < rank; i++)
        json_array_append_new(shape, dims[i] < 0 ? json_null() : json_integer(dims[i]));
    return shape;
}

json_t *cli_json_bytes(const char *bytes, size_t size) {
    json_t *value = json_stringn(bytes, size);
    if (value)
        return value;
    /* Not UTF-8. Names of that kind are rare: each odd byte becomes a question mark. */
    char *plain = cli_alloc(size);
    for (size_t i = 0; i < size; i++)
        plain[i] = (unsigned char)bytes[i] < 0x80 ? bytes[i] : '?';
    value = json_stringn(plain, size);
    free(plain);
    return value;
}

json_t *cli_json_text(const char *text) {
    return cli_json_bytes(text, strlen(text));
}

json_t *cli_json_number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

int cli_print_json(json_t *value) {
    json_dumpf(value, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(value);
    return CLI_OK;
}
