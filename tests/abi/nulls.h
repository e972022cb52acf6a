/* Every public function is called with NULL and 0 for all that it takes, three times: without an
 * error to fill, with an empty one, and with one that is filled already. None may crash. One that
 * returns a code, and fails, says why in the empty error; so does one that returns NULL, if it
 * takes an error. A filled one stays as it is, or is replaced. Each call has a process of its own:
 * the next function is tried where one dies. */
#include <belay/error.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum kind { NOTHING, CODE, POINTER, VALUE };

struct outcome {
    belay_code code;
    const void *pointer;
};

struct null_call {
    const char *name;
    enum kind kind;
    int takes_error;
    void (*call)(belay_error *err, struct outcome *out);
};

/* Where NULL is an argument like others, or what is asked has an answer in any case. */
static const char *const may_succeed[] = {
    "belay_cluster_spec_from_def",
    "belay_coordinator_new",
    "belay_error_chained_code",
    "belay_error_code",
    "belay_error_set",
    "belay_final_ops_hook_new",
    "belay_global_step_waiter_hook_new",
    "belay_log_set_callback",
    "belay_monitored_session_close",
    "belay_monitored_session_with",
    "belay_run_metadata_new",
    "belay_runtime_load",
    "belay_server_check",
    "belay_server_prepare",
    "belay_server_start",
    "belay_session_close",
    "belay_session_reset",
    "belay_step_counter_hook_new",
    "belay_stop_after_evals_hook_new",
    "belay_sync_replicas_hook_new",
    "belay_tf_config_load",
};

static int is_among(const char *name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0)
            return 1;
    return 0;
}

/* What is wrong; NULL: nothing. */
static const char *try_call(const struct null_call *call) {
    int may = is_among(call->name, may_succeed, sizeof may_succeed / sizeof may_succeed[0]);
    struct outcome out = {BELAY_OK, NULL};
    belay_error *empty = belay_error_new(), *filled = belay_error_new();
    call->call(NULL, &out);
    out = (struct outcome){BELAY_OK, NULL};
    call->call(empty, &out);
    if (call->kind == CODE && out.code == BELAY_OK && !may)
        return "succeeds";
    if (call->kind == CODE && call->takes_error && belay_error_code(empty) != out.code)
        return "returns another code than the error has";
    if (call->kind == POINTER && call->takes_error && out.pointer && !may)
        return "makes something of nothing";
    if (call->kind == POINTER && call->takes_error && !out.pointer &&
        belay_error_code(empty) == BELAY_OK)
        return "returns NULL and says nothing";
    if (belay_error_code(empty) != BELAY_OK && belay_error_message(empty)[0] == '\0')
        return "fails without a word";
    belay_error_set(filled, BELAY_UNAVAILABLE, "of before");
    out = (struct outcome){BELAY_OK, NULL};
    call->call(filled, &out);
    if (call->kind == CODE && out.code != BELAY_OK && call->takes_error &&
        belay_error_code(filled) == BELAY_OK)
        return "clears an error and fails";
    belay_error_free(empty);
    belay_error_free(filled);
    return NULL;
}

static int check_nulls(const struct null_call *calls, size_t count) {
    int bad = 0;
    for (size_t i = 0; i < count; i++) {
        int status = 0;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            const char *wrong = try_call(&calls[i]);
            if (wrong)
                printf("%s: %s\n", calls[i].name, wrong);
            fflush(stdout);
            _exit(wrong != NULL);
        }
        if (child < 0 || waitpid(child, &status, 0) != child)
            return 2;
        if (WIFSIGNALED(status))
            printf("%s: dies of signal %d\n", calls[i].name, WTERMSIG(status));
        bad += status != 0;
    }
    printf("%d of %d functions do not take NULL\n", bad, (int)count);
    return bad != 0;
}
