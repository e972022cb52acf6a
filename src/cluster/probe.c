/* Which tasks of a cluster listen: all are asked at the same time. */
#include "cluster/address.h"
#include "cluster/spec.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"

#define MAX_WAIT_SECS 5.0
#define CONNECT_MS    2000
#define THREADS_MOST  32

struct target {
    char *address;
    int done, listens; /* guarded by the probe's lock */
    bly_buf why;       /* until `done` of the thread that looks, then of everybody */
};

/* What the caller shares with the threads that look, which may be held up where names are looked
 * up. The last of them frees it. */
struct probe {
    bly_mutex lock;
    bly_cond changed;
    int references; /* guarded by lock, as are the next three */
    int left;       /* nobody waits any more */
    size_t next;    /* target that nobody looks at yet */
    size_t finished;
    size_t count;
    struct target *targets;
};

static void drop(struct probe *probe) {
    bly_mutex_lock(&probe->lock);
    int last = --probe->references == 0;
    bly_mutex_unlock(&probe->lock);
    if (!last)
        return;
    for (size_t i = 0; i < probe->count; i++) {
        bly_free(probe->targets[i].address);
        bly_buf_free(&probe->targets[i].why);
    }
    bly_cond_clean_up(&probe->changed);
    bly_mutex_clean_up(&probe->lock);
    bly_free(probe->targets);
    bly_free(probe);
}

static struct probe *probe_new(const belay_cluster_spec *spec, belay_error *err) {
    struct probe *probe = bly_calloc(1, sizeof *probe);
    size_t count = 0;
    if (!probe) {
        bly_fail_memory(err);
        return NULL;
    }
    bly_mutex_init(&probe->lock);
    bly_cond_init(&probe->changed);
    probe->references = 1;
    for (size_t j = 0; j < spec->count; j++)
        count += spec->jobs[j].count;
    probe->targets = bly_calloc(count, sizeof *probe->targets);
    for (size_t j = 0; probe->targets && j < spec->count; j++)
        for (size_t t = 0; t < spec->jobs[j].count; t++) {
            char *copy = bly_strdup(spec->jobs[j].tasks[t].address);
            if (!copy)
                goto failed;
            probe->targets[probe->count++].address = copy;
        }
    if (probe->targets)
        return probe;
failed:
    bly_fail_memory(err);
    drop(probe);
    return NULL;
}

static void look_body(void *self) {
    struct probe *probe = self;
    bly_mutex_lock(&probe->lock);
    while (!probe->left && probe->next < probe->count) {
        struct target *target = &probe->targets[probe->next++];
        bly_mutex_unlock(&probe->lock);
        int listens = bly_address_listens(target->address, CONNECT_MS, &target->why);
        bly_mutex_lock(&probe->lock);
        target->listens = listens;
        target->done = 1;
        probe->finished++;
        bly_cond_signal_all(&probe->changed);
    }
    bly_mutex_unlock(&probe->lock);
    drop(probe);
}

/* Fails only where not even one thread can be had. */
static belay_code start_looking(struct probe *probe, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    size_t started = 0, wanted = probe->count < THREADS_MOST ? probe->count : THREADS_MOST;
    for (; started < wanted; started++) {
        bly_mutex_lock(&probe->lock);
        probe->references++;
        bly_mutex_unlock(&probe->lock);
        bly_thread *thread = bly_thread_start("belay-look", look_body, probe, &mine);
        if (!thread) {
            drop(probe);
            break;
        }
        bly_thread_abandon(thread);
    }
    if (started > 0 || wanted == 0)
        return BELAY_OK;
    bly_error_copy(err, &mine);
    return mine.code;
}

/* Tells of the targets in order. Those that did not answer go on by themselves. */
static void tell_all(struct probe *probe, const belay_cluster_spec *spec, belay_task_probe_fn tell,
                     void *self) {
    size_t i = 0;
    for (size_t j = 0; j < spec->count; j++)
        for (size_t t = 0; t < spec->jobs[j].count; t++) {
            const struct bly_task *task = &spec->jobs[j].tasks[t];
            const struct target *target = &probe->targets[i++];
            const char *reason = "no answer in time";
            bly_mutex_lock(&probe->lock);
            int done = target->done;
            bly_mutex_unlock(&probe->lock);
            if (done)
                reason = target->listens ? NULL : bly_buf_text(&target->why);
            tell(self, spec->jobs[j].name, task->index, task->address, reason);
        }
}

belay_code belay_cluster_spec_probe(const belay_cluster_spec *spec, double max_wait_secs,
                                    belay_task_probe_fn tell, void *self, belay_error *err) {
    if (!spec && belay_error_code(err) != BELAY_OK)
        return belay_error_code(err);
    if (!spec || !tell)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL", spec ? "tell" : "spec");
    if (!(max_wait_secs >= 0))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "max_wait_secs is %g", max_wait_secs);
    int64_t deadline = bly_deadline_after_secs(max_wait_secs == 0 ? MAX_WAIT_SECS : max_wait_secs);
    struct probe *probe = probe_new(spec, err);
    if (!probe)
        return BELAY_RESOURCE_EXHAUSTED;
    belay_code code = start_looking(probe, err);
    bly_mutex_lock(&probe->lock);
    while (code == BELAY_OK && probe->finished < probe->count &&
           bly_wait_until(&probe->changed, &probe->lock, deadline))
        ;
    probe->left = 1;
    bly_mutex_unlock(&probe->lock);
    if (code == BELAY_OK)
        tell_all(probe, spec, tell, self);
    drop(probe);
    return code;
}
