/* The hooked session: one raw session, and the hooks around each run in it (HK-RUN). */
#ifndef BLY_SESSION_HOOKED_H
#define BLY_SESSION_HOOKED_H

#include "runtime/tensor.h"
#include "session/hook.h"
#include "session/session.h"
#include "session/step.h"

#include <belay/monitored_session.h>

/* One hook of a monitored session, through all its sessions. */
typedef struct bly_hook_slot {
    belay_hook *hook;
    belay_when when;
    int in_this_run;    /* takes part in the run that is going on */
    size_t first_value; /* where its fetches of this run stand in context.sources */
    size_t value_count;
    belay_run_metadata *metadata; /* the hook's, to be filled in this run; NULL: none */
} bly_hook_slot;

/* What hooks add to one run. Arrays grow to what is needed once, and stay. */
struct belay_run_context {
    struct bly_hooked *hooked;
    bly_hook_slot *slot; /* whose callback is running */
    int before;          /* in before_run */
    int stop_requested;
    const bly_hook_slot *stopped_by;
    Bly__RunOptions *options; /* the step's merged with what hooks ask for; NULL: none does */
    int wants_metadata;       /* a hook does */
    TF_Output fed_twice;      /* a hook feeds what the caller feeds; oper NULL: none does */
    TF_Buffer *merged;        /* `options`, as they are sent in this run */
    const TF_Buffer *sent;    /* of this run; NULL: none */
    int writes_step; /* a hook's fetch writes the global step: step_after may come too early */
    belay_step *step;
    belay_tensor *const *step_inputs;
    size_t *sources; /* for each fetch of each hook: number of an output of this run */
    size_t source_count, source_capacity;
    TF_Output *outputs; /* the step's, then what hooks added */
    TF_Output *asked;   /* those of them that the runtime is asked for: not what is fed */
    TF_Tensor **values;
    belay_tensor *value_tensors; /* what hooks see of values */
    size_t output_count, output_capacity, asked_capacity, value_capacity, value_tensor_capacity;
    TF_Output *inputs; /* the step's, then what hooks feed */
    TF_Tensor **in;
    size_t input_count, input_capacity, in_capacity;
    void **own_ops; /* of what hooks asked for: seen to be of this graph, which keeps its ops */
    size_t own_op_count, own_op_capacity;
};

typedef struct bly_hooked {
    const bly_runtime *rt;
    belay_graph *graph;
    belay_session *session; /* the raw one; NULL between sessions */
    bly_hook_slot *slots;
    size_t slot_count;
    belay_when next; /* the least of all slots': until then no hook is called */
    belay_progress progress;
    char stopped_by[64];     /* which one */
    int in_callback;         /* a hook's function is running: then nothing is to run here */
    int step_unset;          /* the global step has no value yet (GS-06): not to be fetched */
    int should_stop;         /* a hook asked for it (WS-18) */
    int stopped_at_creation; /* one stopped the coordinator, so that nothing is run */
    const atomic_int *session_stop; /* somebody asked the monitored session to */
    struct belay_run_context context;
    TF_Status *status;            /* reused by every run */
    TF_Buffer *in_caller_options; /* RunOptions: run in the calling thread */
} bly_hooked;

belay_code bly_hooked_init(bly_hooked *hooked, belay_graph *graph, belay_hook *const *hooks,
                           size_t hook_count, belay_error *err);
void bly_hooked_clean_up(bly_hooked *hooked);

/* begin() of every hook (MS-01, MS-04). */
belay_code bly_hooked_begin(bly_hooked *hooked, belay_error *err);
/* Takes a new raw session (kept) and tells every hook (WS-20). Forgets that a hook asked to stop
 * (WS-19). */
belay_code bly_hooked_attach(bly_hooked *hooked, belay_session *session,
                             belay_coordinator *coordinator, belay_error *err);
void bly_hooked_detach(bly_hooked *hooked);
/* end() of every hook, the first error first (BUG-08). */
belay_code bly_hooked_end(bly_hooked *hooked, belay_error *err);

/* The run has hooks, unless `without_hooks`: then it counts as none, either. */
belay_code bly_hooked_run(bly_hooked *hooked, belay_step *step, belay_tensor *const *inputs,
                          belay_tensor **outputs, int without_hooks, belay_error *err);

/* What the hooks want to become of an error (belay_hook_vtable.on_error). */
belay_reaction bly_hooked_react(bly_hooked *hooked, const belay_error *error);

#endif
