/*
 * Reading the global step after a run has counted, in the run itself.
 *
 * TensorFlow orders nothing that the graph does not order: a read fetched together with the
 * increment may see either value (GS-07). A read with control edges from every op of the run that
 * writes the step sees the value after. For that all writers must be known. They are found by
 * following the step's handle: what takes it either is known to read, is known to write, or passes
 * it on; anything else (a function, a loop) ends the proof. A writer in a branch that may not be
 * taken ends it too: its control edge would make the read dead, and the run would fail.
 *
 * A run that writes nothing may wait until others have: a replica of SyncReplicasOptimizer takes a
 * token from a queue, which comes after the step that another thread counted. Its read comes after
 * what it takes from queues; before that it would be a step behind, and StopAtStep with it.
 */
#include "graph/index.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"
#include "graph/builder.h"
#include "graph/walk.h"

#include <string.h>

enum role { READS, WRITES, PASSES_ON, UNKNOWN };

/* What an op does with a resource variable's handle. */
static enum role role_of_resource(const char *type) {
    static const char *const reading[] = {"ReadVariableOp",   "VarIsInitializedOp",
                                          "VariableShape",    "ResourceGather",
                                          "ResourceGatherNd", "DisableCopyOnRead"};
    static const char *const writing[] = {"AssignVariableOp", "AssignAddVariableOp",
                                          "AssignSubVariableOp", "DestroyResourceOp"};
    if (BLY_AMONG(type, reading))
        return READS;
    if (BLY_AMONG(type, writing) || bly_starts_with(type, "ResourceScatter") ||
        bly_starts_with(type, "ResourceApply"))
        return WRITES;
    return strcmp(type, "Identity") == 0 ? PASSES_ON : UNKNOWN;
}

/* The same for a reference. An op that takes its input by value only reads. */
static enum role role_of_reference(const belay_graph *graph, TF_Input input, const char *type) {
    static const char *const writing[] = {"Assign", "AssignAdd", "AssignSub", "CountUpTo"};
    if ((int)graph->rt->OperationInputType(input) <= 100)
        return READS;
    if (strcmp(type, "IsVariableInitialized") == 0)
        return READS;
    if (BLY_AMONG(type, writing) || bly_starts_with(type, "Scatter"))
        return WRITES;
    return strcmp(type, "RefIdentity") == 0 ? PASSES_ON : UNKNOWN;
}

struct search {
    belay_graph *graph;
    bly_op_set run;   /* what the run executes */
    bly_op_set names; /* ops whose output 0 is the step's handle or reference */
    TF_Operation **todo;
    size_t todo_count;
    size_t todo_capacity;
    bly_op_set writers; /* what the read comes after */
    int is_proved;
};

static int follow(struct search *s, TF_Operation *op) {
    int added = bly_op_set_add(&s->names, op);
    if (added <= 0)
        return added == 0;
    if (!bly_grow(&s->todo, s->todo_count, &s->todo_capacity, sizeof(TF_Operation *)))
        return 0;
    s->todo[s->todo_count++] = op;
    return 1;
}

static int take_consumer(struct search *s, TF_Input consumer) {
    const belay_graph *graph = s->graph;
    int is_resource = graph->global_step.is_resource;
    TF_Operation *op = consumer.oper;
    const char *type = graph->rt->OperationOpType(op);
    if (!bly_op_set_has(&s->run, op))
        return 1;
    enum role role =
        is_resource ? role_of_resource(type) : role_of_reference(graph, consumer, type);
    if (role == UNKNOWN)
        s->is_proved = 0;
    if (role == WRITES && bly_op_set_add(&s->writers, op) < 0)
        return 0;
    /* Assign and its like hand the reference on, so that later writes may hang on them. */
    int hands_on = role == PASSES_ON ||
                   (role == WRITES && !is_resource && graph->rt->OperationNumOutputs(op) > 0 &&
                    bly_output_is_ref(graph, (TF_Output){op, 0}));
    return hands_on ? follow(s, op) : 1;
}

static int take_consumers(struct search *s, TF_Output handle) {
    const bly_runtime *rt = s->graph->rt;
    int count = rt->OperationOutputNumConsumers(handle), fine = 1;
    if (count <= 0)
        return 1;
    TF_Input *consumers = bly_calloc((size_t)count, sizeof *consumers);
    if (!consumers)
        return 0;
    count = rt->OperationOutputConsumers(handle, consumers, count);
    for (int i = 0; i < count && fine; i++)
        fine = take_consumer(s, consumers[i]);
    bly_free(consumers);
    return fine;
}

