#include "session/scaffold.h"

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "checkpoint/saver.h"
#include "graph/defaults.h"

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(belay_scaffold_options) ==
                   offsetof(belay_scaffold_options, copy_from_scaffold) + sizeof(void *),
               "no tail padding");

/* The user's piece, else the other scaffold's at this moment (SC-21). */
static belay_code take_piece(char **piece, const char *given, const char *other, belay_error *err) {
    const char *value = given ? given : other;
    if (!value)
        return BELAY_OK;
    *piece = bly_strdup(value);
    return *piece ? BELAY_OK : bly_fail_memory(err);
}

static belay_code take_pieces(belay_scaffold *scaffold, const belay_scaffold_options *options,
                              const belay_scaffold *other, belay_error *err) {
    static const belay_scaffold none;
    const belay_scaffold *from = other ? other : &none;
    const char *const *init_feeds = options->init_feeds;
    belay_tensor *const *init_inputs = options->init_inputs;
    const char *const *local_feeds = options->local_init_feeds;
    belay_tensor *const *local_inputs = options->local_init_inputs;
    if (!init_feeds) {
        init_feeds = (const char *const *)from->init_feeds.names;
        init_inputs = from->init_feeds.inputs;
    }
    if (!local_feeds) {
        local_feeds = (const char *const *)from->local_init_feeds.names;
        local_inputs = from->local_init_feeds.inputs;
    }
    belay_code code = take_piece(&scaffold->init_op, options->init_op, from->init_op, err);
    if (code == BELAY_OK)
        code = take_piece(&scaffold->ready_op, options->ready_op, from->ready_op, err);
    if (code == BELAY_OK)
        code = take_piece(&scaffold->ready_for_local_init_op, options->ready_for_local_init_op,
                          from->ready_for_local_init_op, err);
    if (code == BELAY_OK)
        code =
            take_piece(&scaffold->local_init_op, options->local_init_op, from->local_init_op, err);
    if (code == BELAY_OK)
        code = take_piece(&scaffold->summary_op, options->summary_op, from->summary_op, err);
    if (code == BELAY_OK)
        code = bly_feed_list_copy(&scaffold->init_feeds, init_feeds, init_inputs, err);
    if (code == BELAY_OK)
        code = bly_feed_list_copy(&scaffold->local_init_feeds, local_feeds, local_inputs, err);
    /* SC-22: a copied init_fn is called with the new scaffold, which prepare_session hands it. */
    scaffold->init_fn = options->init_fn ? options->init_fn : from->init_fn;
    scaffold->init_self = options->init_fn ? options->init_self : from->init_self;
    belay_saver *saver = options->saver ? options->saver : from->saver;
    scaffold->saver = saver ? bly_saver_ref(saver) : NULL;
    return code;
}

belay_scaffold *belay_scaffold_new(belay_graph *graph, const belay_scaffold_options *given,
                                   belay_error *err) {
    belay_scaffold_options options;
    if (!graph) {
        if (belay_error_code(err) == BELAY_OK)
            bly_fail(err, BELAY_INVALID_ARGUMENT, "graph is NULL");
        return NULL;
    }
    if (bly_options_read(&options, sizeof options, given, "belay_scaffold_options", err) !=
        BELAY_OK)
        return NULL;
    belay_scaffold *scaffold = bly_calloc(1, sizeof *scaffold);
    if (!scaffold) {
        bly_fail_memory(err);
        return NULL;
    }
    atomic_init(&scaffold->references, 1);
    scaffold->graph = bly_graph_ref(graph);
    if (take_pieces(scaffold, &options, options.copy_from_scaffold, err) != BELAY_OK) {
        belay_scaffold_free(scaffold);
        return NULL;
    }
    return scaffold;
}

belay_scaffold *bly_scaffold_ref(belay_scaffold *scaffold) {
    atomic_fetch_add(&scaffold->references, 1);
    return scaffold;
}

void belay_scaffold_free(belay_scaffold *scaffold) {
    if (!scaffold || atomic_fetch_sub(&scaffold->references, 1) != 1)
        return;
    bly_free(scaffold->init_op);
    bly_free(scaffold->ready_op);
    bly_free(scaffold->ready_for_local_init_op);
    bly_free(scaffold->local_init_op);
    bly_free(scaffold->summary_op);
    bly_feed_list_free(&scaffold->init_feeds);
    bly_feed_list_free(&scaffold->local_init_feeds);
    belay_saver_free(scaffold->saver);
    belay_graph_free(scaffold->graph);
    bly_free(scaffold);
}

/* The only element of a collection (SC-05). *out stays NULL where the collection is empty. */
static belay_code from_collection(belay_graph *graph, const char *collection, char **out,
                                  belay_error *err) {
    size_t count = belay_graph_collection_size(graph, collection);
    if (count > 1)
        return bly_fail(err, BELAY_FAILED_PRECONDITION,
                        "More than one item in the collection \"%s\": it has %zu, of which a "
                        "scaffold takes one. Please indicate which one to use by passing it to "
                        "the scaffold",
                        collection, count);
    const char *node = belay_graph_collection_node(graph, collection, 0);
    if (!node)
        return BELAY_OK;
    *out = bly_strdup(node);
    return *out ? BELAY_OK : bly_fail_memory(err);
}

/* Keeps what was built under its name, and in the collection, so that a second scaffold finds it
 * (SC-17). */
static belay_code adopt(belay_scaffold *scaffold, const char *collection, const char *name,
                        char **out, belay_error *err) {
    *out = bly_strdup(name);
    if (!*out)
        return bly_fail_memory(err);
    return bly_graph_add_to_collection(scaffold->graph, collection, name, err);
}

