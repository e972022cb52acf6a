#include "run/plan.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "graph/walk.h"

#include <belay/tensor.h>

#include <inttypes.h>
#include <string.h>

belay_graph *bly_run_load(const char *path, belay_error *err) {
    belay_graph *graph = belay_graph_load(path, NULL, err);
    if (!graph || belay_graph_op_count(graph) > 0)
        return graph;
    belay_graph_free(graph);
    bly_fail(err, BELAY_DATA_LOSS,
             "%s has no operations: the file is empty, or it is no whole graph. Export it again",
             path);
    return NULL;
}

void bly_describe_tensor(belay_dtype dtype, int32_t rank, const int64_t *dims, bly_buf *out) {
    bly_buf_printf(out, "%s ", belay_dtype_name(dtype));
    if (rank < 0) {
        bly_buf_puts(out, "of any shape");
        return;
    }
    bly_buf_putc(out, '[');
    for (int32_t i = 0; i < rank; i++) {
        if (dims[i] < 0)
            bly_buf_puts(out, i ? ",?" : "?");
        else
            bly_buf_printf(out, "%s%" PRId64, i ? "," : "", dims[i]);
    }
    bly_buf_putc(out, ']');
}

/* --- the signature ---------------------------------------------------------------------------- */

static void list_signatures(const belay_graph *graph, bly_buf *out) {
    size_t count = belay_graph_signature_count(graph);
    bly_buf_puts(out, count ? "it has: " : "it has none");
    for (size_t i = 0; i < count; i++)
        bly_buf_printf(out, "%s%s", i ? ", " : "", belay_graph_signature_name(graph, i));
}

static const char *nearest_signature(const belay_graph *graph, const char *name) {
    size_t count = belay_graph_signature_count(graph);
    const char **names = bly_calloc(count, sizeof *names);
    for (size_t i = 0; names && i < count; i++)
        names[i] = belay_graph_signature_name(graph, i);
    const char *near = names ? bly_nearest(name, names, count) : NULL;
    bly_free(names);
    return near;
}

static belay_code no_such_signature(const belay_graph *graph, const char *name, belay_error *err) {
    bly_buf all = BLY_BUF_INIT;
    const char *near = nearest_signature(graph, name);
    list_signatures(graph, &all);
    if (near)
        bly_buf_printf(&all, "; did you mean '%s'?", near);
    belay_code code = bly_fail(err, BELAY_NOT_FOUND, "%s has no signature '%s'; %s", graph->path,
                               name, bly_buf_text(&all));
    bly_buf_free(&all);
    return code;
}

static belay_code choose_signature(const belay_graph *graph, const bly_plan_request *request,
                                   bly_plan *plan, belay_error *err) {
    const char *name = request->signature;
    if (name && !belay_graph_has_signature(graph, name))
        return no_such_signature(graph, name, err);
    if (!name && request->default_signature &&
        belay_graph_has_signature(graph, request->default_signature))
        name = request->default_signature;
    if (!name)
        return BELAY_OK;
    plan->signature = bly_strdup(name);
    return plan->signature ? BELAY_OK : bly_fail_memory(err);
}

static const belay_signature_tensor *find_input(const belay_graph *graph, const bly_plan *plan,
                                                const char *name) {
    size_t count = plan->signature ? belay_graph_signature_input_count(graph, plan->signature) : 0;
    for (size_t i = 0; i < count; i++) {
        const belay_signature_tensor *t = belay_graph_signature_input(graph, plan->signature, i);
        if (!strcmp(t->name, name))
            return t;
    }
    return NULL;
}

static const belay_signature_tensor *find_output(const belay_graph *graph, const bly_plan *plan,
                                                 const char *name) {
    size_t count = plan->signature ? belay_graph_signature_output_count(graph, plan->signature) : 0;
    for (size_t i = 0; i < count; i++) {
        const belay_signature_tensor *t = belay_graph_signature_output(graph, plan->signature, i);
        if (!strcmp(t->name, name))
            return t;
    }
    return NULL;
}