/* The name that a variable's op has in the session: two ops of one such name are one variable. */
static int shared_name(const belay_graph *graph, TF_Operation *op, bly_buf *out) {
    const bly_runtime *rt = graph->rt;
    TF_Status *status = rt->NewStatus();
    bly_buf_clear(out);
    TF_AttrMetadata info = rt->OperationGetAttrMetadata(op, "shared_name", status);
    if (rt->GetCode(status) == TF_OK && info.total_size > 0) {
        char *to = bly_buf_reserve(out, (size_t)info.total_size);
        if (to) {
            rt->OperationGetAttrString(op, "shared_name", to, (size_t)info.total_size, status);
            out->len = (size_t)info.total_size;
            out->data[out->len] = '\0';
        }
    }
    rt->DeleteStatus(status);
    if (out->len == 0)
        bly_buf_puts(out, rt->OperationName(op));
    return !out->failed;
}

/* Every op of the run that is the step's variable. */
static int find_handles(struct search *s) {
    const belay_graph *graph = s->graph;
    TF_Operation *step = graph->global_step.handle.oper;
    const char *type = graph->rt->OperationOpType(step);
    bly_buf mine = BLY_BUF_INIT, other = BLY_BUF_INIT;
    int fine = follow(s, step) && shared_name(graph, step, &mine);
    for (size_t i = 0; i < s->run.capacity && fine; i++) {
        TF_Operation *op = s->run.slots[i];
        if (op && op != step && bly_op_is(graph, op, type))
            fine = shared_name(graph, op, &other) &&
                   (strcmp(mine.data, other.data) != 0 || follow(s, op));
    }
    bly_buf_free(&mine);
    bly_buf_free(&other);
    return fine;
}

static int leads_outside(const belay_graph *graph, const TF_Operation *op) {
    return bly_op_is(graph, op, "Merge") || bly_op_is(graph, op, "RefMerge") ||
           bly_op_is(graph, op, "Exit") || bly_op_is(graph, op, "RefExit");
}

static int is_loops_merge(const belay_graph *graph, TF_Operation *op) {
    const bly_runtime *rt = graph->rt;
    int inputs = bly_op_is(graph, op, "Merge") || bly_op_is(graph, op, "RefMerge")
                     ? rt->OperationNumInputs(op)
                     : 0;
    for (int i = 0; i < inputs; i++) {
        TF_Operation *from = rt->OperationInput((TF_Input){op, i}).oper;
        if (bly_op_is(graph, from, "NextIteration") || bly_op_is(graph, from, "RefNextIteration"))
            return 1;
    }
    return 0;
}

/* What no op outside may come after: one side of a Switch, which may not be executed, or a loop
 * without functions, which may be executed often. */
