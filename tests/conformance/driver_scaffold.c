/* Verbs on scaffolds. */
#include "driver.h"

#include "session/scaffold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *name_of(world *w, object_kind kind, const void *value) {
    for (const object *o = w->objects; o; o = o->next)
        if (o->kind == kind && o->value == value)
            return o->name;
    return "nobody";
}

static belay_code called(void *self, belay_scaffold *scaffold, belay_session *session,
                         belay_error *err) {
    script *s = self;
    char label[160];
    snprintf(label, sizeof label, "init_fn of %s for %s", s->label,
             name_of(s->world, SCAFFOLD, scaffold));
    happened_text(label, NULL);
    return run_script(s->world, s->given, 1, session, err);
}

/* Keeps feeds as long as the scenario. */
static feed_set *kept_feeds(call *c, belay_graph *graph, const char *key) {
    feed_set found;
    if (feeds_of(graph, json_object_get(c->all, key), &found, c->err) != BELAY_OK ||
        !found.names.count)
        return NULL;
    script *keep = script_new(c->world, NULL, key);
    feed_set *kept = calloc(1, sizeof *kept);
    *kept = found;
    keep->kept = kept;
    for (size_t i = 0; i < found.names.count && i < 8; i++)
        keep->fed[i] = found.tensors[i];
    return kept;
}

static belay_code new_scaffold(call *c) {
    belay_graph *graph = graph_of(c);
    belay_scaffold_options options = BELAY_SCAFFOLD_OPTIONS_INIT;
    if (!graph)
        return NO_OBJECT;
    options.init_op = text_in(c->all, "init_op", NULL);
    options.ready_op = text_in(c->all, "ready_op", NULL);
    options.ready_for_local_init_op = text_in(c->all, "ready_for_local_init_op", NULL);
    options.local_init_op = text_in(c->all, "local_init_op", NULL);
    options.summary_op = text_in(c->all, "summary_op", NULL);
    const feed_set *init = kept_feeds(c, graph, "init_feed");
    const feed_set *local = kept_feeds(c, graph, "local_init_feed");
    if (init) {
        options.init_feeds = init->names.of;
        options.init_inputs = init->tensors;
    }
    if (local) {
        options.local_init_feeds = local->names.of;
        options.local_init_inputs = local->tensors;
    }
    if (has(c->all, "init_fn")) {
        options.init_fn = called;
        options.init_self = script_new(c->world, json_object_get(c->all, "init_fn"), main_text(c));
    }
    if (has(c->all, "saver") && !(options.saver = get(c, SAVER, text_in(c->all, "saver", ""))))
        return NO_OBJECT;
    if (has(c->all, "copy_from") &&
        !(options.copy_from_scaffold = get(c, SCAFFOLD, text_in(c->all, "copy_from", ""))))
        return NO_OBJECT;
    belay_scaffold *scaffold = belay_scaffold_new(graph, &options, c->err);
    if (!scaffold)
        return belay_error_code(c->err);
    put(c->world, SCAFFOLD, main_text(c), scaffold);
    return BELAY_OK;
}

/* The public face has no getters for these yet. */
void scaffold_into(const belay_scaffold *from, belay_prepare_options *options) {
    options->init_op = from->init_op;
    options->init_feeds = (const char *const *)from->init_feeds.names;
    options->init_inputs = from->init_feeds.inputs;
    options->init_fn = from->init_fn;
    options->init_self = from->init_self;
    options->scaffold = (belay_scaffold *)(uintptr_t)from;
}

static belay_code finalize(call *c) {
    belay_scaffold *scaffold = get(c, SCAFFOLD, main_text(c));
    return scaffold ? belay_scaffold_finalize(scaffold, c->err) : NO_OBJECT;
}

/* The name of what the graph came with, else only what kind of thing was built. */
static json_t *piece_text(belay_graph *graph, const belay_graph *as_loaded, const char *piece) {
    char op[512];
    belay_dtype dtype;
    int32_t rank;
    int64_t dims[8];
    if (!piece)
        return json_null();
    snprintf(op, sizeof op, "%.*s", (int)strcspn(piece, ":"), piece);
    if (belay_graph_has_op(as_loaded, op))
        return json_string(piece);
    if (!strchr(piece, ':') || !belay_graph_tensor_info(graph, piece, &dtype, &rank, dims, 8))
        return json_string("an op");
    return json_sprintf("%s of rank %d", belay_dtype_name(dtype), (int)rank);
}

