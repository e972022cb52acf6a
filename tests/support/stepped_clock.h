/* A clock that a test owns: waits of hours take no time, and always the same number of them.
 *
 *     stepped_clock_install(STEPPED_AUTO);
 *     ... code under test, waits included, on this thread and on threads it starts ...
 *     assert_int_equal(stepped_clock_now_ms(), 30000);
 *     stepped_clock_uninstall();
 *
 * Time starts at 0. How it moves:
 *   STEPPED_AUTO    Whenever every thread waits, time jumps to the earliest deadline. So code that
 * is working is never overtaken by time, and code that waits never waits for real. STEPPED_MANUAL
 * Only stepped_clock_advance_ms() moves it. Call stepped_clock_settle() first, where the other
 * threads must have got to their waits before.
 *
 * "Every thread" is the one that installs the clock and those that bly_thread_start() starts from
 * then on, until their bodies return. A thread waits while it is in bly_wait_until(),
 * bly_cond_wait() or bly_thread_join(). The link option
 * --wrap (tests/CMakeLists.txt) leads these calls through here, and bly_cond_signal_all() too: a
 * thread that was signalled counts as working at once. Any other thread may use the clock; nobody
 * waits for it.
 *
 * Where every thread waits and none has a deadline, or time ran away (STEPPED_LAST_MS), nothing
 * will ever happen any more: the program says so on standard error and aborts. */
#ifndef BLY_TESTS_STEPPED_CLOCK_H
#define BLY_TESTS_STEPPED_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define STEPPED_AUTO   0
#define STEPPED_MANUAL 1

#define STEPPED_LAST_MS INT64_C(1000000000) /* 11 days */

/* Not while threads of belay's run; a test's setup and teardown are the place. Installing it twice
 * starts afresh. */
void stepped_clock_install(int mode);
/* Waits until the threads that were started under it have ended, for real and at most a few
 * seconds. */
void stepped_clock_uninstall(void);

int64_t stepped_clock_now_ms(void);
int64_t stepped_clock_now_us(void);

/* Moves time, waking the waits whose deadlines are reached. */
void stepped_clock_advance_ms(int64_t ms);
void stepped_clock_advance_us(int64_t us);

/* Waits, for real, until every other thread waits. */
void stepped_clock_settle(void);

/* Deadline of the wait that ends first, in ms; -1 where none has one. */
int64_t stepped_clock_next_deadline_ms(void);

/* How many threads wait. */
size_t stepped_clock_waiting(void);

#endif