/* Where the graph has nothing of a name: the nearest input or output of the signature, if one is
 * near. `err` holds what the graph itself says, which may name an op. */
static belay_code suggest(const belay_graph *graph, const bly_plan *plan, const char *name,
                          int is_input, belay_error *err) {
    size_t count = !plan->signature ? 0
                   : is_input       ? belay_graph_signature_input_count(graph, plan->signature)
                                    : belay_graph_signature_output_count(graph, plan->signature);
    const char **names = bly_calloc(count, sizeof *names);
    if (!names)
        return bly_fail_memory(err);
    for (size_t i = 0; i < count; i++)
        names[i] = is_input ? belay_graph_signature_input(graph, plan->signature, i)->name
                            : belay_graph_signature_output(graph, plan->signature, i)->name;
    const char *near = bly_nearest(name, names, count);
    if (near)
        bly_fail(err, BELAY_NOT_FOUND, "signature '%s' of %s has no %s '%s'; did you mean '%s'?",
                 plan->signature, graph->path, is_input ? "input" : "output", name, near);
    else if (count)
        bly_error_prefix(err, "'%s' is no %s of signature '%s', and as a tensor: ", name,
                         is_input ? "input" : "output", plan->signature);
    bly_free(names);
    return belay_error_code(err);
}

/* --- what is fetched -------------------------------------------------------------------------- */

/* Fetches a tensor under a name. */
static belay_code fetch(const belay_graph *graph, bly_plan *plan, const char *name,
                        const char *tensor, belay_error *err) {
    TF_Output output;
    if (bly_names_find(&plan->names, name) != BLY_NAMES_NONE)
        return BELAY_OK;
    belay_code code = bly_graph_find_output(graph, tensor, &output, err);
    if (code == BELAY_OK)
        code = bly_names_add(&plan->names, name, err);
    return code == BELAY_OK ? bly_names_add(&plan->tensors, tensor, err) : code;
}

/* Waits for the op of a tensor. A placeholder is no work, and must not be run where it is fed. */
static belay_code count_after(const belay_graph *graph, bly_plan *plan, const char *tensor,
                              belay_error *err) {
    TF_Operation *op = bly_graph_find_target(graph, tensor, err);
    if (!op)
        return belay_error_code(err);
    const char *name = graph->rt->OperationName(op);
    if (bly_starts_with(graph->rt->OperationOpType(op), "Placeholder") ||
        bly_names_find(&plan->after, name) != BLY_NAMES_NONE)
        return BELAY_OK;
    return bly_names_add(&plan->after, name, err);
}

static belay_code fetch_outputs(const belay_graph *graph, bly_plan *plan, belay_error *err) {
    size_t count = plan->signature ? belay_graph_signature_output_count(graph, plan->signature) : 0;
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < count && code == BELAY_OK; i++) {
        const belay_signature_tensor *t = belay_graph_signature_output(graph, plan->signature, i);
        code = fetch(graph, plan, t->name, t->tensor, err);
        if (code == BELAY_OK)
            code = count_after(graph, plan, t->tensor, err);
    }
    return code;
}

/* An output of the signature, else a tensor; an op without outputs is run. */
static belay_code fetch_named(const belay_graph *graph, bly_plan *plan, const char *name,
                              belay_error *err) {
    const belay_signature_tensor *output = find_output(graph, plan, name);
    if (output)
        return fetch(graph, plan, name, output->tensor, err);
    if (belay_graph_has_op(graph, name)) {
        TF_Operation *op = bly_graph_find_op(graph, name, err);
        if (op && graph->rt->OperationNumOutputs(op) == 0)
            return bly_names_add(&plan->targets, name, err);
    }
    belay_code code = fetch(graph, plan, name, name, err);
    return code == BELAY_NOT_FOUND ? suggest(graph, plan, name, 0, err) : code;
}

