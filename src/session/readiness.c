/* Is a model ready, and what initialises what is local to it (SM-40 to SM-47). */
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/tensor.h"
#include "session/request.h"
#include "session/session_manager_impl.h"

#include <stddef.h>
#include <string.h>

/* Joins the elements of a ready op's value: names of what is not initialised. */
static void put_elements(const bly_runtime *rt, const TF_Tensor *value, bly_buf *why) {
    bly_buf_puts(why, "Variables not initialized: ");
    for (int64_t i = 0; i < rt->TensorElementCount(value); i++) {
        size_t len = 0;
        const char *text = bly_tensor_string(rt, value, i, &len);
        bly_buf_puts(why, i ? ", " : "");
        if (text)
            bly_buf_append(why, text, len);
        else
            bly_buf_printf(why, "%g", bly_tensor_number(rt, value, i));
    }
}

/* SM-41; but of int32 elements only zeros say nothing is missing (BUG-64). */
static int is_ready_value(const bly_runtime *rt, const TF_Tensor *value) {
    int64_t count = value ? rt->TensorElementCount(value) : 0;
    int ready = count == 0 || rt->TensorType(value) == TF_INT32;
    for (int64_t i = 0; ready && i < count; i++)
        ready = bly_tensor_number(rt, value, i) == 0;
    return ready;
}

/* Evaluates a ready op. *out_ready is 0 with the reason in `why`. An error other than "not ready"
 * is returned. */
static belay_code check_ready(const belay_session_manager *manager, belay_session *session,
                              TF_Output ready, int is_op, int *out_ready, bly_buf *why,
                              belay_error *err) {
    const bly_runtime *rt = manager->graph->rt;
    TF_Tensor *value = NULL;
    *out_ready = 1;
    bly_buf_clear(why);
    if (!ready.oper)
        return BELAY_OK;
    BLY_LOCAL_ERROR(mine);
    belay_code code = is_op ? bly_session_run_op(session, ready.oper, &mine)
                            : bly_session_fetch(session, ready, &value, &mine);
    if (code == BELAY_FAILED_PRECONDITION) {
        /* SM-43; the code decides, since a table says it in other words than a variable (BUG-65).
         */
        if (!strstr(mine.message, "uninitialized"))
            bly_warn("ready op %s, taken as not ready: %s", rt->OperationName(ready.oper),
                     mine.message);
        *out_ready = 0;
        bly_buf_puts(why, mine.message);
        return BELAY_OK;
    }
    if (code != BELAY_OK) {
        bly_error_copy(err, &mine);
        return code;
    }
    *out_ready = is_ready_value(rt, value);
    if (!*out_ready)
        put_elements(rt, value, why);
    if (value)
        rt->DeleteTensor(value);
    return BELAY_OK;
}

/* What an op is fed that initialises: the user's tensors, and the paths of a SavedModel's files. */
struct feeds {
    const char **names; /* ends in NULL */
    belay_tensor **inputs;
    size_t count;
    char **asset_names; /* asset_count of each, the last ones of the above */
    belay_tensor **assets;
    size_t asset_count;
};

static int is_fed(const belay_graph *graph, const char *const *feeds, TF_Output wanted) {
    TF_Output output;
    for (size_t i = 0; feeds && feeds[i]; i++)
        if (bly_graph_find_raw_output(graph, feeds[i], &output, NULL) == BELAY_OK &&
            bly_same_output(output, wanted))
            return 1;
    return 0;
}

static belay_code add_asset(struct feeds *feeds, const belay_graph *graph, const bly_asset *asset,
                            belay_error *err) {
    char name[1024];
    const char *path = asset->path;
    bly_graph_output_name(graph, asset->tensor, name, sizeof name);
    char *copy = bly_strdup(name);
    if (!copy)
        return bly_fail_memory(err);
    feeds->asset_names[feeds->asset_count] = copy;
    belay_tensor *tensor = belay_tensor_new_strings(&path, NULL, NULL, 0, err);
    feeds->assets[feeds->asset_count++] = tensor;
    feeds->names[feeds->count] = copy;
    feeds->inputs[feeds->count++] = tensor;
    return tensor ? BELAY_OK : BELAY_RESOURCE_EXHAUSTED;
}

static void feeds_free(struct feeds *feeds) {
    for (size_t i = 0; i < feeds->asset_count; i++) {
        bly_free(feeds->asset_names[i]);
        belay_tensor_free(feeds->assets[i]);
    }
    bly_free(feeds->names);
    bly_free(feeds->inputs);
    bly_free(feeds->asset_names);
    bly_free(feeds->assets);
}

static belay_code collect_feeds(struct feeds *out, const belay_graph *graph,
                                const char *const *feeds, belay_tensor *const *inputs,
                                belay_error *err) {
    size_t given = 0, assets = graph->asset_count;
    while (feeds && feeds[given])
        given++;
    *out = (struct feeds){.names = bly_calloc(given + assets + 1, sizeof *out->names),
                          .inputs = bly_calloc(given + assets, sizeof(belay_tensor *)),
                          .asset_names = bly_calloc(assets, sizeof(char *)),
                          .assets = bly_calloc(assets, sizeof(belay_tensor *))};
    if (!out->names || !out->inputs || !out->asset_names || !out->assets)
        return bly_fail_memory(err);
    for (; out->count < given; out->count++) {
        out->names[out->count] = feeds[out->count];
        out->inputs[out->count] = inputs ? inputs[out->count] : NULL;
    }
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < assets; i++)
        if (!is_fed(graph, feeds, graph->assets[i].tensor))
            code = add_asset(out, graph, &graph->assets[i], err);
    return code;
}

belay_code bly_manager_run_init(belay_session *session, const TF_Operation *op,
                                const char *const *given, belay_tensor *const *inputs,
                                const TF_Buffer *run_options, belay_error *err) {
    struct feeds feeds;
    belay_run_options options = BELAY_RUN_OPTIONS_INIT;
    const char *target[] = {session->rt->OperationName((TF_Operation *)(uintptr_t)op), NULL};
    if (run_options) {
        options.run_options = run_options->data;
        options.run_options_size = run_options->length;
    }
    belay_code code = collect_feeds(&feeds, session->graph, given, inputs, err);
    if (code == BELAY_OK)
        code = belay_session_run(session, feeds.names, feeds.inputs, NULL, NULL, target, &options,
                                 err);
    feeds_free(&feeds);
    return code;
}

belay_code bly_manager_local_init(const belay_session_manager *manager, belay_session *session,
                                  int *done, bly_buf *why, belay_error *err) {
    int ready;
    bly_buf_clear(why);
    if (!manager->local_init_op) {
        *done = 1;
        return BELAY_OK;
    }
    belay_code code = check_ready(manager, session, manager->ready_for_local_init,
                                  manager->ready_for_local_init_is_op, &ready, why, err);
    *done &= code == BELAY_OK && ready;
    if (code != BELAY_OK || !ready || *done)
        return code;
    bly_info("Running local_init_op.");
    code = bly_manager_run_init(
        session, manager->local_init_op, (const char *const *)manager->local_init_feeds.names,
        manager->local_init_feeds.inputs, manager->local_init_run_options, err);
    *done = code == BELAY_OK;
    if (*done)
        bly_info("Done running local_init_op.");
    return code;
}

belay_code bly_manager_check_ready(const belay_session_manager *manager, belay_session *session,
                                   int *out_ready, bly_buf *why, belay_error *err) {
    return check_ready(manager, session, manager->ready, manager->ready_is_op, out_ready, why, err);
}
