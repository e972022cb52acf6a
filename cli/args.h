/* Reading a command line by a table. Everything that is wrong with it is said in one line on
 * standard error, and found before anything is done. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stddef.h>
#include <stdint.h>

/* What an option's value is, and what its field holds. */
enum cli_kind {
    CLI_SWITCH,    /* none; int, 1 when given */
    CLI_TEXT,      /* anything; const char *, NULL when not given */
    CLI_LIST,      /* anything, repeatable; cli_list */
    CLI_COUNT,     /* a whole number, 0 or more; int64_t, CLI_NOT_GIVEN */
    CLI_POSITIVE,  /* a whole number, 1 or more; int64_t, CLI_NOT_GIVEN */
    CLI_INTEGER,   /* a whole number; cli_integer */
    CLI_DURATION,  /* a number, 0 or more; double, CLI_NOT_GIVEN */
    CLI_NOT_BUILT, /* named in the contract and not there yet; a value may follow it */
};

#define CLI_NOT_GIVEN (-1)

typedef struct cli_list {
    const char **items; /* ends in NULL once there is one */
    size_t count;
} cli_list;

typedef struct cli_integer {
    int64_t value;
    int given;
} cli_integer;

typedef struct cli_option {
    const char *name;    /* without its dashes */
    const char *metavar; /* NULL: takes no value */
    const char *help;
    enum cli_kind kind;
    size_t offset; /* of its field */
} cli_option;

typedef struct cli_command {
    const char *name;
    const char *arguments;     /* as shown: "GRAPH --dir RUN [options]" */
    const char *summary;       /* one line */
    const char *details;       /* further lines of help; NULL: none */
    const cli_option *options; /* ends with name NULL; NULL: none */
    size_t values_size;        /* of the struct that options fill */
    int least, most;           /* positional arguments; most -1: any number */
    /* Runs it and returns the exit code. NULL: not built yet. */
    int (*run)(const void *values, const char *const *arguments, int count);
} cli_command;

/* Fills `values` (of values_size bytes) and collects positional arguments. Returns -1 to go on, or
 * an exit code: 0 after
 * --help, 2 after a mistake, which has been said. */
int cli_parse(const cli_command *command, int argc, char **argv, void *values,
              const char **arguments, int *out_count);

void cli_values_free(const cli_command *command, void *values);

/* Help of one command, to standard output. */
void cli_print_help(const cli_command *command);

/* The name nearest to `wanted`; NULL where none is near. */
const char *cli_nearest(const char *wanted, const char *const *names, size_t count);

/* A whole number that takes up all of `text`. 0 where it is none. */
int cli_read_integer(const char *text, int64_t *out);

#endif