static belay_code fill_op(belay_scaffold *scaffold, const char *collection, char **piece,
                          TF_Operation *(*build)(belay_graph *graph, belay_error *err),
                          belay_error *err) {
    if (*piece)
        return BELAY_OK;
    belay_code code = from_collection(scaffold->graph, collection, piece, err);
    if (code != BELAY_OK || *piece)
        return code;
    BLY_LOCAL_ERROR(mine);
    TF_Operation *op = build(scaffold->graph, &mine);
    if (!op) {
        bly_error_copy(err, &mine);
        return mine.code;
    }
    return adopt(scaffold, collection, scaffold->graph->rt->OperationName(op), piece, err);
}

static belay_code fill_tensor(belay_scaffold *scaffold, const char *collection, char **piece,
                              belay_code (*build)(belay_graph *graph, TF_Output *out,
                                                  belay_error *err),
                              belay_error *err) {
    char name[1024];
    TF_Output output = {NULL, 0};
    if (*piece)
        return BELAY_OK;
    belay_code code = from_collection(scaffold->graph, collection, piece, err);
    if (code == BELAY_OK && !*piece)
        code = build(scaffold->graph, &output, err);
    if (code != BELAY_OK || !output.oper)
        return code;
    bly_graph_output_name(scaffold->graph, output, name, sizeof name);
    return adopt(scaffold, collection, name, piece, err);
}

static belay_code build_ready_op(belay_graph *graph, TF_Output *out, belay_error *err) {
    return bly_build_ready_op(graph, 1, out, err);
}

static belay_code build_ready_for_local_init_op(belay_graph *graph, TF_Output *out,
                                                belay_error *err) {
    return bly_build_ready_op(graph, 0, out, err);
}

static belay_code fill_saver(belay_scaffold *scaffold, belay_error *err) {
    if (scaffold->saver)
        return BELAY_OK;
    BLY_LOCAL_ERROR(mine);
    scaffold->saver = bly_saver_shared(scaffold->graph, &mine);
    bly_error_copy(err, scaffold->saver ? NULL : &mine);
    return mine.code;
}

/* A ready op may be an operation, or a tensor (SM-41); so for all of them an op must be there. */
static belay_code check_piece(const belay_scaffold *scaffold, const char *piece, belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    if (!piece || bly_graph_find_target(scaffold->graph, piece, &mine))
        return BELAY_OK;
    bly_error_copy(err, &mine);
    return mine.code;
}

static belay_code check_pieces(const belay_scaffold *scaffold, belay_error *err) {
    const char *const pieces[] = {scaffold->init_op, scaffold->ready_op,
                                  scaffold->ready_for_local_init_op, scaffold->local_init_op,
                                  scaffold->summary_op};
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < sizeof pieces / sizeof pieces[0]; i++)
        code = check_piece(scaffold, pieces[i], err);
    return code;
}

/* SC-03, in TensorFlow's order. */
static belay_code fill_pieces(belay_scaffold *scaffold, belay_error *err) {
    belay_code code = check_pieces(scaffold, err);
    if (code == BELAY_OK)
        code = fill_op(scaffold, "init_op", &scaffold->init_op, bly_build_init_op, err);
    if (code == BELAY_OK)
        code = fill_tensor(scaffold, "ready_op", &scaffold->ready_op, build_ready_op, err);
    if (code == BELAY_OK)
        code = fill_tensor(scaffold, "ready_for_local_init_op", &scaffold->ready_for_local_init_op,
                           build_ready_for_local_init_op, err);
    if (code == BELAY_OK)
        code = fill_op(scaffold, "local_init_op", &scaffold->local_init_op, bly_build_local_init_op,
                       err);
    if (code == BELAY_OK)
        code =
            fill_tensor(scaffold, "summary_op", &scaffold->summary_op, bly_build_summary_op, err);
    if (code == BELAY_OK)
        code = fill_saver(scaffold, err);
    return code;
}

belay_code belay_scaffold_finalize(belay_scaffold *scaffold, belay_error *err) {
    if (!scaffold)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "scaffold is NULL");
    belay_code code = scaffold->finalized ? BELAY_OK : fill_pieces(scaffold, err);
    if (code != BELAY_OK)
        return code;
    bly_graph_set_finalized(scaffold->graph, 1);
    scaffold->finalized = 1;
    bly_info("Graph was finalized."); /* SC-18: each time */
    return BELAY_OK;
}

belay_graph *belay_scaffold_graph(belay_scaffold *scaffold) {
    return scaffold ? scaffold->graph : NULL;
}

const char *belay_scaffold_init_op(const belay_scaffold *scaffold) {
    return scaffold ? scaffold->init_op : NULL;
}

const char *belay_scaffold_ready_op(const belay_scaffold *scaffold) {
    return scaffold ? scaffold->ready_op : NULL;
}

const char *belay_scaffold_ready_for_local_init_op(const belay_scaffold *scaffold) {
    return scaffold ? scaffold->ready_for_local_init_op : NULL;
}

const char *belay_scaffold_local_init_op(const belay_scaffold *scaffold) {
    return scaffold ? scaffold->local_init_op : NULL;
}

const char *belay_scaffold_summary_op(const belay_scaffold *scaffold) {
    return scaffold ? scaffold->summary_op : NULL;
}

belay_saver *belay_scaffold_saver(belay_scaffold *scaffold) {
    return scaffold ? scaffold->saver : NULL;
}
