#include "base/log.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

static void to_stderr(void *self, belay_log_level level, const char *message) {
    (void)self;
    fprintf(stderr, "belay: %s%s\n", level >= BELAY_LOG_ERROR ? "error: " : "", message);
}

static belay_log_callback callback = to_stderr;
static void *callback_self;
static belay_log_level lowest = BELAY_LOG_WARNING;

void belay_log_set_callback(belay_log_callback function, void *self, belay_log_level level) {
    callback = function ? function : to_stderr;
    callback_self = function ? self : NULL;
    lowest = function ? level : BELAY_LOG_WARNING;
}

void bly_log(belay_log_level level, const char *format, ...) {
    char text[4096];
    if (level < lowest)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    /* What a person's formatter or a file name put into it, and a cut, too. */
    bly_one_line(text);
    bly_make_utf8(text);
    callback(callback_self, level, text);
}