/* --- the loss --------------------------------------------------------------------------------- */

static int is_scalar(const belay_graph *graph, const char *tensor) {
    belay_dtype dtype = BELAY_INVALID_DTYPE;
    int32_t rank = -1;
    if (!belay_graph_tensor_info(graph, tensor, &dtype, &rank, NULL, 0))
        return 0;
    return rank <= 0 && (dtype == BELAY_FLOAT || dtype == BELAY_DOUBLE || dtype == BELAY_HALF ||
                         dtype == BELAY_BFLOAT16);
}

/* The only member of a collection, counting one that is in it twice once; NULL where there is none
 * or several. */
static const char *only_member(const belay_graph *graph, const char *collection) {
    size_t size = belay_graph_collection_size(graph, collection);
    const char *only = NULL;
    for (size_t i = 0; i < size; i++) {
        const char *member = belay_graph_collection_node(graph, collection, i);
        if (!member || (only && strcmp(only, member) != 0))
            return NULL;
        only = member;
    }
    return only;
}

/* "loss:0" is called "loss" where people read it. */
static belay_code fetch_loss(const belay_graph *graph, bly_plan *plan, const char *tensor,
                             belay_error *err) {
    size_t known = bly_names_find(&plan->tensors, tensor);
    if (known != BLY_NAMES_NONE) {
        plan->loss = known;
        return BELAY_OK;
    }
    size_t len = strlen(tensor);
    char *name = bly_strndup(tensor, bly_ends_with(tensor, ":0") ? len - 2 : len);
    if (!name)
        return bly_fail_memory(err);
    belay_code code = fetch(graph, plan, name, tensor, err);
    if (code == BELAY_OK)
        plan->loss = bly_names_find(&plan->names, name);
    bly_free(name);
    return code;
}

static belay_code choose_loss(const belay_graph *graph, const bly_plan_request *request,
                              bly_plan *plan, belay_error *err) {
    const char *member;
    belay_code code = BELAY_OK;
    if (request->loss) {
        code = fetch_named(graph, plan, request->loss, err);
        plan->loss = bly_names_find(&plan->names, request->loss);
        if (code == BELAY_OK &&
            (plan->loss == BLY_NAMES_NONE || !is_scalar(graph, plan->tensors.items[plan->loss])))
            code = bly_fail(err, BELAY_INVALID_ARGUMENT, "the loss '%s' is not a scalar number",
                            request->loss);
    } else if (find_output(graph, plan, "loss")) {
        plan->loss = bly_names_find(&plan->names, "loss");
        if (!is_scalar(graph, plan->tensors.items[plan->loss]))
            plan->loss = BLY_NAMES_NONE;
    } else if ((member = only_member(graph, "losses")) != NULL && is_scalar(graph, member)) {
        code = fetch_loss(graph, plan, member, err);
    }
    return code;
}

/* --- the train op ----------------------------------------------------------------------------- */

#define CANDIDATES_MOST 6

/* What could be a train op: something that has an effect and no value. TensorFlow's optimizers end
 * in an op that counts the step, or in a group; gradients, initialisers and savers have groups too.
 */
static int may_be_train_op(const belay_graph *graph, TF_Operation *op, int counts) {
    static const char *const others[] = {"gradients/", "group_deps", "init", "save", "restore"};
    const char *type = graph->rt->OperationOpType(op), *name = graph->rt->OperationName(op);
    if (counts ? !bly_starts_with(type, "AssignAdd")
               : strcmp(type, "NoOp") != 0 || graph->rt->OperationNumControlInputs(op) == 0)
        return 0;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strstr(name, others[i]))
            return 0;
    return 1;
}

/* Ops that count first. */
static void list_candidates(const belay_graph *graph, bly_buf *out) {
    size_t found = 0;
    TF_Operation *op;
    for (int counts = 1; counts >= 0; counts--) {
        size_t pos = 0;
        while (found < CANDIDATES_MOST &&
               (op = graph->rt->GraphNextOperation(graph->tf, &pos)) != NULL)
            if (may_be_train_op(graph, op, counts))
                bly_buf_printf(out, "%s%s",
                               found++ ? ", " : "; candidates: ", graph->rt->OperationName(op));
    }
}

