#include "base/error.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MORE_MAX (sizeof(((belay_error *)NULL)->more) / sizeof(struct bly_chained))

static const char *const code_names[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

belay_error *belay_error_new(void) {
    belay_error *err = bly_malloc(sizeof *err);
    belay_error_clear(err);
    return err;
}

void belay_error_free(belay_error *err) {
    bly_free(err);
}

void belay_error_clear(belay_error *err) {
    if (!err)
        return;
    err->code = BELAY_OK;
    err->origin = BELAY_ORIGIN_BELAY;
    err->op[0] = '\0';
    err->message[0] = '\0';
    err->chained = 0;
}

belay_code belay_error_code(const belay_error *err) {
    return err ? err->code : BELAY_OK;
}

const char *belay_error_message(const belay_error *err) {
    return err ? err->message : "";
}

belay_origin belay_error_origin(const belay_error *err) {
    return err ? err->origin : BELAY_ORIGIN_BELAY;
}

const char *belay_error_op(const belay_error *err) {
    return err ? err->op : "";
}

uint32_t belay_error_is_recoverable(const belay_error *err) {
    belay_code code = belay_error_code(err);
    return code == BELAY_ABORTED || code == BELAY_UNAVAILABLE;
}

size_t belay_error_chained_count(const belay_error *err) {
    if (!err)
        return 0;
    return err->chained < MORE_MAX ? err->chained : MORE_MAX;
}

const char *belay_error_chained_message(const belay_error *err, size_t index) {
    return index < belay_error_chained_count(err) ? err->more[index].text : "";
}

belay_code belay_error_chained_code(const belay_error *err, size_t index) {
    return index < belay_error_chained_count(err) ? err->more[index].code : BELAY_OK;
}

const char *belay_code_name(belay_code code) {
    if (code == BELAY_STOPPED)
        return "STOPPED";
    if (code == BELAY_NAN_LOSS)
        return "NAN_LOSS";
    if (code < 0 || (size_t)code >= sizeof code_names / sizeof code_names[0])
        return "UNKNOWN";
    return code_names[code];
}

/* Text that did not fit ends in "..." so that nobody takes the cut for the end. */
static void mark_cut(char *text, size_t size, int wanted) {
    if (wanted >= 0 && (size_t)wanted >= size)
        memcpy(text + size - 4, "...", 4);
}

/* The longest message of which the end is kept: a path of the greatest length, and words. */
#define LONGEST_TEXT 6144

/* Takes the middle out of what does not fit: a message begins with a name, which may be a long
 * path, and ends with the reason. */
static void cut_middle(char *text, size_t size) {
    size_t len = strlen(text), head = size / 2, tail = size - 1 - head - 3;
    if (len < size)
        return;
    memcpy(text + head, "...", 3);
    memmove(text + head + 3, text + len - tail, tail + 1);
}

static void keep_text(belay_error *err, char *text) {
    bly_one_line(text);
    cut_middle(text, sizeof err->message);
    memcpy(err->message, text, strlen(text) + 1);
}

static void set_text(belay_error *err, belay_code code, belay_origin origin, const char *format,
                     va_list args) {
    char text[LONGEST_TEXT]; /* the arguments may point into err itself */
    mark_cut(text, sizeof text, vsnprintf(text, sizeof text, format, args));
    belay_error_clear(err);
    err->code = code;
    err->origin = origin;
    keep_text(err, text);
}

belay_code bly_fail(belay_error *err, belay_code code, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        set_text(err, code, BELAY_ORIGIN_BELAY, format, args);
        va_end(args);
    }
    return code;
}

belay_code bly_fail_memory(belay_error *err) {
    return bly_fail(err, BELAY_RESOURCE_EXHAUSTED, "out of memory");
}

static belay_code code_of_errno(int number) {
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        return BELAY_NOT_FOUND;
    case EEXIST:
        return BELAY_ALREADY_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return BELAY_PERMISSION_DENIED;
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return BELAY_RESOURCE_EXHAUSTED;
    case EINVAL:
    case ENAMETOOLONG:
    case EISDIR:
    case ELOOP:
        return BELAY_INVALID_ARGUMENT;
    case EIO:
        return BELAY_DATA_LOSS;
    case EINTR:
        return BELAY_CANCELLED;
    default:
        return BELAY_UNKNOWN;
    }
}

