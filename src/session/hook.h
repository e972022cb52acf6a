/* A hook as the session layer holds it. */
#ifndef BLY_SESSION_HOOK_H
#define BLY_SESSION_HOOK_H

#include <belay/hook.h>

#include <stdatomic.h>

struct belay_hook {
    atomic_int references;
    belay_hook_vtable table;
    void *self;
};

belay_hook *bly_hook_ref(belay_hook *hook);

#endif
