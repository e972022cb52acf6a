#include "run/ledger.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/locale.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
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

void bly_ledger_truth(bly_ledger *ledger, const char *key, int value) {
    bly_buf_printf(&ledger->line, ",\"%s\":%s", key, value ? "true" : "false");
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

/* ---- reading ---- */

#define TAIL INT64_C(65536) /* a start is followed by many lines; a stop by none */

static const char *text_at(const json_t *line, const char *key) {
    const char *text = json_string_value(json_object_get(line, key));
    return text ? text : "";
}

static bly_ledger_state state_of_line(const char *text, size_t len, char *reason, size_t room) {
    bly_ledger_state state = BLY_LEDGER_UNKNOWN;
    json_t *line = json_loadb(text, len, 0, NULL);
    if (strcmp(text_at(line, "event"), "start") == 0)
        state = BLY_LEDGER_STARTED;
    if (strcmp(text_at(line, "event"), "stop") == 0) {
        state = json_is_true(json_object_get(line, "over")) ? BLY_LEDGER_OVER : BLY_LEDGER_STOPPED;
        snprintf(reason, room, "%s", text_at(line, "reason"));
    }
    json_decref(line);
    return state;
}

/* The last bytes of the ledger, which begin in the middle of a line. */
static int read_tail(const char *path, bly_buf *out) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    int64_t from = fstat(fd, &info) == 0 && info.st_size > TAIL ? info.st_size - TAIL : 0;
    char *room = bly_buf_reserve(out, (size_t)TAIL);
    ssize_t got = room ? pread(fd, room, (size_t)TAIL, from) : -1;
    close(fd);
    if (got > 0)
        out->len += (size_t)got;
    return got > 0;
}

bly_ledger_state bly_ledger_look(const char *folder, char *reason, size_t room) {
    bly_ledger_state state = BLY_LEDGER_UNKNOWN;
    bly_buf tail = BLY_BUF_INIT;
    char *path = bly_path_join(folder, BLY_LEDGER_FILE);
    reason[0] = '\0';
    if (path && read_tail(path, &tail)) {
        state = BLY_LEDGER_STARTED; /* it is there, and nothing of late says that it ended */
        size_t end = tail.len;
        for (size_t i = tail.len; i-- > 0;) {
            if (i > 0 && tail.data[i - 1] != '\n')
                continue;
            bly_ledger_state says = state_of_line(tail.data + i, end - i, reason, room);
            if (says != BLY_LEDGER_UNKNOWN) {
                state = says;
                break;
            }
            end = i;
        }
    }
    bly_free(path);
    bly_buf_free(&tail);
    return state;
}
