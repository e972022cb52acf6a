/* Signatures: names that an exporter gave to tensors. */
#include "graph/index.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b) {
    return strcmp(((const bly_signature *)a)->name, ((const bly_signature *)b)->name);
}

static int by_tensor_name(const void *a, const void *b) {
    return strcmp(((const belay_signature_tensor *)a)->name,
                  ((const belay_signature_tensor *)b)->name);
}

/* Type and shape as the signature says; `dims` has room. Returns how many of them were used. */
static size_t describe(belay_signature_tensor *out, const Bly__TensorInfo *info, int64_t *dims) {
    const Bly__TensorShapeProto *shape = info->tensor_shape;
    out->tensor = info->name;
    out->dtype = (belay_dtype)info->dtype;
    out->rank = -1;
    if (!shape || shape->unknown_rank)
        return 0;
    out->rank = (int32_t)shape->n_dim;
    out->dims = dims;
    for (size_t i = 0; i < shape->n_dim; i++)
        dims[i] = shape->dim[i]->size;
    return shape->n_dim;
}

static size_t dims_of(Bly__SignatureDef__TensorEntry *const *entries, size_t count) {
    size_t dims = 0;
    for (size_t i = 0; i < count; i++)
        if (entries[i]->value && entries[i]->value->tensor_shape)
            dims += entries[i]->value->tensor_shape->n_dim;
    return dims;
}

/* Tensors of one side, sorted. Sparse and composite ones, which consist of several tensors, have no
 * name: they cannot be fed or fetched, and that is said. */
static belay_code fill(belay_graph *graph, const bly_signature *signature,
                       Bly__SignatureDef__TensorEntry *const *entries, size_t count,
                       belay_signature_tensor *to, size_t *out_count, int64_t **dims,
                       belay_error *err) {
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const Bly__TensorInfo *info = entries[i]->value;
        if (!info || info->name[0] == '\0') {
            belay_code code = bly_graph_add_problem(
                graph, err, "'%s' of signature '%s' is not one dense tensor and cannot be used",
                entries[i]->key, signature->name);
            if (code != BELAY_OK)
                return code;
            continue;
        }
        to[used].name = entries[i]->key;
        *dims += describe(&to[used++], info, *dims);
    }
    if (used > 0)
        qsort(to, used, sizeof *to, by_tensor_name);
    *out_count = used;
    return BELAY_OK;
}

static belay_code load_one(belay_graph *graph, bly_signature *signature, belay_error *err) {
    const Bly__SignatureDef *def = signature->def;
    signature->tensors = bly_calloc(def->n_inputs + def->n_outputs, sizeof *signature->tensors);
    signature->dims =
        bly_calloc(dims_of(def->inputs, def->n_inputs) + dims_of(def->outputs, def->n_outputs),
                   sizeof *signature->dims);
    if (!signature->tensors || !signature->dims)
        return bly_fail_memory(err);
    int64_t *dims = signature->dims;
    belay_code code = fill(graph, signature, def->inputs, def->n_inputs, signature->tensors,
                           &signature->input_count, &dims, err);
    if (code == BELAY_OK)
        code =
            fill(graph, signature, def->outputs, def->n_outputs,
                 signature->tensors + signature->input_count, &signature->output_count, &dims, err);
    return code;
}

belay_code bly_signatures_load(belay_graph *graph, belay_error *err) {
    struct bly_graph_index *index = graph->index;
    size_t most = graph->meta->n_signature_def;
    belay_code code = BELAY_OK;
    index->signatures = bly_calloc(most, sizeof *index->signatures);
    if (!index->signatures)
        return bly_fail_memory(err);
    for (size_t i = 0; i < most && code == BELAY_OK; i++) {
        const Bly__MetaGraphDef__SignatureEntry *entry = graph->meta->signature_def[i];
        if (!entry->value)
            continue;
        bly_signature *signature = &index->signatures[index->signature_count++];
        signature->name = entry->key;
        signature->def = entry->value;
        code = load_one(graph, signature, err);
    }
    if (index->signature_count > 0)
        qsort(index->signatures, index->signature_count, sizeof *index->signatures, by_name);
    return code;
}

void bly_signatures_free(struct bly_graph_index *index) {
    for (size_t i = 0; i < index->signature_count; i++) {
        bly_free(index->signatures[i].tensors);
        bly_free(index->signatures[i].dims);
    }
    bly_free(index->signatures);
}

static const bly_signature *find(const belay_graph *graph, const char *name) {
    bly_signature key = {.name = name};
    if (!graph || !name || graph->index->signature_count == 0)
        return NULL;
    return bsearch(&key, graph->index->signatures, graph->index->signature_count, sizeof key,
                   by_name);
}

const Bly__SignatureDef *bly_graph_signature(const belay_graph *graph, const char *name) {
    const bly_signature *signature = find(graph, name);
    return signature ? signature->def : NULL;
}

static int is_listed(const bly_signature *signature) {
    return !bly_starts_with(signature->name, "__");
}

size_t belay_graph_signature_count(const belay_graph *graph) {
    size_t count = 0;
    for (size_t i = 0; graph && i < graph->index->signature_count; i++)
        count += (size_t)is_listed(&graph->index->signatures[i]);
    return count;
}

const char *belay_graph_signature_name(const belay_graph *graph, size_t index) {
    for (size_t i = 0; graph && i < graph->index->signature_count; i++)
        if (is_listed(&graph->index->signatures[i]) && index-- == 0)
            return graph->index->signatures[i].name;
    return NULL;
}

uint32_t belay_graph_has_signature(const belay_graph *graph, const char *signature) {
    return find(graph, signature) != NULL;
}

size_t belay_graph_signature_input_count(const belay_graph *graph, const char *signature) {
    const bly_signature *found = find(graph, signature);
    return found ? found->input_count : 0;
}

const belay_signature_tensor *belay_graph_signature_input(const belay_graph *graph,
                                                          const char *signature, size_t index) {
    const bly_signature *found = find(graph, signature);
    return found && index < found->input_count ? &found->tensors[index] : NULL;
}

size_t belay_graph_signature_output_count(const belay_graph *graph, const char *signature) {
    const bly_signature *found = find(graph, signature);
    return found ? found->output_count : 0;
}

const belay_signature_tensor *belay_graph_signature_output(const belay_graph *graph,
                                                           const char *signature, size_t index) {
    const bly_signature *found = find(graph, signature);
    return found && index < found->output_count ? &found->tensors[found->input_count + index]
                                                : NULL;
}