belay_code bly_fail_errno(belay_error *err, int number, const char *format, ...) {
    belay_code code = code_of_errno(number);
    if (err) {
        char text[LONGEST_TEXT];
        va_list args;
        va_start(args, format);
        mark_cut(text, LONGEST_TEXT - 256, vsnprintf(text, LONGEST_TEXT - 256, format, args));
        va_end(args);
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, ": %s", strerror(number));
        belay_error_clear(err);
        err->code = code;
        err->origin = BELAY_ORIGIN_BELAY;
        keep_text(err, text);
    }
    return code;
}

/* Finds the op in "[[{{node NAME}}" or the older "[[Node: NAME = ". In the whole text: the marker
 * stands at its end, which `err` may have no room for. */
static void find_op(belay_error *err, const char *message) {
    const char *start = strstr(message, "{{node ");
    const char *end = NULL;
    if (start) {
        start += strlen("{{node ");
        end = strstr(start, "}}");
    } else if ((start = strstr(message, "[[Node: ")) != NULL) {
        start += strlen("[[Node: ");
        end = strstr(start, " = ");
    }
    if (!end || (size_t)(end - start) >= sizeof err->op)
        return;
    memcpy(err->op, start, (size_t)(end - start));
    err->op[end - start] = '\0';
}

belay_code bly_fail_tensorflow(belay_error *err, belay_code code, const char *message) {
    bly_fail(err, code, "%s", message);
    if (err) {
        err->origin = BELAY_ORIGIN_TENSORFLOW;
        find_op(err, message);
    }
    return code;
}

void bly_error_prefix(belay_error *err, const char *format, ...) {
    char text[LONGEST_TEXT];
    if (!err || err->code == BELAY_OK)
        return;
    va_list args;
    va_start(args, format);
    int used = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (used < 0 || (size_t)used >= sizeof text)
        return;
    size_t room = sizeof text - (size_t)used;
    mark_cut(text + used, room, snprintf(text + used, room, "%s", err->message));
    keep_text(err, text);
}

belay_code bly_fail_callback(belay_error *err, belay_code code, const char *format, ...) {
    char what[512];
    va_list args;
    if (!err || (err->code == code && err->message[0]))
        return code;
    va_start(args, format);
    mark_cut(what, sizeof what, vsnprintf(what, sizeof what, format, args));
    va_end(args);
    if (err->code == BELAY_OK || !err->message[0]) {
        bly_fail(err, code, "%s failed without saying why", what);
        err->origin = BELAY_ORIGIN_HOOK;
    } else {
        bly_error_prefix(err, "%s failed: ", what);
        err->code = code;
    }
    return code;
}

static void add_chained(belay_error *err, belay_code code, const char *text) {
    if (err->chained < MORE_MAX) {
        struct bly_chained *slot = &err->more[err->chained];
        slot->code = code;
        mark_cut(slot->text, sizeof slot->text,
                 snprintf(slot->text, sizeof slot->text, "%s", text));
    }
    err->chained++;
}

void bly_error_chain(belay_error *err, const belay_error *later) {
    if (!err || !later || err == later || later->code == BELAY_OK)
        return;
    if (err->code == BELAY_OK) {
        bly_error_copy(err, later);
        return;
    }
    add_chained(err, later->code, later->message);
    for (size_t i = 0; i < belay_error_chained_count(later); i++)
        add_chained(err, later->more[i].code, later->more[i].text);
}

void bly_error_copy(belay_error *to, const belay_error *from) {
    if (to && from && to != from)
        *to = *from;
}

belay_code belay_error_set(belay_error *err, belay_code code, const char *message) {
    if (code == BELAY_OK)
        code = BELAY_INTERNAL;
    bly_fail(err, code, "%s", message ? message : "");
    if (err)
        err->origin = BELAY_ORIGIN_HOOK;
    return code;
}
