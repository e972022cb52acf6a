/* Verbs on session managers. */
#include "driver.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* What the library borrows for as long as the manager lives. */
typedef struct manager_feeds {
    feed_set feeds;
} manager_feeds;

static belay_code new_manager(call *c) {
    belay_graph *graph = graph_of(c);
    belay_session_manager_options options = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    belay_run_options run = BELAY_RUN_OPTIONS_INIT;
    wire_message message = run_options_of(json_object_get(c->all, "local_init_run_options"));
    feed_set feeds;
    if (!graph)
        return NO_OBJECT;
    if (has(c->all, "scaffold")) {
        belay_scaffold *from = get(c, SCAFFOLD, text_in(c->all, "scaffold", ""));
        if (!from)
            return NO_OBJECT;
        options.local_init_op = belay_scaffold_local_init_op(from);
        options.ready_op = belay_scaffold_ready_op(from);
        options.ready_for_local_init_op = belay_scaffold_ready_for_local_init_op(from);
    }
    options.local_init_op = text_in(c->all, "local_init_op", options.local_init_op);
    options.ready_op = text_in(c->all, "ready_op", options.ready_op);
    options.ready_for_local_init_op =
        text_in(c->all, "ready_for_local_init_op", options.ready_for_local_init_op);
    options.recovery_wait_secs = number_in(c->all, "recovery_wait_secs", 0);
    if (message.size) {
        run.run_options = message.bytes;
        run.run_options_size = message.size;
        options.local_init_run_options = &run;
    }
    belay_code code = feeds_of(graph, json_object_get(c->all, "local_init_feed"), &feeds, c->err);
    if (code != BELAY_OK)
        return code;
    if (feeds.names.count) {
        /* The manager borrows them: they stay until the scenario is over. */
        script *keep = script_new(c->world, NULL, "feeds");
        manager_feeds *kept = calloc(1, sizeof *kept);
        kept->feeds = feeds;
        keep->kept = kept;
        for (size_t i = 0; i < feeds.names.count && i < 8; i++)
            keep->fed[i] = feeds.tensors[i];
        options.local_init_feeds = kept->feeds.names.of;
        options.local_init_inputs = kept->feeds.tensors;
    }
    belay_session_manager *manager = belay_session_manager_new(graph, &options, c->err);
    if (!manager)
        return belay_error_code(c->err);
    put(c->world, MANAGER, main_text(c), manager);
    return BELAY_OK;
}

static belay_code called(void *self, belay_scaffold *scaffold, belay_session *session,
                         belay_error *err) {
    script *s = self;
    (void)scaffold;
    happened_text(s->label, NULL);
    return run_script(s->world, s->given, 1, session, err);
}

static double max_wait_of(const json_t *all) {
    const json_t *value = json_object_get(all, "max_wait_secs");
    if (!value)
        return 0;
    return json_is_null(value) ? BELAY_FOREVER : json_number_value(value);
}

/* 0 in Python means 0, and "the default" in an option struct. */
static double or_at_once(double secs, const json_t *all) {
    return has(all, "max_wait_secs") && secs == 0 ? 1e-9 : secs;
}

static belay_code restore_options(call *c, belay_prepare_options *options) {
    if (has(c->all, "scaffold")) {
        belay_scaffold *from = get(c, SCAFFOLD, text_in(c->all, "scaffold", ""));
        if (!from)
            return NO_OBJECT;
        options->saver = belay_scaffold_saver(from);
    }
    if (has(c->all, "saver")) {
        options->saver = get(c, SAVER, text_in(c->all, "saver", ""));
        if (!options->saver)
            return NO_OBJECT;
    }
    options->checkpoint_dir = text_in(c->all, "checkpoint_dir", NULL);
    options->checkpoint_filename_with_path = text_in(c->all, "checkpoint_filename_with_path", NULL);
    options->max_wait_secs = or_at_once(max_wait_of(c->all), c->all);
    if (is_true(c->all, "wait_for_checkpoint"))
        options->flags |= BELAY_PREPARE_WAIT_FOR_CHECKPOINT;
    return BELAY_OK;
}

static belay_session_manager *manager_of(call *c) {
    return get(c, MANAGER, text_in(c->all, "with", "m"));
}

static belay_code prepare(call *c) {
    belay_session_manager *manager = manager_of(c);
    belay_graph *graph = manager ? graph_of(c) : NULL;
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    wire_message config;
    belay_session_options session_options = session_options_of(c->all, &config);
    uint32_t restored = 0;
    feed_set feeds;
    if (!graph || restore_options(c, &options) != BELAY_OK)
        return NO_OBJECT;
    belay_code code = feeds_of(graph, json_object_get(c->all, "init_feed"), &feeds, c->err);
    if (code != BELAY_OK)
        return code;
    options.session = &session_options;
    if (has(c->all, "scaffold"))
        scaffold_into(get(c, SCAFFOLD, text_in(c->all, "scaffold", "")), &options);
    options.init_op = text_in(c->all, "init_op", options.init_op);
    if (feeds.names.count) {
        options.init_feeds = feeds.names.of;
        options.init_inputs = feeds.tensors;
    }
    if (has(c->all, "init_fn")) {
        options.init_fn = called;
        options.init_self = script_new(c->world, json_object_get(c->all, "init_fn"), "init_fn");
    }
    belay_session *session =
        belay_session_manager_prepare_session(manager, &options, &restored, c->err);
    feeds_free(&feeds);
    if (!session)
        return belay_error_code(c->err);
    put(c->world, SESSION, main_text(c), session);
    c->result = json_pack("{s:b}", "restored", (int)restored);
    return BELAY_OK;
}

static belay_code recover(call *c) {
    belay_session_manager *manager = manager_of(c);
    belay_prepare_options options = BELAY_PREPARE_OPTIONS_INIT;
    wire_message config;
    belay_session_options session_options = session_options_of(c->all, &config);
    uint32_t initialized = 0;
    if (!manager || restore_options(c, &options) != BELAY_OK)
        return NO_OBJECT;
    options.session = &session_options;
    belay_session *session =
        belay_session_manager_recover_session(manager, &options, &initialized, c->err);
    if (!session)
        return belay_error_code(c->err);
    put(c->world, SESSION, main_text(c), session);
    c->result = json_pack("{s:b}", "initialized", (int)initialized);
    return BELAY_OK;
}

static belay_code wait_for(call *c) {
    belay_session_manager *manager = manager_of(c);
    wire_message config;
    belay_session_options options = session_options_of(c->all, &config);
    if (!manager)
        return NO_OBJECT;
    double secs = has(c->all, "max_wait_secs") ? max_wait_of(c->all) : BELAY_FOREVER;
    belay_session *session =
        belay_session_manager_wait_for_session(manager, &options, secs, c->err);
    if (!session)
        return belay_error_code(c->err);
    put(c->world, SESSION, main_text(c), session);
    return BELAY_OK;
}

const verb manager_verbs[] = {
    {"manager", new_manager}, {"prepare", prepare}, {"recover", recover},
    {"wait", wait_for},       {NULL, NULL},
};