static belay_code no_train_op(const belay_graph *graph, belay_error *err) {
    bly_buf text = BLY_BUF_INIT;
    size_t size = belay_graph_collection_size(graph, "train_op");
    if (size) {
        bly_buf_puts(&text, "collection train_op has several: ");
        for (size_t i = 0; i < size; i++) {
            const char *node = belay_graph_collection_node(graph, "train_op", i);
            bly_buf_printf(&text, "%s%s", i ? ", " : "", node ? node : "?");
        }
    } else {
        bly_buf_puts(&text, "it has no signature 'train' (");
        list_signatures(graph, &text);
        bly_buf_puts(&text, ") and nothing in collection train_op");
        list_candidates(graph, &text);
    }
    belay_code code = bly_fail(err, BELAY_FAILED_PRECONDITION,
                               "%s does not say which op trains: %s. Name one with --train-op "
                               "(train_op in the options)",
                               graph->path, bly_buf_text(&text));
    bly_buf_free(&text);
    return code;
}

/* Named, else the only one of its collection; a signature trains by itself where there is no such
 * collection. */
static belay_code choose_train_op(const belay_graph *graph, const bly_plan_request *request,
                                  bly_plan *plan, belay_error *err) {
    const char *name = request->train_op ? request->train_op : only_member(graph, "train_op");
    if (!name) {
        if (plan->signature && belay_graph_collection_size(graph, "train_op") == 0)
            return BELAY_OK;
        return no_train_op(graph, err);
    }
    TF_Operation *op = bly_graph_find_target(graph, name, err);
    if (!op)
        return belay_error_code(err);
    belay_code code = bly_names_add(&plan->targets, graph->rt->OperationName(op), err);
    return code == BELAY_OK ? count_after(graph, plan, name, err) : code;
}

/* --- what is fed ------------------------------------------------------------------------------ */

static belay_code copy_dims(bly_plan_feed *feed, const int64_t *dims, belay_error *err) {
    feed->dims = feed->rank > 0 ? bly_calloc((size_t)feed->rank, sizeof *dims) : NULL;
    if (feed->rank > 0 && !feed->dims)
        return bly_fail_memory(err);
    if (feed->rank > 0)
        memcpy(feed->dims, dims, (size_t)feed->rank * sizeof *dims);
    return BELAY_OK;
}

/* Type and shape as the graph's tensor has them; where it says less than the signature, the
 * signature's. */
static belay_code describe_feed(const belay_graph *graph, const belay_signature_tensor *input,
                                bly_plan_feed *feed, belay_error *err) {
    int64_t dims[BELAY_RANK_MAX];
    belay_graph_tensor_info(graph, feed->tensor, &feed->dtype, &feed->rank, dims, BELAY_RANK_MAX);
    if (feed->rank < 0 && input && input->rank >= 0) {
        feed->rank = input->rank;
        return copy_dims(feed, input->dims, err);
    }
    for (int32_t i = 0; input && i < feed->rank && feed->rank == input->rank; i++)
        if (dims[i] < 0)
            dims[i] = input->dims[i];
    return copy_dims(feed, dims, err);
}

