/* Threads, mutexes and conditions. Conditions run on the monotonic clock. */
#ifndef BLY_BASE_THREAD_H
#define BLY_BASE_THREAD_H

#include <belay/error.h>

#include <pthread.h>
#include <stdint.h>

typedef pthread_mutex_t bly_mutex;
typedef pthread_cond_t bly_cond;

void bly_mutex_init(bly_mutex *mutex);
void bly_mutex_clean_up(bly_mutex *mutex);
void bly_mutex_lock(bly_mutex *mutex);
void bly_mutex_unlock(bly_mutex *mutex);
/* For tests: how many locks this thread has taken so far. */
size_t bly_mutex_count_here(void);

void bly_cond_init(bly_cond *cond);
void bly_cond_clean_up(bly_cond *cond);
void bly_cond_signal_all(bly_cond *cond);
/* The system's own wait; use bly_wait_until() of clock.h, which tests can step. */
void bly_cond_wait(bly_cond *cond, bly_mutex *mutex, int64_t deadline_us);

typedef struct bly_thread bly_thread;

/* Starts a thread called `name` (cut to 15 bytes for the system). All signals are blocked in it:
 * belay's threads never run a host's handler. Returns NULL with err filled where the system has no
 * thread to give. */
bly_thread *bly_thread_start(const char *name, void (*body)(void *self), void *self,
                             belay_error *err);
const char *bly_thread_name(const bly_thread *thread);
/* 1 once the body has returned. Any thread. */
int bly_thread_is_done(const bly_thread *thread);
/* Waits for the body to return and frees the thread. */
void bly_thread_join(bly_thread *thread);
/* Lets the thread go: it frees itself when its body returns. */
void bly_thread_abandon(bly_thread *thread);

#endif
