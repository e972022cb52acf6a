/* TensorFlow greets whoever loads it, before its own log level counts. The greeting goes to a
 * memory file that nobody reads, unless loading fails; and since a TensorFlow that was built for
 * another processor says so and dies, a handler shows what was kept back before the process ends.
 */
#define _GNU_SOURCE
#include "quiet.h"

#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static const int deadly[] = {SIGABRT, SIGILL, SIGSEGV, SIGBUS, SIGFPE};
#define DEADLY_COUNT (sizeof deadly / sizeof deadly[0])

static int kept = -1; /* what was written meanwhile */
static int real = -1; /* standard error as it was */

/* Async-signal-safe. */
static void show_kept(void) {
    char piece[1024];
    ssize_t got;
    if (lseek(kept, 0, SEEK_SET) != 0)
        return;
    while ((got = read(kept, piece, sizeof piece)) > 0)
        if (write(real, piece, (size_t)got) != got)
            return;
}

static void dying(int number) {
    show_kept();
    signal(number, SIG_DFL);
    raise(number);
}

static int begin(struct sigaction *before) {
    struct sigaction action = {.sa_handler = dying};
    kept = memfd_create("belay-stderr", MFD_CLOEXEC);
    real = kept < 0 ? -1 : dup(STDERR_FILENO);
    if (real < 0 || dup2(kept, STDERR_FILENO) < 0)
        return 0;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < DEADLY_COUNT; i++)
        sigaction(deadly[i], &action, &before[i]);
    return 1;
}

static void end(const struct sigaction *before) {
    for (size_t i = 0; i < DEADLY_COUNT; i++)
        sigaction(deadly[i], &before[i], NULL);
    dup2(real, STDERR_FILENO);
}

belay_code cli_load_tensorflow(belay_error *err) {
    struct sigaction before[DEADLY_COUNT];
    int quiet = begin(before);
    belay_code code = belay_runtime_load(err);
    if (quiet)
        end(before);
    if (quiet && code != BELAY_OK)
        show_kept();
    if (real >= 0)
        close(real);
    if (kept >= 0)
        close(kept);
    real = kept = -1;
    return code;
}