static belay_code add_feed(const belay_graph *graph, bly_plan *plan, const char *name,
                           belay_error *err) {
    const belay_signature_tensor *input = find_input(graph, plan, name);
    TF_Output output;
    char tensor[1024];
    bly_plan_feed *feed = &plan->feeds[plan->feed_names.count];
    belay_code code = bly_graph_find_raw_output(graph, input ? input->tensor : name, &output, err);
    if (code != BELAY_OK)
        return code == BELAY_NOT_FOUND ? suggest(graph, plan, name, 1, err) : code;
    bly_graph_output_name(graph, output, tensor, sizeof tensor);
    for (size_t i = 0; i < plan->feed_names.count; i++)
        if (!strcmp(plan->feeds[i].tensor, tensor))
            return bly_fail(err, BELAY_INVALID_ARGUMENT, "'%s' and '%s' feed the same tensor, %s",
                            plan->feed_names.items[i], name, tensor);
    feed->tensor = bly_strdup(tensor);
    if (!feed->tensor)
        return bly_fail_memory(err);
    feed->dtype = BELAY_INVALID_DTYPE;
    feed->rank = -1;
    code = bly_names_add(&plan->feed_names, name, err);
    if (code == BELAY_OK)
        return describe_feed(graph, input, feed, err);
    bly_free(feed->tensor);
    return code;
}

static belay_code add_feeds(const belay_graph *graph, const bly_plan_request *request,
                            bly_plan *plan, belay_error *err) {
    size_t count = 0;
    belay_code code = BELAY_OK;
    while (request->feeds && request->feeds[count])
        count++;
    plan->feeds = bly_calloc(count, sizeof *plan->feeds);
    if (!plan->feeds)
        return bly_fail_memory(err);
    for (size_t i = 0; i < count && code == BELAY_OK; i++)
        code = add_feed(graph, plan, request->feeds[i], err);
    return code;
}

/* --- what is needed and not fed --------------------------------------------------------------- */

/* Adds the op of a name to the roots of a walk, unless it is a tensor that is fed. */
static belay_code add_root(const belay_graph *graph, const bly_plan *plan, const char *name,
                           TF_Operation **roots, size_t *count, belay_error *err) {
    TF_Operation *op = bly_graph_find_target(graph, name, err);
    if (!op)
        return belay_error_code(err);
    for (size_t i = 0; i < plan->feed_names.count; i++)
        if (bly_graph_find_target(graph, plan->feeds[i].tensor, err) == op)
            return BELAY_OK;
    roots[(*count)++] = op;
    return BELAY_OK;
}

/* Every op that a run of the plan starts from. */
static belay_code find_roots(const belay_graph *graph, const bly_plan *plan, TF_Operation **roots,
                             size_t *count, belay_error *err) {
    belay_code code = BELAY_OK;
    *count = 0;
    for (size_t i = 0; i < plan->targets.count && code == BELAY_OK; i++)
        code = add_root(graph, plan, plan->targets.items[i], roots, count, err);
    for (size_t i = 0; i < plan->tensors.count && code == BELAY_OK; i++)
        code = add_root(graph, plan, plan->tensors.items[i], roots, count, err);
    return code;
}

static belay_code find_fed(const belay_graph *graph, const bly_plan *plan, TF_Output *fed,
                           belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < plan->feed_names.count && code == BELAY_OK; i++)
        code = bly_graph_find_raw_output(graph, plan->feeds[i].tensor, &fed[i], err);
    return code;
}

/* What a placeholder is called in the signature; its own name where it is not in there. */
static const char *name_of_placeholder(const belay_graph *graph, const bly_plan *plan,
                                       const char *op) {
    size_t count = plan->signature ? belay_graph_signature_input_count(graph, plan->signature) : 0;
    size_t len = strlen(op);
    for (size_t i = 0; i < count; i++) {
        const belay_signature_tensor *t = belay_graph_signature_input(graph, plan->signature, i);
        if (!strncmp(t->tensor, op, len) && !strcmp(t->tensor + len, ":0"))
            return t->name;
    }
    return op;
}

static int is_fed(const TF_Output *fed, size_t count, const TF_Operation *op) {
    for (size_t i = 0; i < count; i++)
        if (fed[i].oper == op)
            return 1;
    return 0;
}