static belay_code pieces(call *c) {
    belay_scaffold *scaffold = get(c, SCAFFOLD, main_text(c));
    if (!scaffold)
        return NO_OBJECT;
    belay_graph *graph = belay_scaffold_graph(scaffold);
    belay_graph *as_loaded = belay_graph_load(belay_graph_path(graph), NULL, c->err);
    if (!as_loaded)
        return belay_error_code(c->err);
    const belay_saver *saver = belay_scaffold_saver(scaffold);
    c->result = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o}", "init_op",
        piece_text(graph, as_loaded, belay_scaffold_init_op(scaffold)), "ready_op",
        piece_text(graph, as_loaded, belay_scaffold_ready_op(scaffold)), "ready_for_local_init_op",
        piece_text(graph, as_loaded, belay_scaffold_ready_for_local_init_op(scaffold)),
        "local_init_op", piece_text(graph, as_loaded, belay_scaffold_local_init_op(scaffold)),
        "summary_op", piece_text(graph, as_loaded, belay_scaffold_summary_op(scaffold)), "saver",
        !saver                        ? json_null()
        : belay_saver_is_empty(saver) ? json_string("empty")
                                      : json_string("saver"));
    belay_graph_free(as_loaded);
    return BELAY_OK;
}

static const char *piece_named(const belay_scaffold *scaffold, const char *key) {
    if (strcmp(key, "init_op") == 0)
        return belay_scaffold_init_op(scaffold);
    if (strcmp(key, "ready_op") == 0)
        return belay_scaffold_ready_op(scaffold);
    if (strcmp(key, "ready_for_local_init_op") == 0)
        return belay_scaffold_ready_for_local_init_op(scaffold);
    if (strcmp(key, "local_init_op") == 0)
        return belay_scaffold_local_init_op(scaffold);
    return belay_scaffold_summary_op(scaffold);
}

/* Runs a piece: its value, or nothing where it is an operation. */
static belay_code piece(call *c) {
    const belay_scaffold *scaffold = get(c, SCAFFOLD, text_in(c->all, "of", "c"));
    belay_session *session = session_of(c);
    belay_tensor *value = NULL;
    if (!scaffold || !session)
        return NO_OBJECT;
    const char *name[] = {piece_named(scaffold, main_text(c)), NULL};
    int is_op = name[0] && !strchr(name[0], ':');
    belay_code code = belay_session_run(session, NULL, NULL, is_op ? NULL : name, &value,
                                        is_op ? name : NULL, NULL, c->err);
    if (code == BELAY_OK)
        c->result = text_of(value);
    belay_tensor_free(value);
    return code;
}

static int same(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

static belay_code same_pieces(call *c) {
    name_list pair = names_of(c->main);
    belay_scaffold *a = get(c, SCAFFOLD, pair.of[0]), *b = get(c, SCAFFOLD, pair.of[1]);
    if (!a || !b)
        return NO_OBJECT;
    c->result = json_pack(
        "{s:b, s:b, s:b, s:b, s:b, s:b}", "init_op",
        same(belay_scaffold_init_op(a), belay_scaffold_init_op(b)), "ready_op",
        same(belay_scaffold_ready_op(a), belay_scaffold_ready_op(b)), "ready_for_local_init_op",
        same(belay_scaffold_ready_for_local_init_op(a), belay_scaffold_ready_for_local_init_op(b)),
        "local_init_op", same(belay_scaffold_local_init_op(a), belay_scaffold_local_init_op(b)),
        "summary_op", same(belay_scaffold_summary_op(a), belay_scaffold_summary_op(b)), "saver",
        belay_scaffold_saver(a) == belay_scaffold_saver(b));
    return BELAY_OK;
}

const verb scaffold_verbs[] = {
    {"scaffold", new_scaffold}, {"finalize", finalize},       {"pieces", pieces},
    {"piece", piece},           {"same_pieces", same_pieces}, {NULL, NULL},
};
