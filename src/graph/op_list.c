#include "graph/op_list.h"

#include "base/error.h"
#include "base/mem.h"
#include "wire/cursor.h"
#include "wire/encode.h"

#include <stdlib.h>
#include <string.h>

#define LIST_OP 1 /* OpList.op */
#define OP_NAME 1 /* OpDef.name */

/* One definition; its bytes belong to the list that it is of. `def` is NULL for a type that is
 * wanted, and not found yet. */
struct op_def {
    const char *name;
    size_t name_len;
    const uint8_t *def;
    size_t len;
};

struct op_defs {
    struct op_def *items;
    size_t count;
    size_t capacity;
};

static struct op_def *find(const struct op_defs *ops, const char *name, size_t len) {
    for (size_t i = 0; i < ops->count; i++)
        if (ops->items[i].name_len == len && memcmp(ops->items[i].name, name, len) == 0)
            return &ops->items[i];
    return NULL;
}

static int add(struct op_defs *ops, struct op_def def) {
    if (!bly_grow(&ops->items, ops->count, &ops->capacity, sizeof *ops->items))
        return 0;
    ops->items[ops->count++] = def;
    return 1;
}

static int next_def(bly_cursor *list, struct op_def *out) {
    bly_field field, inner;
    while (bly_cursor_next(list, &field)) {
        bly_cursor fields = bly_cursor_over(field.data, field.type == 2 ? field.size : 0);
        while (field.number == LIST_OP && bly_cursor_next(&fields, &inner))
            if (inner.number == OP_NAME && inner.type == 2) {
                *out =
                    (struct op_def){(const char *)inner.data, inner.size, field.data, field.size};
                return 1;
            }
    }
    return 0;
}

static int add_known(struct op_defs *ops, const ProtobufCBinaryData *known) {
    bly_cursor list = bly_cursor_over(known->len ? known->data : (const void *)"", known->len);
    struct op_def def;
    while (next_def(&list, &def))
        if (!add(ops, def))
            return 0;
    return 1;
}

/* Types that ops of the graph have; *out_missing counts those without a definition. */
static int add_wanted(struct op_defs *ops, const belay_graph *graph, size_t *out_missing) {
    const bly_runtime *rt = graph->rt;
    TF_Operation *op;
    size_t at = 0;
    *out_missing = 0;
    while ((op = rt->GraphNextOperation(graph->tf, &at)) != NULL) {
        const char *type = rt->OperationOpType(op);
        if (find(ops, type, strlen(type)))
            continue;
        if (!add(ops, (struct op_def){type, strlen(type), NULL, 0}))
            return 0;
        ++*out_missing;
    }
    return 1;
}

static void fill(struct op_defs *ops, const TF_Buffer *all) {
    bly_cursor list = bly_cursor_over(all->data, all->length);
    struct op_def def;
    while (next_def(&list, &def)) {
        struct op_def *wanted = find(ops, def.name, def.name_len);
        if (wanted && !wanted->def)
            *wanted = def;
    }
}

static int by_name(const void *a, const void *b) {
    const struct op_def *x = a, *y = b;
    size_t len = x->name_len < y->name_len ? x->name_len : y->name_len;
    int order = memcmp(x->name, y->name, len);
    return order ? order : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

belay_code bly_op_list_complete(const belay_graph *graph, const ProtobufCBinaryData *known,
                                bly_buf *out, belay_error *err) {
    struct op_defs ops = {NULL, 0, 0};
    TF_Buffer *all = NULL;
    size_t missing;
    int fine = add_known(&ops, known) && add_wanted(&ops, graph, &missing);
    if (fine && missing > 0 && (all = graph->rt->GetAllOpList()) != NULL)
        fill(&ops, all);
    if (fine && ops.count > 0)
        qsort(ops.items, ops.count, sizeof *ops.items, by_name);
    for (size_t i = 0; fine && i < ops.count; i++)
        if (ops.items[i].def)
            bly_put_bytes(out, LIST_OP, ops.items[i].def, ops.items[i].len);
    if (all)
        graph->rt->DeleteBuffer(all);
    bly_free(ops.items);
    return fine && !out->failed ? BELAY_OK : bly_fail_memory(err);
}
