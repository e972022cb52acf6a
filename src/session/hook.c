#include "session/hook.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "graph/graph.h"

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(belay_hook_vtable) ==
                   offsetof(belay_hook_vtable, name) + sizeof(const char *),
               "no tail padding");

belay_hook *belay_hook_new(const belay_hook_vtable *vtable, void *self, belay_error *err) {
    const size_t end_of_destroy = offsetof(belay_hook_vtable, destroy) + sizeof vtable->destroy;
    belay_hook_vtable table = {0};
    belay_hook *hook = NULL;
    if (!vtable)
        bly_fail(err, BELAY_INVALID_ARGUMENT, "belay_hook_vtable is NULL");
    else if (bly_options_read(&table, sizeof table, vtable, "belay_hook_vtable", err) == BELAY_OK &&
             !(hook = bly_calloc(1, sizeof *hook)))
        bly_fail_memory(err);
    if (!hook) {
        /* What self owns dies in destroy, whatever happens; so it is called even where the table
         * was refused. */
        if (vtable && vtable->struct_size >= end_of_destroy && vtable->destroy)
            vtable->destroy(self);
        return NULL;
    }
    atomic_init(&hook->references, 1);
    hook->table = table;
    hook->self = self;
    return hook;
}

belay_hook *bly_hook_ref(belay_hook *hook) {
    atomic_fetch_add(&hook->references, 1);
    return hook;
}

void belay_hook_free(belay_hook *hook) {
    if (!hook || atomic_fetch_sub(&hook->references, 1) != 1)
        return;
    if (hook->table.destroy)
        hook->table.destroy(hook->self);
    bly_free(hook);
}

/* Empties `out`, and refuses what is NULL. */
static belay_code begin_to_find(const belay_graph *graph, const char *name, belay_output *out,
                                belay_error *err) {
    if (out)
        *out = (belay_output){NULL, 0};
    if (graph && name && out)
        return BELAY_OK;
    return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL",
                    !graph  ? "graph"
                    : !name ? "name"
                            : "out");
}

belay_code belay_graph_find_output(belay_graph *graph, const char *name, belay_output *out,
                                   belay_error *err) {
    TF_Output found;
    belay_code code = begin_to_find(graph, name, out, err);
    if (code != BELAY_OK)
        return code;
    code = bly_graph_find_output(graph, name, &found, err);
    if (code == BELAY_OK)
        *out = (belay_output){found.oper, found.index};
    return code;
}

belay_code belay_graph_find_target(belay_graph *graph, const char *name, belay_output *out,
                                   belay_error *err) {
    belay_code code = begin_to_find(graph, name, out, err);
    if (code != BELAY_OK)
        return code;
    TF_Operation *op = bly_graph_find_target(graph, name, err);
    if (!op)
        return BELAY_NOT_FOUND;
    out->op = op;
    return BELAY_OK;
}
