#include "session/target_watch.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "cluster/contact.h"

#define LOOK_EVERY_US INT64_C(1000000)

/* Shared by a caller that waits and the thread that looks for it; the last of them frees it. */
struct bly_target_watch {
    bly_mutex lock;
    bly_cond changed;
    int references; /* guarded by lock, as are all below */
    int over;
    int state;        /* BLY_TARGET_* */
    int64_t since_us; /* it has been so since then */
    bly_buf why;
    char *target; /* does not change */
};

static void drop(bly_target_watch *watch) {
    bly_mutex_lock(&watch->lock);
    int last = --watch->references == 0;
    bly_mutex_unlock(&watch->lock);
    if (!last)
        return;
    bly_cond_clean_up(&watch->changed);
    bly_mutex_clean_up(&watch->lock);
    bly_buf_free(&watch->why);
    bly_free(watch->target);
    bly_free(watch);
}

static void look_body(void *self) {
    bly_target_watch *watch = self;
    bly_mutex_lock(&watch->lock);
    while (!watch->over) {
        bly_buf why = BLY_BUF_INIT;
        bly_mutex_unlock(&watch->lock);
        int64_t started = bly_now_us();
        int state = bly_target_look(watch->target, &why);
        bly_mutex_lock(&watch->lock);
        bly_buf_free(&watch->why);
        watch->why = why;
        if (state != watch->state)
            watch->since_us = started;
        watch->state = state;
        int64_t again = bly_now_us() + LOOK_EVERY_US;
        while (!watch->over && bly_wait_until(&watch->changed, &watch->lock, again))
            ;
    }
    bly_mutex_unlock(&watch->lock);
    drop(watch);
}

bly_target_watch *bly_target_watch_start(const char *target) {
    bly_target_watch *watch = bly_calloc(1, sizeof *watch);
    char *copy = bly_strdup(target);
    if (!watch || !copy) {
        bly_free(watch);
        bly_free(copy);
        return NULL;
    }
    bly_mutex_init(&watch->lock);
    bly_cond_init(&watch->changed);
    watch->references = 2;
    watch->state = BLY_TARGET_ANSWERS;
    watch->since_us = bly_now_us();
    watch->target = copy;
    bly_thread *thread = bly_thread_start("belay-look", look_body, watch, NULL);
    if (thread) {
        bly_thread_abandon(thread);
        return watch;
    }
    drop(watch);
    drop(watch);
    return NULL;
}

void bly_target_watch_end(bly_target_watch *watch) {
    if (!watch)
        return;
    bly_mutex_lock(&watch->lock);
    watch->over = 1;
    bly_cond_signal_all(&watch->changed);
    bly_mutex_unlock(&watch->lock);
    drop(watch);
}

int bly_target_watch_state(bly_target_watch *watch, int64_t *out_for_us, bly_buf *why) {
    *out_for_us = 0;
    bly_buf_clear(why);
    if (!watch)
        return BLY_TARGET_ANSWERS;
    bly_mutex_lock(&watch->lock);
    int state = watch->state;
    *out_for_us = bly_now_us() - watch->since_us;
    bly_buf_append(why, watch->why.data, watch->why.len);
    bly_mutex_unlock(&watch->lock);
    return state;
}
