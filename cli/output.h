/* How the command speaks: results on standard output, everything else on standard error. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <belay/belay.h>

#include <jansson.h>

#define CLI_OK        0
#define CLI_FAILED    1   /* a retry would fail again */
#define CLI_USAGE     2   /* the command line is wrong, or names what is not built yet */
#define CLI_DIFFERENT 3   /* verify or diff found a difference */
#define CLI_RETRY     138 /* worth a retry */

/* "belay: error: ..." on standard error. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for a mistake in the command line; returns CLI_USAGE. */
int cli_usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says that something of the contract is not there yet; returns CLI_USAGE. */
int cli_not_built(const char *what);
/* Says an error with what is chained to it, and returns its exit code. */
int cli_report(const belay_error *err);
/* The exit code that an error stands for. */
int cli_exit_code(const belay_error *err);

/* Lines beside the result: "belay: " is not put in front. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* 1 where the stream is a terminal that understands more than plain text; colour also honours
 * NO_COLOR. */
int cli_is_rich_terminal(int fd);
int cli_has_colour(int fd);

/* A table of text: cells are copied, columns are as wide as they need. */
typedef struct cli_table cli_table;
cli_table *cli_table_new(size_t columns,
                         const char *const *headings); /* ends the process where memory is out */
void cli_table_align_right(cli_table *table, size_t column);
void cli_table_add(cli_table *table, const char *const *cells); /* NULL: an empty cell */
void cli_table_print(cli_table *table);                         /* to standard output */
void cli_table_free(cli_table *table);

/* Prints to standard output, gives up the reference, and returns CLI_OK; for the end of a command
 * with --json. */
int cli_print_json(json_t *value);

/* "1.2 MiB" and "[3,4]", "[?,4]", "?" into text of `room` bytes; returns text. */
const char *cli_size_text(uint64_t bytes, char *text, size_t room);
const char *cli_shape_text(int32_t rank, const int64_t *dims, char *text, size_t room);
json_t *cli_shape_json(int32_t rank, const int64_t *dims);

/* Text that may not be UTF-8 as a JSON string; bytes may hold a NUL besides. */
json_t *cli_json_text(const char *text);
json_t *cli_json_bytes(const char *bytes, size_t size);
/* A number, or null for what JSON has no number for. */
json_t *cli_json_number(double value);

/* Allocations that end the process with a message where memory is out: a command has nothing else
 * to do then. */
void *cli_alloc(size_t size);
char *cli_copy(const char *text);

/* A copy in which each control character is a question mark: a name out of a file is one cell of
 * one line, and gives the terminal no orders. */
char *cli_printable(const char *text);

#endif
