/* Verbs on step functions and scopes: bodies of calls that run inside a monitored session. */
#include "driver.h"

/* A step function that is running. */
typedef struct running {
    struct running *outer;
    call *call;
    belay_monitored_session *session;
    belay_step_context *context;
    int64_t times; /* it was called */
} running;

static belay_code function(void *self, belay_step_context *context, belay_error *err) {
    running *r = self;
    world *w = r->call->world;
    r->context = context;
    happened_text("step_fn", json_integer(++r->times));
    r->outer = w->step_fn;
    w->step_fn = r;
    belay_code code = run_body(w, r->call->main, r->times, "step_fn", context, err);
    w->step_fn = r->outer;
    return code;
}

static belay_code step_fn(call *c) {
    running r = {NULL, c, get(c, MONITORED, text_in(c->all, "on", "t")), NULL, 0};
    return r.session ? belay_monitored_session_run_step_fn(r.session, function, &r, c->err)
                     : NO_OBJECT;
}

static belay_code run_with_hooks(call *c) {
    const running *r = c->world->step_fn;
    given_step step;
    if (!r)
        return fail(c, NO_OBJECT, "no step function is running");
    belay_code code = given_step_make(c, r->session, &step);
    c->result = json_array();
    if (code == BELAY_OK)
        code = given_step_run(c, &step, r->context, json_incref(c->result));
    if (code == BELAY_OK)
        json_decref(c->result); /* the run's hold on it */
    given_step_free(&step);
    return code;
}

static belay_code stop_from_step_fn(call *c) {
    const running *r = c->world->step_fn;
    return r ? belay_step_context_request_stop(r->context, c->err)
             : fail(c, NO_OBJECT, "no step function is running");
}

static belay_code body(void *self, belay_monitored_session *session, belay_error *err) {
    const call *c = self;
    (void)session;
    return run_body(c->world, json_object_get(c->all, "calls"), 1, "scope", NULL, err);
}

/* The session is found by its name as long as the body runs. */
static belay_code scope(call *c) {
    belay_monitored_session *session = get(c, MONITORED, main_text(c));
    if (!session)
        return NO_OBJECT;
    belay_code code = belay_monitored_session_with(session, body, c, c->err);
    take(c->world, MONITORED, main_text(c));
    c->world->coordinator = NULL;
    return code;
}

const verb step_fn_verbs[] = {
    {"step_fn", step_fn},
    {"run_with_hooks", run_with_hooks},
    {"stop_from_step_fn", stop_from_step_fn},
    {"scope", scope},
    {NULL, NULL},
};
