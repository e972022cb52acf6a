/* Looks at a target from outside, to have a reason to tell. */
#include "cluster/address.h"
#include "cluster/contact.h"
#include "cluster/server.h"
#include "cluster/spec.h"

#include "base/clock.h"

#include <stddef.h>

#define CONNECT_MS   1000 /* and as long for an answer */
#define LOOK_MOST_US INT64_C(5000000)
#define NAMED_MOST   3

static int (*installed)(const char *target, bly_buf *why);

void bly_target_look_install(int (*look)(const char *target, bly_buf *why)) {
    installed = look;
}

/* Which tasks do not listen, or do not answer. Port 0 is that of the server itself. */
static size_t put_silent_tasks(const belay_cluster_spec *cluster, bly_buf *why) {
    int64_t until = bly_now_us() + LOOK_MOST_US;
    size_t silent = 0;
    for (size_t j = 0; j < cluster->count; j++) {
        const struct bly_job *job = &cluster->jobs[j];
        for (size_t t = 0; t < job->count && bly_now_us() < until; t++) {
            const struct bly_task *task = &job->tasks[t];
            bly_buf reason = BLY_BUF_INIT;
            int port, found = 1;
            if (bly_address_split(task->address, NULL, 0, &port) && port != 0)
                found = bly_address_answers(task->address, CONNECT_MS, &reason);
            if (found != 1 && silent++ < NAMED_MOST)
                bly_buf_printf(why, "%sjob %s task %d does not %s at %s (%s)",
                               silent > 1 ? ", " : "", job->name, (int)task->index,
                               found ? "answer" : "listen", task->address, bly_buf_text(&reason));
            bly_buf_free(&reason);
        }
    }
    if (silent > NAMED_MOST)
        bly_buf_printf(why, ", and %zu more", silent - NAMED_MOST);
    return silent;
}

int bly_target_look(const char *target, bly_buf *why) {
    const char *address = bly_target_address(target);
    bly_buf reason = BLY_BUF_INIT;
    if (installed)
        return installed(target, why);
    if (!address)
        return BLY_TARGET_ANSWERS;
    const belay_cluster_spec *cluster = bly_server_cluster(target);
    int found = bly_address_answers(address, CONNECT_MS, &reason);
    if (found == 0)
        bly_buf_printf(why, "nobody listens at %s (%s)", address, bly_buf_text(&reason));
    else if (found == -2)
        bly_buf_printf(why, "%s is not reached (%s)", address, bly_buf_text(&reason));
    else if (found < 0)
        bly_buf_printf(why, "%s listens, but does not answer (%s)", address, bly_buf_text(&reason));
    else if (reason.len > 0)
        bly_buf_printf(why, "whether %s answers cannot be seen (%s)", address,
                       bly_buf_text(&reason));
    else if (!cluster || put_silent_tasks(cluster, why) == 0)
        bly_buf_printf(why, "%s answers; it is busy, or a task that it waits for does not answer",
                       address);
    bly_buf_free(&reason);
    return found == 0 ? BLY_TARGET_GONE : found < 0 ? BLY_TARGET_SILENT : BLY_TARGET_ANSWERS;
}
