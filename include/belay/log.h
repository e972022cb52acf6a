/**
 * Log lines: what belay tells a person.
 *
 * Without a callback, lines of level BELAY_LOG_WARNING and above go to standard error.
 */
#ifndef BELAY_LOG_H
#define BELAY_LOG_H

#include <belay/export.h>

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How much a line matters. */
typedef int32_t belay_log_level;

#define BELAY_LOG_DEBUG   ((belay_log_level)0)
#define BELAY_LOG_INFO    ((belay_log_level)1)
#define BELAY_LOG_WARNING ((belay_log_level)2)
#define BELAY_LOG_ERROR   ((belay_log_level)3)

/**
 * Receives log lines.
 *
 * Called on whichever thread logs, with no lock held, possibly on several at once. It must not log
 * itself, and leaves by `return` only.
 *
 * @param self    As given to belay_log_set_callback().
 * @param level   One of BELAY_LOG_*.
 * @param message One line, UTF-8, without a newline, of at most 4095 bytes: a longer one is cut.
 *                Valid during the call.
 */
typedef void (*belay_log_callback)(void *self, belay_log_level level, const char *message);

/**
 * Sends every line of `level` and above to `callback`, for the whole process. NULL goes back to
 * standard error.
 *
 * Threads: any thread, but not while another thread may be logging.
 */
BELAY_API void belay_log_set_callback(belay_log_callback callback, void *self,
                                      belay_log_level level);

#ifdef __cplusplus
}
#endif

#endif
