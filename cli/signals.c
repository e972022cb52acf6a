#include "signals.h"

#include "output.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

static sigset_t taken; /* set before the thread runs */
static pthread_t thread;
static atomic_int is_ending;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int asks;                  /* guarded by lock: a signal asks, it does not end the process */
static belay_training_run *asked; /* guarded by lock */
static atomic_int first_code;     /* exit code of the first signal; 0: none came */

/* A signal that comes again within this time is the same one. */
#define REPEAT_MS 2000

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What this is for: a signal in the middle of a save must neither cut it short nor go unanswered.
 */
static void take(int number, int *count, int64_t *first_ms) {
    int code = 128 + number;
    int none = 0;
    pthread_mutex_lock(&lock);
    atomic_compare_exchange_strong(&first_code, &none, code);
    if (!asks)
        _exit(code);
    int64_t now = now_ms();
    if (++*count > 1) {
        /* timeout(1) and others send the same signal twice, to the process and to its group. */
        if (now - *first_ms < REPEAT_MS) {
            pthread_mutex_unlock(&lock);
            return;
        }
        _exit(CLI_RETRY); /* steps may be lost: that is not what 143 and 130 say */
    }
    *first_ms = now;
    if (asked)
        belay_training_run_request_stop(asked);
    pthread_mutex_unlock(&lock);
    cli_say("%s: stopping after this step; again after two seconds to give up at once",
            number == SIGINT ? "interrupted" : "terminated");
}

static void *body(void *self) {
    int interrupts = 0, terminations = 0, number;
    int64_t interrupted_ms = 0, terminated_ms = 0;
    (void)self;
    while (!sigwait(&taken, &number) && !atomic_load(&is_ending)) {
        if (number == SIGINT)
            take(number, &interrupts, &interrupted_ms);
        else if (number == SIGTERM)
            take(number, &terminations, &terminated_ms);
        else
            cli_say("SIGUSR1: saving on demand is not built yet; training goes on");
    }
    return NULL;
}

int cli_signals_start(void) {
    sigemptyset(&taken);
    sigaddset(&taken, SIGTERM);
    sigaddset(&taken, SIGINT);
    sigaddset(&taken, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &taken, NULL);
    return pthread_create(&thread, NULL, body, NULL) == 0;
}

void cli_signals_end(void) {
    atomic_store(&is_ending, 1);
    pthread_kill(thread, SIGUSR1); /* wakes it; any other signal would, too */
    pthread_join(thread, NULL);
}

int cli_signals_ask(belay_training_run *run) {
    pthread_mutex_lock(&lock);
    asks = 1;
    asked = run;
    int code = atomic_load(&first_code);
    if (code && run)
        belay_training_run_request_stop(run);
    pthread_mutex_unlock(&lock);
    return code;
}

void cli_signals_forget(void) {
    pthread_mutex_lock(&lock);
    asked = NULL;
    pthread_mutex_unlock(&lock);
}

uint32_t cli_signals_should_stop(void *self) {
    (void)self;
    return atomic_load(&first_code) != 0;
}

int cli_signals_exit_code(void) {
    return atomic_load(&first_code);
}