/* Adds "x (float32 [?,64])" for each placeholder among `needed` that nobody feeds. */
static belay_code collect_missing(const belay_graph *graph, const bly_plan *plan,
                                  const bly_op_set *needed, const TF_Output *fed,
                                  bly_names *missing, belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < needed->capacity && code == BELAY_OK; i++) {
        TF_Operation *op = needed->slots[i];
        if (!op || strcmp(graph->rt->OperationOpType(op), "Placeholder") != 0 ||
            is_fed(fed, plan->feed_names.count, op))
            continue;
        int64_t dims[BELAY_RANK_MAX];
        belay_dtype dtype = BELAY_INVALID_DTYPE;
        int32_t rank = -1;
        bly_buf text = BLY_BUF_INIT;
        const char *name = graph->rt->OperationName(op);
        belay_graph_tensor_info(graph, name, &dtype, &rank, dims, BELAY_RANK_MAX);
        bly_buf_printf(&text, "%s (", name_of_placeholder(graph, plan, name));
        bly_describe_tensor(dtype, rank, dims, &text);
        bly_buf_putc(&text, ')');
        code = bly_names_add(missing, bly_buf_text(&text), err);
        bly_buf_free(&text);
    }
    bly_names_sort(missing);
    return code;
}

/* Placeholders that `roots` need and that are not fed, described and sorted. */
static belay_code find_missing(const belay_graph *graph, const bly_plan *plan,
                               TF_Operation *const *roots, size_t count, bly_names *missing,
                               belay_error *err) {
    bly_op_set needed = BLY_OP_SET_INIT;
    TF_Output *fed = bly_calloc(plan->feed_names.count, sizeof *fed);
    belay_code code = fed ? find_fed(graph, plan, fed, err) : bly_fail_memory(err);
    if (code == BELAY_OK)
        code = bly_graph_walk_back(graph, roots, count, fed, plan->feed_names.count, NULL, &needed,
                                   err);
    if (code == BELAY_OK)
        code = collect_missing(graph, plan, &needed, fed, missing, err);
    bly_op_set_free(&needed);
    bly_free(fed);
    return code;
}

static void join(const bly_names *names, bly_buf *out) {
    for (size_t i = 0; i < names->count; i++)
        bly_buf_printf(out, "%s%s", i ? ", " : "", names->items[i]);
}

/* "signature 'train' needs ..." with everything that it takes. */
static belay_code tell_missing(const belay_graph *graph, const bly_plan *plan,
                               const bly_names *missing, belay_error *err) {
    bly_buf text = BLY_BUF_INIT;
    if (plan->signature)
        bly_buf_printf(&text, "signature '%s' of %s", plan->signature, graph->path);
    else
        bly_buf_printf(&text, "a run of %s", graph->path);
    bly_buf_puts(&text, " needs what is not fed: ");
    join(missing, &text);
    size_t count = plan->signature ? belay_graph_signature_input_count(graph, plan->signature) : 0;
    if (count && plan->feed_names.count)
        bly_buf_puts(&text, "; all its inputs: ");
    for (size_t i = 0; count && plan->feed_names.count && i < count; i++) {
        const belay_signature_tensor *t = belay_graph_signature_input(graph, plan->signature, i);
        bly_buf_printf(&text, "%s%s (", i ? ", " : "", t->name);
        bly_describe_tensor(t->dtype, t->rank, t->dims, &text);
        bly_buf_putc(&text, ')');
    }
    bly_buf_puts(&text, ". Feed it with --feed NAME=FILE.npy");
    belay_code code = bly_fail(err, BELAY_INVALID_ARGUMENT, "%s", bly_buf_text(&text));
    bly_buf_free(&text);
    return code;
}

static belay_code check_fed(const belay_graph *graph, const bly_plan *plan, belay_error *err) {
    bly_names missing = BLY_NAMES_INIT;
    size_t count = 0;
    TF_Operation **roots = bly_calloc(plan->targets.count + plan->tensors.count, sizeof *roots);
    belay_code code = roots ? find_roots(graph, plan, roots, &count, err) : bly_fail_memory(err);
    if (code == BELAY_OK)
        code = find_missing(graph, plan, roots, count, &missing, err);
    if (code == BELAY_OK && missing.count)
        code = tell_missing(graph, plan, &missing, err);
    bly_names_free(&missing);
    bly_free(roots);
    return code;
}

