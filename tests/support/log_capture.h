/* Keeps belay's log lines, so that a test can look for what a person would have been told.
 *
 *     log_capture_start(BELAY_LOG_INFO);
 *     ...
 *     assert_int_equal(log_capture_count("waiting for threads"), 3);
 *     log_capture_stop(); */
#ifndef BLY_TESTS_LOG_CAPTURE_H
#define BLY_TESTS_LOG_CAPTURE_H

#include <belay/log.h>

#include <stddef.h>

/* Lines of `level` and above, from now on and from no line. Not while threads of belay's run. */
void log_capture_start(belay_log_level level);
void log_capture_stop(void);

/* How many lines hold `part`; NULL: all lines. */
size_t log_capture_count(const char *part);
/* The first line that holds `part`, or an empty string. It lives until the next start. */
const char *log_capture_find(const char *part);

#endif
