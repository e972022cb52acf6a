#include "run/ledger.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/locale.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct bly_ledger {
    int fd;
    char *path;
    bly_buf line;
    int warned;
};

static void warn_once(bly_ledger *ledger, const char *why) {
    if (!ledger->warned)
        bly_warn("cannot write %s: %s", ledger->path, why);
    ledger->warned = 1;
}

/* A process that was killed in the middle of a line left it without its end. */
static void end_cut_line(bly_ledger *ledger) {
    struct stat info;
    char last = '\n';
    if (fstat(ledger->fd, &info) || info.st_size == 0)
        return;
    if (pread(ledger->fd, &last, 1, info.st_size - 1) == 1 && last != '\n' &&
        write(ledger->fd, "\n", 1) != 1)
        warn_once(ledger, strerror(errno));
}

bly_ledger *bly_ledger_open(const char *folder, belay_error *err) {
    bly_ledger *ledger = bly_calloc(1, sizeof *ledger);
    if (ledger)
        ledger->path = bly_path_join(folder, BLY_LEDGER_FILE);
    if (!ledger || !ledger->path) {
        bly_free(ledger);
        bly_fail_memory(err);
        return NULL;
    }
    ledger->fd = open(ledger->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (ledger->fd < 0) {
        bly_fail_errno(err, errno, "cannot write %s", ledger->path);
        bly_ledger_close(ledger);
        return NULL;
    }
    end_cut_line(ledger);
    return ledger;
}

void bly_ledger_begin(bly_ledger *ledger, const char *event, int64_t step) {
    bly_locale was = bly_locale_plain();
    bly_buf_clear(&ledger->line);
    bly_buf_printf(&ledger->line, "{\"time_unix\":%.3f,\"event\":", bly_unix_time());
    bly_locale_restore(was);
    bly_buf_put_json(&ledger->line, event);
    if (step >= 0)
        bly_ledger_integer(ledger, "step", step);
}

void bly_ledger_text(bly_ledger *ledger, const char *key, const char *value) {
    if (!value)
        return;
    bly_buf_printf(&ledger->line, ",\"%s\":", key);
    bly_buf_put_json(&ledger->line, value);
}

void bly_ledger_integer(bly_ledger *ledger, const char *key, int64_t value) {
    bly_buf_printf(&ledger->line, ",\"%s\":%lld", key, (long long)value);
}

void bly_ledger_number(bly_ledger *ledger, const char *key, double value) {
    if (!isfinite(value))
        return; /* JSON has no such numbers */
    bly_locale was = bly_locale_plain();
    bly_buf_printf(&ledger->line, ",\"%s\":%.6g", key, value);
    bly_locale_restore(was);
}

void bly_ledger_end(bly_ledger *ledger) {
    bly_buf_puts(&ledger->line, "}\n");
    if (ledger->line.failed) {
        warn_once(ledger, "out of memory");
        return;
    }
    ssize_t written;
    do
        written = write(ledger->fd, ledger->line.data, ledger->line.len);
    while (written < 0 && errno == EINTR);
    if (written != (ssize_t)ledger->line.len)
        warn_once(ledger, written < 0 ? strerror(errno) : "the disk is full");
}

void bly_ledger_close(bly_ledger *ledger) {
    if (!ledger)
        return;
    if (ledger->fd >= 0)
        close(ledger->fd);
    bly_buf_free(&ledger->line);
    bly_free(ledger->path);
    bly_free(ledger);
}
