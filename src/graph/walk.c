#include "graph/walk.h"

#include "base/error.h"
#include "base/mem.h"

#include <string.h>

static size_t slot_of(const bly_op_set *set, const TF_Operation *op) {
    uint64_t hash = (uint64_t)(uintptr_t)op * UINT64_C(0x9e3779b97f4a7c15);
    size_t mask = set->capacity - 1;
    size_t slot = (size_t)(hash >> 32) & mask;
    while (set->slots[slot] && set->slots[slot] != op)
        slot = (slot + 1) & mask;
    return slot;
}

int bly_op_set_has(const bly_op_set *set, const TF_Operation *op) {
    return set->capacity > 0 && set->slots[slot_of(set, op)] != NULL;
}

static int enlarge(bly_op_set *set) {
    bly_op_set larger = BLY_OP_SET_INIT;
    larger.capacity = set->capacity ? set->capacity * 2 : 64;
    larger.slots = bly_calloc(larger.capacity, sizeof(TF_Operation *));
    if (!larger.slots)
        return 0;
    for (size_t i = 0; i < set->capacity; i++)
        if (set->slots[i])
            larger.slots[slot_of(&larger, set->slots[i])] = set->slots[i];
    larger.count = set->count;
    bly_free(set->slots);
    *set = larger;
    return 1;
}

int bly_op_set_add(bly_op_set *set, TF_Operation *op) {
    if (set->count * 2 >= set->capacity && !enlarge(set))
        return -1;
    size_t slot = slot_of(set, op);
    if (set->slots[slot])
        return 0;
    set->slots[slot] = op;
    set->count++;
    return 1;
}

void bly_op_set_free(bly_op_set *set) {
    bly_free(set->slots);
    *set = (bly_op_set)BLY_OP_SET_INIT;
}

/* Ops still to be looked at. */
struct walk {
    const belay_graph *graph;
    const TF_Output *feeds;
    size_t feed_count;
    bly_op_set *seen;
    TF_Operation **todo;
    size_t todo_count;
    size_t todo_capacity;
};

static int visit(struct walk *walk, TF_Operation *op) {
    int added = bly_op_set_add(walk->seen, op);
    if (added <= 0)
        return added == 0;
    if (!bly_grow(&walk->todo, walk->todo_count, &walk->todo_capacity, sizeof(TF_Operation *)))
        return 0;
    walk->todo[walk->todo_count++] = op;
    return 1;
}

static int is_fed(const struct walk *walk, TF_Output output) {
    for (size_t i = 0; i < walk->feed_count; i++)
        if (walk->feeds[i].oper == output.oper && walk->feeds[i].index == output.index)
            return 1;
    return 0;
}

static int visit_needs(struct walk *walk, TF_Operation *op) {
    const bly_runtime *rt = walk->graph->rt;
    int inputs = rt->OperationNumInputs(op);
    for (int i = 0; i < inputs; i++) {
        TF_Output input = rt->OperationInput((TF_Input){op, i});
        if (input.oper && !is_fed(walk, input) && !visit(walk, input.oper))
            return 0;
    }
    int count = rt->OperationNumControlInputs(op);
    if (count <= 0)
        return 1;
    TF_Operation **controls = bly_calloc((size_t)count, sizeof(TF_Operation *));
    if (!controls)
        return 0;
    count = rt->OperationGetControlInputs(op, controls, count);
    int fine = 1;
    for (int i = 0; i < count && fine; i++)
        fine = visit(walk, controls[i]);
    bly_free(controls);
    return fine;
}

belay_code bly_graph_walk_back(const belay_graph *graph, TF_Operation *const *roots, size_t count,
                               const TF_Output *feeds, size_t feed_count,
                               int (*stop)(const belay_graph *graph, const TF_Operation *op),
                               bly_op_set *out, belay_error *err) {
    struct walk walk = {graph, feeds, feed_count, out, NULL, 0, 0};
    int fine = 1;
    for (size_t i = 0; i < count && fine; i++)
        fine = visit(&walk, roots[i]);
    while (fine && walk.todo_count > 0) {
        TF_Operation *op = walk.todo[--walk.todo_count];
        if (!stop || !stop(graph, op))
            fine = visit_needs(&walk, op);
    }
    bly_free(walk.todo);
    return fine ? BELAY_OK : bly_fail_memory(err);
}
