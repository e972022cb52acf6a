#include "session/run_options.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "wire/unpack.h"

#include <string.h>

Bly__RunOptions *bly_run_options_read(const void *data, size_t size, belay_error *err) {
    belay_code code;
    Bly__RunOptions *options =
        bly_wire_unpack(&bly__run_options__descriptor, data, data ? size : 0, &code);
    if (!options && code == BELAY_RESOURCE_EXHAUSTED)
        bly_fail_memory(err);
    else if (!options)
        bly_fail(err, BELAY_INVALID_ARGUMENT,
                 "run_options is not a serialised RunOptions (%zu bytes)", size);
    return options;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* The larger of two pools; 0 is "not said", so that it does not undo a -1 (BUG-40). */
static int32_t merge_pool(int32_t a, int32_t b) {
    if (a == 0 || b == 0)
        return a + b;
    return a > b ? a : b;
}

/* Appends the bytes of one message to another of its type, which is how such are merged (BUG-40).
 */
static belay_code append(ProtobufCBinaryData *to, const ProtobufCBinaryData *from,
                         belay_error *err) {
    if (from->len == 0)
        return BELAY_OK;
    uint8_t *data = bly_realloc(to->data, to->len + from->len);
    if (!data)
        return bly_fail_memory(err);
    memcpy(data + to->len, from->data, from->len);
    to->data = data;
    to->len += from->len;
    return BELAY_OK;
}

static belay_code merge_debug(Bly__DebugOptions *into, Bly__DebugOptions *hooks, belay_error *err) {
    size_t count = into->n_debug_tensor_watch_opts + hooks->n_debug_tensor_watch_opts;
    into->reset_disk_byte_usage |= hooks->reset_disk_byte_usage;
    if (hooks->n_debug_tensor_watch_opts == 0)
        return BELAY_OK;
    ProtobufCBinaryData *all = bly_realloc(into->debug_tensor_watch_opts, count * sizeof *all);
    if (!all)
        return bly_fail_memory(err);
    memcpy(all + into->n_debug_tensor_watch_opts, hooks->debug_tensor_watch_opts,
           hooks->n_debug_tensor_watch_opts * sizeof *all);
    into->debug_tensor_watch_opts = all;
    into->n_debug_tensor_watch_opts = count;
    hooks->n_debug_tensor_watch_opts = 0; /* they are `into`'s now */
    return BELAY_OK;
}

belay_code bly_run_options_merge(Bly__RunOptions *into, Bly__RunOptions *hooks, belay_error *err) {
    into->trace_level = (int32_t)most(into->trace_level, hooks->trace_level);
    into->timeout_in_ms = most(into->timeout_in_ms, hooks->timeout_in_ms);
    into->inter_op_thread_pool =
        merge_pool(into->inter_op_thread_pool, hooks->inter_op_thread_pool);
    into->output_partition_graphs |= hooks->output_partition_graphs;
    into->report_tensor_allocations_upon_oom |= hooks->report_tensor_allocations_upon_oom;
    belay_code code = append(&into->experimental, &hooks->experimental, err);
    if (code != BELAY_OK || !hooks->debug_options)
        return code;
    if (into->debug_options)
        return merge_debug(into->debug_options, hooks->debug_options, err);
    into->debug_options = hooks->debug_options;
    into->debug_options->global_step = 0; /* a hook's is dropped (HK-RUN-24) */
    hooks->debug_options = NULL;
    return BELAY_OK;
}

int bly_run_options_in_caller(const Bly__RunOptions *options, int wanted) {
    if (options->inter_op_thread_pool != 0)
        return options->inter_op_thread_pool < 0;
    return wanted && options->timeout_in_ms <= 0; /* BUG-74 */
}

TF_Buffer *bly_run_options_pack(const bly_runtime *rt, const Bly__RunOptions *options,
                                int in_caller) {
    Bly__RunOptions sent = *options; /* shallow: only packed */
    if (sent.inter_op_thread_pool == 0 && in_caller)
        sent.inter_op_thread_pool = -1;
    size_t size = bly__run_options__get_packed_size(&sent);
    uint8_t *bytes = bly_malloc(size + 1);
    if (!bytes)
        return NULL;
    bly__run_options__pack(&sent, bytes);
    TF_Buffer *buffer = rt->NewBufferFromString(bytes, size);
    bly_free(bytes);
    return buffer;
}

/* ---- what a run tells ---- */

/* Serialised RunMetadata. */
struct belay_run_metadata {
    bly_buf bytes;
};

belay_run_metadata *belay_run_metadata_new(belay_error *err) {
    belay_run_metadata *metadata = bly_calloc(1, sizeof *metadata);
    if (!metadata)
        bly_fail_memory(err);
    return metadata;
}

void belay_run_metadata_free(belay_run_metadata *metadata) {
    if (!metadata)
        return;
    bly_buf_free(&metadata->bytes);
    bly_free(metadata);
}

const void *belay_run_metadata_data(const belay_run_metadata *metadata, size_t *out_size) {
    if (out_size)
        *out_size = metadata ? metadata->bytes.len : 0;
    return metadata ? bly_buf_text(&metadata->bytes) : "";
}

belay_code bly_run_metadata_fill(belay_run_metadata *metadata, const TF_Buffer *buffer,
                                 belay_error *err) {
    bly_buf_clear(&metadata->bytes);
    bly_buf_append(&metadata->bytes, buffer->data, buffer->length);
    return metadata->bytes.failed ? bly_fail_memory(err) : BELAY_OK;
}
