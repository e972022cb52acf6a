#include "graph/saver_scopes.h"

#include "base/error.h"
#include "base/mem.h"
#include "wire/cursor.h"

#include <string.h>

#define GRAPH_NODE 1 /* GraphDef.node */
#define NODE_NAME  1 /* NodeDef.name */
#define NODE_OP    2 /* NodeDef.op */

static int is_saving(const bly_field *op) {
    static const char *const types[] = {
        "SaveV2",  "Save",         "SaveSlice",     "LegacySave",      "RestoreV2",
        "Restore", "RestoreSlice", "LegacyRestore", "LegacySaveSlice", "LegacyRestoreSlice"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strlen(types[i]) == op->size && memcmp(types[i], op->data, op->size) == 0)
            return 1;
    return 0;
}

/* Length of a name's scope with its slash; 0 where it has none. */
static size_t scope_length(const char *name, size_t len) {
    while (len > 0 && name[len - 1] != '/')
        len--;
    return len;
}

static int is_scope_of(const char *scope, size_t len, const char *name) {
    return name && scope_length(name, strlen(name)) == len && memcmp(scope, name, len) == 0;
}

static belay_code add(bly_saver_scopes *scopes, const char *scope, size_t len, belay_error *err) {
    for (size_t i = 0; i < scopes->count; i++)
        if (is_scope_of(scope, len, scopes->names[i]))
            return BELAY_OK;
    char *copy = bly_strndup(scope, len);
    if (!copy ||
        !bly_grow(&scopes->names, scopes->count, &scopes->capacity, sizeof *scopes->names)) {
        bly_free(copy);
        return bly_fail_memory(err);
    }
    scopes->names[scopes->count++] = copy;
    return BELAY_OK;
}

/* Name and type of the next node, as far as it has them. */
static int next_node(bly_cursor *graph, bly_field *whole, bly_field *name, bly_field *op) {
    bly_field field;
    *name = *op = (bly_field){0};
    if (!bly_cursor_next(graph, whole))
        return 0;
    if (whole->number != GRAPH_NODE || whole->type != 2)
        return 1;
    bly_cursor fields = bly_cursor_over(whole->data, whole->size);
    while (bly_cursor_next(&fields, &field)) {
        if (field.number == NODE_NAME && field.type == 2)
            *name = field;
        else if (field.number == NODE_OP && field.type == 2)
            *op = field;
    }
    return 1;
}

belay_code bly_saver_scopes_find(const bly_buf *graph_def, const Bly__SaverDef *kept,
                                 bly_saver_scopes *out, belay_error *err) {
    bly_cursor graph = bly_cursor_over(bly_buf_text(graph_def), graph_def->len);
    bly_field whole, name, op;
    belay_code code = BELAY_OK;
    while (code == BELAY_OK && next_node(&graph, &whole, &name, &op)) {
        const char *scope = (const char *)name.data;
        size_t len = op.data && is_saving(&op) ? scope_length(scope, name.size) : 0;
        if (len > 0 && !(kept && (is_scope_of(scope, len, kept->save_tensor_name) ||
                                  is_scope_of(scope, len, kept->restore_op_name))))
            code = add(out, scope, len, err);
    }
    return code;
}

void bly_saver_scopes_free(bly_saver_scopes *scopes) {
    for (size_t i = 0; i < scopes->count; i++)
        bly_free(scopes->names[i]);
    bly_free(scopes->names);
    *scopes = (bly_saver_scopes)BLY_SAVER_SCOPES_INIT;
}

int bly_saver_scopes_have(const bly_saver_scopes *scopes, const char *name, size_t len) {
    for (size_t i = 0; i < scopes->count; i++) {
        size_t scope = strlen(scopes->names[i]);
        if (len >= scope && memcmp(scopes->names[i], name, scope) == 0)
            return 1;
    }
    return 0;
}

void bly_saver_scopes_drop(const bly_saver_scopes *scopes, const bly_buf *graph_def, bly_buf *out) {
    bly_cursor graph = bly_cursor_over(bly_buf_text(graph_def), graph_def->len);
    bly_field whole, name, op;
    while (next_node(&graph, &whole, &name, &op))
        if (!name.data || !bly_saver_scopes_have(scopes, (const char *)name.data, name.size))
            bly_buf_append(out, whole.from, whole.len);
}
