/* The verbs. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "args.h"

extern const cli_command cli_train;
extern const cli_command cli_eval;
extern const cli_command cli_export;
extern const cli_command cli_graph;
extern const cli_command cli_doctor;
extern const cli_command cli_ckpt;
extern const cli_command cli_server;
extern const cli_command cli_events;

/* What `train` and `eval` share. */

/* NAME=FILE.npy, taken apart: lists that end in NULL. */
typedef struct cli_feeds {
    char **names;
    const char **files;
} cli_feeds;

/* CLI_OK, or CLI_USAGE after saying what is wrong. `out` is to be freed either way. */
int cli_feeds_parse(const cli_list *given, cli_feeds *out);
void cli_feeds_free(cli_feeds *feeds);

#endif
