/* Threads that do the same thing again and again until their coordinator stops (LT). */
#include "session/coordinator.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"

#include <math.h>
#include <stdio.h>

struct looper {
    belay_coordinator *coordinator; /* the thread that runs this holds a reference */
    belay_code (*body)(void *self, belay_error *err);
    void *self;
    belay_loop_options options;
    char name[64]; /* for messages, cut */
};

static belay_code loop(struct looper *l, belay_error *err) {
    double interval_us = l->options.interval_secs * 1e6;
    double due_us = (double)bly_now_us();
    while (!belay_coordinator_should_stop(l->coordinator)) {
        belay_error_clear(err); /* of a call that went on, it is none of the next one's */
        belay_code code = l->body(l->self, err);
        if (code != BELAY_OK || (l->options.flags & BELAY_LOOP_ONCE))
            return code;
        due_us += interval_us; /* from the due time, not from now: missed calls follow back to back
                                  (LT-04) */
        if (interval_us > 0)
            bly_coordinator_wait_until(
                l->coordinator, due_us < (double)(BLY_NEVER / 2) ? (int64_t)due_us : BLY_NEVER);
    }
    return BELAY_OK;
}

/* A callback that failed without saying how still says that it failed. */
static void report(struct looper *l, belay_code code, belay_error *err) {
    bly_fail_callback(err, code, "thread '%s'", l->name);
    belay_coordinator_request_stop(l->coordinator, err);
}

static void looper_run(void *self) {
    struct looper *l = self;
    BLY_LOCAL_ERROR(err);
    belay_code code = l->options.start ? l->options.start(l->self, &err) : BELAY_OK;
    if (code == BELAY_OK)
        code = loop(l, &err);
    if (code == BELAY_OK && l->options.stop)
        code = l->options.stop(l->self, &err);
    if (code != BELAY_OK)
        report(l, code, &err);
    if (l->options.destroy)
        l->options.destroy(l->self);
    bly_free(l);
}

static belay_code check(const belay_coordinator *coordinator, const char *name,
                        belay_code (*body)(void *self, belay_error *err),
                        const belay_loop_options *options, belay_error *err) {
    if (!coordinator || !name || !body)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "a loop needs a coordinator, a name and a body");
    if (!(options->interval_secs >= 0))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "interval_secs is %g", options->interval_secs);
    if ((options->flags & ~BELAY_LOOP_ONCE) || options->reserved)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        options->reserved ? "reserved must be 0"
                                          : "belay_loop_options has a flag set that is unknown");
    return BELAY_OK;
}

static int has_destroy(const belay_loop_options *options) {
    return options &&
           options->struct_size >= offsetof(belay_loop_options, destroy) + sizeof options->destroy;
}

belay_code belay_coordinator_start_loop(belay_coordinator *coordinator, const char *name,
                                        belay_code (*body)(void *self, belay_error *err),
                                        void *self, const belay_loop_options *options,
                                        belay_error *err) {
    belay_loop_options mine;
    struct looper *l = NULL;
    belay_code code = bly_options_read(&mine, sizeof mine, options, "belay_loop_options", err);
    if (code == BELAY_OK)
        code = check(coordinator, name, body, &mine, err);
    if (code == BELAY_OK) {
        l = bly_malloc(sizeof *l);
        code = l ? BELAY_OK : bly_fail_memory(err);
    }
    if (code == BELAY_OK) {
        *l = (struct looper){
            .coordinator = coordinator, .body = body, .self = self, .options = mine};
        snprintf(l->name, sizeof l->name, "%s", name);
        code = bly_coordinator_start_thread(coordinator, name, looper_run, l, err);
    }
    if (code != BELAY_OK) {
        bly_free(l);
        /* The caller's own copy: ours is empty where the options were refused as a whole. */
        if (has_destroy(options) && options->destroy)
            options->destroy(self);
    }
    return code;
}
