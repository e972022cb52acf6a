/* Contact with a target. A session's first run has its master look for every task of the cluster,
 * and TensorFlow waits for ever where one of them, or the master, is not there: the call cannot be
 * cancelled, and RunOptions do not bound it. So it is made on a thread of its own, and with it what
 * may be held up as long, while the caller waits with a deadline, can be stopped, and says what it
 * waits for. */
#ifndef BLY_CLUSTER_CONTACT_H
#define BLY_CLUSTER_CONTACT_H

#include "base/buf.h"
#include "runtime/runtime.h"

#include <belay/error.h>

#include <stdatomic.h>
#include <stdint.h>

typedef struct bly_contact {
    const bly_runtime *rt;
    TF_Session *session;
    const char *target;        /* empty: this process, which needs no first contact */
    int64_t deadline_us;       /* of the contact; BLY_NEVER: none */
    const atomic_int *stop[2]; /* either may be NULL */
    /* What is done in the session once contact is made, on the same thread; NULL: nothing. */
    belay_code (*then)(void *owner, belay_error *err);
    const char *doing;        /* that, in words: "ready_op"; static */
    int64_t then_deadline_us; /* not before deadline_us; BLY_NEVER: none */
    /* Who keeps the session alive: given, and released exactly once, when TensorFlow's call has
     * returned; on any thread, and perhaps never. */
    void *owner;
    void (*release)(void *owner);
} bly_contact;

/* Makes contact: on return the session exists on its target, with every task that it needs, and the
 * next run starts at once. Needs no op of the graph: TensorFlow makes the session before it finds
 * that there is nothing to run. Reports after two seconds, and every ten from then on.
 *
 * BELAY_OK; BELAY_DEADLINE_EXCEEDED, saying who does not answer; BELAY_CANCELLED; what TensorFlow
 * says; or what `then` returns. After DEADLINE_EXCEEDED and CANCELLED the call goes on by itself,
 * and the session is of no more use. While contact is being made closing it does not end the call,
 * and does not wait for it; later a close is begun here, on yet another thread, to end `then`. */
belay_code bly_contact_make(const bly_contact *contact, belay_error *err);

/* What a look at a target finds. */
#define BLY_TARGET_ANSWERS 0 /* or nothing is known of it: then `why` stays empty */
#define BLY_TARGET_GONE    1 /* "nobody listens at host:2222 (Connection refused)" */
#define BLY_TARGET_SILENT                                                                          \
    2 /* the process there is stopped or hangs, or its machine is not reached */

/* Looks at a target from outside, with the reason why a call there may not return in `why`. Blocks
 * for some seconds, and longer where names are looked up slowly. */
int bly_target_look(const char *target, bly_buf *why);

/* For tests, which have no network: look this way from now on; NULL goes back to the real one. */
void bly_target_look_install(int (*look)(const char *target, bly_buf *why));

#endif
