/* The belay command: finds the verb, and gives it its part of the command line. */
#include "args.h"
#include "commands.h"
#include "output.h"
#include "signals.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOT_BUILT(name, arguments, summary)                                                        \
    static const cli_command name = {#name, arguments, summary, NULL, NULL, 0, 0, -1, NULL}

NOT_BUILT(launch, "[--ps N] [--workers N] -- belay train ...", "A whole cluster on this machine.");
NOT_BUILT(report, "RUN", "Where the run's time went, across restarts.");

static const cli_command *const commands[] = {
    &cli_train,  &cli_eval,   &cli_export, &cli_ckpt,   &cli_graph,
    &cli_doctor, &cli_server, &launch,     &cli_events, &report,
};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_usage(FILE *out) {
    fputs("usage: belay VERB ...\n\nMonitored training sessions for TensorFlow graphs and Keras "
          "models.\n\n",
          out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-8s  %s%s\n", commands[i]->name, commands[i]->summary,
                commands[i]->run ? "" : " (not built yet)");
    fputs("\n'belay help VERB' tells more; 'belay --version' says which belay this is.\n", out);
}

static const cli_command *find_command(const char *name) {
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    return NULL;
}

static int unknown_verb(const char *name) {
    const char *names[COMMAND_COUNT + 1];
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i]->name;
    names[COMMAND_COUNT] = "help";
    const char *near = cli_nearest(name, names, COMMAND_COUNT + 1);
    if (near)
        return cli_usage_error("there is no verb '%s'; did you mean '%s'?", name, near);
    return cli_usage_error("there is no verb '%s'; 'belay help' lists them", name);
}

static int run_command(const cli_command *command, int argc, char **argv) {
    int code, count = 0;
    if (!command->run) {
        for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
            if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
                cli_print_help(command);
                return CLI_OK;
            }
        }
        char what[64];
        snprintf(what, sizeof what, "'belay %s'", command->name);
        return cli_not_built(what);
    }
    void *values = cli_alloc(command->values_size);
    const char **arguments = cli_alloc((size_t)(argc + 1) * sizeof *arguments);
    code = cli_parse(command, argc, argv, values, arguments, &count);
    if (code < 0)
        code = command->run(values, arguments, count);
    cli_values_free(command, values);
    free(arguments);
    free(values);
    return code;
}

static int too_many(const char *argument, const char *usage) {
    return cli_usage_error("do not know what to do with '%s'; usage: belay %s", argument, usage);
}

static int help(int argc, char **argv) {
    if (argc == 0) {
        print_usage(stdout);
        return CLI_OK;
    }
    const cli_command *command = find_command(argv[0]);
    if (!command)
        return unknown_verb(argv[0]);
    if (argc > 1)
        return too_many(argv[1], "help VERB");
    cli_print_help(command);
    if (!command->run)
        printf("\nnot built yet\n");
    return CLI_OK;
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        print_usage(stderr);
        return CLI_USAGE;
    }
    if (!strcmp(argv[1], "--version")) {
        if (argc > 2)
            return too_many(argv[2], "--version");
        printf("belay %s\n", belay_version());
        return CLI_OK;
    }
    if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        return help(argc - 2, argv + 2);
    if (argv[1][0] == '-')
        return cli_usage_error("the verb comes first: belay VERB %s ...; 'belay help' lists the "
                               "verbs",
                               argv[1]);
    const cli_command *command = find_command(argv[1]);
    return command ? run_command(command, argc - 2, argv + 2) : unknown_verb(argv[1]);
}

/* A result that did not reach its reader is not a result. */
static int check_output(int code) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        cli_error("standard output cannot be written");
        return code == CLI_OK ? CLI_FAILED : code;
    }
    return code;
}

/* A closed standard stream would be given to the next file that is opened, a lock or an array, and
 * progress would be written there. What takes its place refuses output, so that a result that
 * nobody can read is still an error. */
static void fill_standard_streams(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 1 ? O_RDONLY : O_RDWR) != fd)
            return;
}

int main(int argc, char **argv) {
    fill_standard_streams();
    if (!cli_signals_start()) {
        cli_error("the system has no thread to give");
        return CLI_RETRY;
    }
    /* TensorFlow tells of its start at length; errors still come through. It reads this when it is
     * loaded. */
    setenv("TF_CPP_MIN_LOG_LEVEL", "2", 0);
    int code = check_output(dispatch(argc, argv));
    cli_signals_end();
    return code;
}