static int leads_inside(const belay_graph *graph, TF_Operation *op) {
    static const char *const types[] = {"Switch", "RefSwitch", "_SwitchN", "Enter", "RefEnter"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (bly_op_is(graph, op, types[i]))
            return 1;
    return is_loops_merge(graph, op);
}

static belay_code is_inside(const struct search *s, TF_Operation *writer, int *out,
                            belay_error *err) {
    bly_op_set needs = BLY_OP_SET_INIT;
    belay_code code =
        bly_graph_walk_back(s->graph, &writer, 1, NULL, 0, leads_outside, &needs, err);
    *out = 0;
    for (size_t i = 0; i < needs.capacity && !*out; i++)
        *out = needs.slots[i] && leads_inside(s->graph, needs.slots[i]);
    bly_op_set_free(&needs);
    return code;
}

/* For want of a writer, what waits for one. */
static int find_waiters(struct search *s) {
    int fine = 1;
    for (size_t i = 0; i < s->run.capacity && fine; i++) {
        TF_Operation *op = s->run.slots[i];
        if (op && bly_starts_with(s->graph->rt->OperationOpType(op), "QueueDequeue"))
            fine = bly_op_set_add(&s->writers, op) >= 0;
    }
    return fine;
}

static belay_code find_writers(struct search *s, belay_error *err) {
    int fine = find_handles(s);
    while (fine && s->todo_count > 0)
        fine = take_consumers(s, (TF_Output){s->todo[--s->todo_count], 0});
    if (fine && s->writers.count == 0)
        fine = find_waiters(s);
    if (!fine)
        return bly_fail_memory(err);
    belay_code code = BELAY_OK;
    for (size_t i = 0; i < s->writers.capacity && s->is_proved && code == BELAY_OK; i++) {
        int inside = 0;
        if (s->writers.slots[i])
            code = is_inside(s, s->writers.slots[i], &inside, err);
        s->is_proved &= !inside;
    }
    return code;
}

static belay_code find_run(struct search *s, const TF_Output *feeds, size_t feed_count,
                           const TF_Output *fetches, size_t fetch_count,
                           TF_Operation *const *targets, size_t target_count, belay_error *err) {
    size_t count = 0;
    TF_Operation **roots = bly_calloc(fetch_count + target_count, sizeof(TF_Operation *));
    if (!roots)
        return bly_fail_memory(err);
    for (size_t i = 0; i < fetch_count; i++) {
        int is_fed = 0; /* then it runs nothing (SE-21) */
        for (size_t j = 0; j < feed_count; j++)
            is_fed |= feeds[j].oper == fetches[i].oper && feeds[j].index == fetches[i].index;
        if (!is_fed)
            roots[count++] = fetches[i].oper;
    }
    for (size_t i = 0; i < target_count; i++)
        roots[count++] = targets[i];
    belay_code code =
        bly_graph_walk_back(s->graph, roots, count, feeds, feed_count, NULL, &s->run, err);
    bly_free(roots);
    return code;
}

/* ---- the read ---- */

/* The writers in an order that the next request finds again. */
static TF_Operation **in_order(const struct search *s) {
    TF_Operation **writers = bly_calloc(s->writers.count, sizeof(TF_Operation *));
    size_t count = 0;
    for (size_t i = 0; writers && i < s->writers.capacity; i++) {
        TF_Operation *op = s->writers.slots[i];
        if (!op)
            continue;
        size_t at = count++;
        for (; at > 0 && (uintptr_t)writers[at - 1] > (uintptr_t)op; at--)
            writers[at] = writers[at - 1];
        writers[at] = op;
    }
    return writers;
}

static int find_made(belay_graph *graph, TF_Operation *const *writers, size_t count,
                     TF_Output *out) {
    const struct bly_graph_index *index = graph->index;
    int found = 0;
    bly_mutex_lock(&graph->lock);
    for (size_t i = 0; i < index->step_read_count && !found; i++) {
        const bly_step_read *read = &index->step_reads[i];
        if (read->writer_count == count &&
            memcmp(read->writers, writers, count * sizeof(TF_Operation *)) == 0) {
            *out = read->read;
            found = 1;
        }
    }
    bly_mutex_unlock(&graph->lock);
    return found;
}

/* Remembers a read. Takes `writers`. Without memory it is made again next time, which costs a node.
 */
static void remember(belay_graph *graph, TF_Operation **writers, size_t count, TF_Output read) {
    struct bly_graph_index *index = graph->index;
    bly_mutex_lock(&graph->lock);
    int fits = bly_grow(&index->step_reads, index->step_read_count, &index->step_read_capacity,
                        sizeof *index->step_reads);
    if (fits)
        index->step_reads[index->step_read_count++] = (bly_step_read){writers, count, read};
    bly_mutex_unlock(&graph->lock);
    if (!fits)
        bly_free(writers);
}

/* A reference is read by an op that copies: an Identity would hand out the variable's own buffer,
 * and the next step would change what was fetched (BUG-73). */
static belay_code build(belay_graph *graph, TF_Operation *const *writers, size_t count,
                        TF_Output *out, belay_error *err) {
    const bly_global_step *step = &graph->global_step;
    bly_builder b = bly_builder_start_own(graph, err);
    bly_op_begin(&b, step->is_resource ? "ReadVariableOp" : "DeepCopy", "step_after",
                 graph->rt->OperationDevice(step->handle.oper));
    bly_op_input(&b, step->handle);
    for (size_t i = 0; i < count; i++)
        bly_op_after(&b, writers[i]);
    if (step->is_resource)
        bly_op_type(&b, "dtype", step->dtype);
    *out = bly_op_finish_output(&b);
    return bly_builder_end(&b);
}

static belay_code read_after(struct search *s, TF_Output *out, belay_error *err) {
    size_t count = s->writers.count;
    if (!s->is_proved)
        return BELAY_OK;
    if (count == 0) {
        *out = s->graph->global_step.read;
        return BELAY_OK;
    }
    TF_Operation **writers = in_order(s);
    if (!writers)
        return bly_fail_memory(err);
    if (find_made(s->graph, writers, count, out)) {
        bly_free(writers);
        return BELAY_OK;
    }
    belay_code code = build(s->graph, writers, count, out, err);
    if (code == BELAY_OK)
        remember(s->graph, writers, count, *out);
    else
        bly_free(writers);
    return code;
}

belay_code bly_graph_step_after(belay_graph *graph, const TF_Output *feeds, size_t feed_count,
                                const TF_Output *fetches, size_t fetch_count,
                                TF_Operation *const *targets, size_t target_count, TF_Output *out,
                                belay_error *err) {
    struct search s = {.graph = graph, .is_proved = 1};
    *out = BLY_NO_OUTPUT;
    belay_code code = bly_graph_check_global_step(graph, err);
    if (code != BELAY_OK)
        return code;
    /* A plain tensor has no writers that could be known. */
    if (!graph->global_step.is_resource && !bly_output_is_ref(graph, graph->global_step.handle))
        return BELAY_OK;
    code = find_run(&s, feeds, feed_count, fetches, fetch_count, targets, target_count, err);
    if (code == BELAY_OK)
        code = find_writers(&s, err);
    if (code == BELAY_OK)
        code = read_after(&s, out, err);
    bly_op_set_free(&s.run);
    bly_op_set_free(&s.names);
    bly_op_set_free(&s.writers);
    bly_free(s.todo);
    return code;
}