/* Summaries are fetched in the same runs, so they can need more than the step does. */
static belay_code check_summaries_fed(const belay_graph *graph, const bly_plan *plan,
                                      belay_error *err) {
    const char *collection =
        belay_graph_collection_size(graph, "summary_op") ? "summary_op" : "summaries";
    size_t size = belay_graph_collection_size(graph, collection), count = 0;
    bly_names missing = BLY_NAMES_INIT;
    TF_Operation **roots = bly_calloc(size, sizeof *roots);
    belay_code code = roots ? BELAY_OK : bly_fail_memory(err);
    for (size_t i = 0; i < size && code == BELAY_OK; i++) {
        const char *name = belay_graph_collection_node(graph, collection, i);
        roots[count] = name ? bly_graph_find_target(graph, name, err) : NULL;
        code = !name || roots[count] ? BELAY_OK : belay_error_code(err);
        count += roots[count] != NULL;
    }
    if (code == BELAY_OK)
        code = find_missing(graph, plan, roots, count, &missing, err);
    if (code == BELAY_OK && missing.count) {
        bly_buf text = BLY_BUF_INIT;
        join(&missing, &text);
        code = bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the summaries of %s need what is not fed: %s. Feed it, or switch "
                        "summaries off (--summary-steps 0)",
                        graph->path, bly_buf_text(&text));
        bly_buf_free(&text);
    }
    bly_names_free(&missing);
    bly_free(roots);
    return code;
}

/* --- all of it -------------------------------------------------------------------------------- */

static belay_code check_something_to_do(const belay_graph *graph, const bly_plan_request *request,
                                        const bly_plan *plan, belay_error *err) {
    bly_buf all = BLY_BUF_INIT;
    if (plan->names.count || plan->targets.count)
        return BELAY_OK;
    list_signatures(graph, &all);
    belay_code code = bly_fail(err, BELAY_NOT_FOUND, "%s has no signature '%s'; %s", graph->path,
                               request->default_signature, bly_buf_text(&all));
    bly_buf_free(&all);
    return code;
}

belay_code bly_plan_make(belay_graph *graph, const bly_plan_request *request, bly_plan *out,
                         belay_error *err) {
    *out = (bly_plan)BLY_PLAN_INIT;
    belay_code code = choose_signature(graph, request, out, err);
    if (code == BELAY_OK && request->trains)
        code = choose_train_op(graph, request, out, err);
    if (code == BELAY_OK)
        code = fetch_outputs(graph, out, err);
    for (size_t i = 0; request->fetches && request->fetches[i] && code == BELAY_OK; i++)
        code = fetch_named(graph, out, request->fetches[i], err);
    if (code == BELAY_OK && request->trains)
        code = choose_loss(graph, request, out, err);
    if (code == BELAY_OK)
        code = check_something_to_do(graph, request, out, err);
    if (code == BELAY_OK)
        code = add_feeds(graph, request, out, err);
    if (code == BELAY_OK)
        code = check_fed(graph, out, err);
    if (code == BELAY_OK && request->summaries)
        code = check_summaries_fed(graph, out, err);
    return code;
}

void bly_plan_free(bly_plan *plan) {
    bly_free(plan->signature);
    for (size_t i = 0; plan->feeds && i < plan->feed_names.count; i++) {
        bly_free(plan->feeds[i].tensor);
        bly_free(plan->feeds[i].dims);
    }
    bly_free(plan->feeds);
    bly_names_free(&plan->targets);
    bly_names_free(&plan->after);
    bly_names_free(&plan->names);
    bly_names_free(&plan->tensors);
    bly_names_free(&plan->feed_names);
    *plan = (bly_plan)BLY_PLAN_INIT;
}
