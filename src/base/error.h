/* Filling errors. All of these accept err == NULL, and return the code so that a function can end
 * with them. */
#ifndef BLY_BASE_ERROR_H
#define BLY_BASE_ERROR_H

#include <belay/error.h>

#include <stdarg.h>

/* Replaces what `err` holds by a new error of belay's own. */
belay_code bly_fail(belay_error *err, belay_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same where memory is out. */
belay_code bly_fail_memory(belay_error *err);

/* The same from errno: picks the code that the exit codes of the command rely on (full disk:
 * RESOURCE_EXHAUSTED, and so on) and appends the system's text. `format` says what was being done
 * to what ("cannot write RUN/checkpoint"). */
belay_code bly_fail_errno(belay_error *err, int number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An error that TensorFlow reported; the failing op is taken from the message's node marker
 * (ST-05). */
belay_code bly_fail_tensorflow(belay_error *err, belay_code code, const char *message);

/* The error of a function that somebody gave to belay: it returned `code`, not BELAY_OK, and filled
 * `err`, which was empty before, or did not. The code that was returned counts; what `err` says is
 * kept, and said to be of `format` where the two differ. Origin becomes BELAY_ORIGIN_HOOK where the
 * text is ours. */
belay_code bly_fail_callback(belay_error *err, belay_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts more context in front of the text: "while restoring X: " + text. */
void bly_error_prefix(belay_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Adds `later` to what is chained to `err`; where `err` is empty it becomes `later`. The first
 * error stays first. */
void bly_error_chain(belay_error *err, const belay_error *later);

/* Makes `to` equal to `from`. */
void bly_error_copy(belay_error *to, const belay_error *from);

/* A local error on the stack, without allocation: BLY_LOCAL_ERROR(mine); */
struct bly_chained {
    belay_code code;
    char text[508];
};

struct belay_error {
    belay_code code;
    belay_origin origin;
    char op[256];
    char message[2048];
    size_t chained; /* may exceed what is stored */
    struct bly_chained more[4];
};

#define BLY_LOCAL_ERROR(name)                                                                      \
    belay_error name;                                                                              \
    belay_error_clear(&name)

#endif
