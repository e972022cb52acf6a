/* Processes that tests start: servers, `belay server`, and others. All of it stays on 127.0.0.1. */
#ifndef BLY_TESTS_PROCESSES_H
#define BLY_TESTS_PROCESSES_H

#include "session_run.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct process {
    pid_t pid;
    FILE *says; /* standard error of a server, standard output of a worker */
};

/* What a test that fails leaves running is ended with the program. */
static struct process running[16];

static inline struct process *start_process(const char *const *arguments, int fd) {
    struct process *process = running;
    int ends[2];
    while (process->pid)
        process++;
    assert_true(process < running + sizeof running / sizeof running[0]);
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], fd);
        close(ends[0]);
        close(ends[1]);
        execv(arguments[0], (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    assert_true(pid > 0);
    close(ends[1]);
    process->pid = pid;
    process->says = fdopen(ends[0], "r");
    return process;
}

/* The rest of the first line that holds `part`, after it. */
static inline void read_up_to(struct process *process, const char *part, char *out, size_t room) {
    static char line[4096];
    while (fgets(line, sizeof line, process->says)) {
        const char *found = strstr(line, part);
        if (!found)
            continue;
        snprintf(out, room, "%s", found + strlen(part));
        out[strcspn(out, "\n")] = '\0';
        return;
    }
    fail_msg("the process ended without '%s'; its last line: %s", part, line);
}

static inline int end_process(struct process *process, int number) {
    int status;
    if (number)
        kill(process->pid, number);
    assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
    fclose(process->says);
    process->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline int end_all(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof running / sizeof running[0]; i++)
        if (running[i].pid)
            end_process(&running[i], SIGKILL);
    return 0;
}

/* A port that nobody has at the moment. */
static inline int free_port(void) {
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t size = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &size), 0);
    close(fd);
    return ntohs(any.sin_port);
}

/* Starts a server and waits until it serves; `target` gets where. */
static inline struct process *start_server(const char *cluster, const char *job, char *target,
                                           size_t room) {
    struct process *process = start_process(
        (const char *const[]){BELAY_COMMAND, "server", "--cluster", cluster, "--job", job, NULL},
        STDERR_FILENO);
    char rest[256], *at;
    read_up_to(process, "serving job ", rest, sizeof rest);
    at = strstr(rest, " at ");
    assert_non_null(at);
    snprintf(target, room, "%s", at + strlen(" at "));
    return process;
}

#endif
