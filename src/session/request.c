#include "session/request.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "runtime/tensor.h"

#include <string.h>

int bly_same_output(TF_Output a, TF_Output b) {
    return a.oper == b.oper && a.index == b.index;
}

static belay_code describe_feed(bly_feed *feed, const belay_graph *graph, TF_Output output,
                                const char *name, belay_error *err) {
    const bly_runtime *rt = graph->rt;
    feed->name = bly_strdup(name);
    feed->dtype = (belay_dtype)rt->OperationOutputType(output);
    TF_Status *status = rt->NewStatus();
    feed->rank = rt->GraphGetTensorNumDims(graph->tf, output, status);
    belay_code code = bly_runtime_finish(rt, status, err);
    if (code != BELAY_OK || feed->rank <= 0)
        return feed->name ? code : bly_fail_memory(err);
    feed->dims = bly_calloc((size_t)feed->rank, sizeof *feed->dims);
    if (!feed->dims || !feed->name)
        return bly_fail_memory(err);
    status = rt->NewStatus();
    rt->GraphGetTensorShape(graph->tf, output, feed->dims, feed->rank, status);
    return bly_runtime_finish(rt, status, err);
}

/* A feed that the graph does not have is a wrong argument (ER-04), not a missing name (ER-03). */
static belay_code find_feed(const bly_request *request, const char *name, TF_Output *out,
                            belay_error *err) {
    belay_code code = bly_graph_find_raw_output(request->graph, name, out, err);
    if (code != BELAY_NOT_FOUND)
        return code;
    if (err)
        err->code = BELAY_INVALID_ARGUMENT;
    return BELAY_INVALID_ARGUMENT;
}

static belay_code resolve_feeds(bly_request *request, const char *const *names, belay_error *err) {
    for (size_t i = 0; i < request->feed_count; i++) {
        belay_code code = find_feed(request, names[i], &request->inputs[i], err);
        if (code != BELAY_OK)
            return code;
        for (size_t j = 0; j < i; j++)
            if (bly_same_output(request->inputs[i], request->inputs[j]))
                return bly_fail(err, BELAY_INVALID_ARGUMENT,
                                "%s and %s are the same tensor, fed twice", names[j], names[i]);
        code = describe_feed(&request->feeds[i], request->graph, request->inputs[i], names[i], err);
        if (code != BELAY_OK)
            return code;
    }
    return BELAY_OK;
}

static int32_t source_of(bly_request *request, TF_Output output) {
    for (size_t i = 0; i < request->feed_count; i++)
        if (bly_same_output(request->inputs[i], output))
            return -1 - (int32_t)i;
    for (size_t i = 0; i < request->output_count; i++)
        if (bly_same_output(request->outputs[i], output))
            return (int32_t)i;
    request->outputs[request->output_count] = output;
    return (int32_t)request->output_count++;
}

static belay_code resolve_fetches(bly_request *request, const char *const *names,
                                  belay_error *err) {
    for (size_t i = 0; i < request->fetch_count; i++) {
        TF_Output output;
        belay_code code = bly_graph_find_output(request->graph, names[i], &output, err);
        if (code != BELAY_OK)
            return code;
        request->source[i] = source_of(request, output);
    }
    return BELAY_OK;
}

static belay_code resolve_targets(bly_request *request, const char *const *names, size_t count,
                                  belay_error *err) {
    for (size_t i = 0; i < count; i++) {
        const TF_Operation *op = bly_graph_find_target(request->graph, names[i], err);
        if (!op)
            return belay_error_code(err) ? belay_error_code(err) : BELAY_NOT_FOUND;
        size_t same = 0;
        while (same < request->target_count && request->targets[same] != op)
            same++;
        if (same == request->target_count)
            request->targets[request->target_count++] = op;
    }
    return BELAY_OK;
}

belay_code bly_request_make(bly_request *request, const belay_graph *graph,
                            const char *const *feeds, const char *const *fetches,
                            const char *const *targets, belay_error *err) {
    size_t target_count = bly_count_names(targets);
    *request = (bly_request){.graph = graph,
                             .feed_count = bly_count_names(feeds),
                             .fetch_count = bly_count_names(fetches)};
    request->feeds = bly_calloc(request->feed_count, sizeof *request->feeds);
    request->inputs = bly_calloc(request->feed_count, sizeof *request->inputs);
    request->source = bly_calloc(request->fetch_count, sizeof *request->source);
    request->outputs = bly_calloc(request->fetch_count, sizeof *request->outputs);
    request->targets = bly_calloc(target_count, sizeof *request->targets);

    belay_code code;
    if (!request->feeds || !request->inputs || !request->source || !request->outputs ||
        !request->targets)
        code = bly_fail_memory(err);
    else if ((code = resolve_feeds(request, feeds, err)) == BELAY_OK &&
             (code = resolve_fetches(request, fetches, err)) == BELAY_OK)
        code = resolve_targets(request, targets, target_count, err);
    if (code != BELAY_OK)
        bly_request_clean_up(request);
    return code;
}

void bly_request_clean_up(bly_request *request) {
    for (size_t i = 0; request->feeds && i < request->feed_count; i++) {
        bly_free(request->feeds[i].name);
        bly_free(request->feeds[i].dims);
    }
    bly_free(request->feeds);
    bly_free(request->inputs);
    bly_free(request->source);
    bly_free(request->outputs);
    bly_free(request->targets);
    *request = (bly_request){0};
}

static void put_shape(bly_buf *text, int rank, const int64_t *dims) {
    if (rank < 0) {
        bly_buf_puts(text, "any shape");
        return;
    }
    bly_buf_putc(text, '[');
    for (int i = 0; i < rank; i++) {
        bly_buf_puts(text, i ? ", " : "");
        if (dims[i] < 0)
            bly_buf_putc(text, '?');
        else
            bly_buf_printf(text, "%lld", (long long)dims[i]);
    }
    bly_buf_putc(text, ']');
}

static belay_code wrong_input(const bly_feed *feed, const belay_tensor *tensor, belay_error *err) {
    int64_t dims[BELAY_RANK_MAX];
    uint32_t rank = belay_tensor_rank(tensor);
    bly_buf text = BLY_BUF_INIT;
    bly_buf_printf(&text, "%s takes %s of ", feed->name, belay_dtype_name(feed->dtype));
    put_shape(&text, feed->rank, feed->dims);
    for (uint32_t i = 0; i < rank && i < BELAY_RANK_MAX; i++)
        dims[i] = belay_tensor_dim(tensor, i);
    bly_buf_printf(&text, ", and was fed %s of ", belay_dtype_name(belay_tensor_dtype(tensor)));
    put_shape(&text, (int)rank, dims);
    if (belay_tensor_dtype(tensor) != feed->dtype % 100)
        bly_buf_puts(&text, " (belay_tensor_convert() makes the one of the other)");
    belay_code code = bly_fail(err, BELAY_INVALID_ARGUMENT, "%s", bly_buf_text(&text));
    bly_buf_free(&text);
    return code;
}

static int fits(const bly_feed *feed, const belay_tensor *tensor) {
    const bly_runtime *rt = tensor->rt;
    /* A reference placeholder takes the plain type. */
    if ((belay_dtype)rt->TensorType(tensor->tf) != feed->dtype % 100)
        return 0;
    if (feed->rank < 0)
        return 1;
    if (rt->NumDims(tensor->tf) != feed->rank)
        return 0;
    for (int i = 0; i < feed->rank; i++)
        if (feed->dims[i] >= 0 && rt->Dim(tensor->tf, i) != feed->dims[i])
            return 0;
    return 1;
}

belay_code bly_request_check_inputs(const bly_request *request, belay_tensor *const *inputs,
                                    belay_error *err) {
    for (size_t i = 0; i < request->feed_count; i++) {
        if (!inputs || !inputs[i])
            return bly_fail(err, BELAY_INVALID_ARGUMENT, "no tensor was given for %s",
                            request->feeds[i].name);
        if (!fits(&request->feeds[i], inputs[i]))
            return wrong_input(&request->feeds[i], inputs[i], err);
    }
    return BELAY_OK;
}

/* Puts `value` (given) into the caller's place: the wrapper that is there is used again. */
static belay_code put(const bly_runtime *rt, TF_Tensor *value, belay_tensor **place,
                      belay_error *err) {
    if (!*place) {
        *place = bly_tensor_wrap(rt, value, err);
        return *place ? BELAY_OK : BELAY_RESOURCE_EXHAUSTED;
    }
    if ((*place)->tf)
        rt->DeleteTensor((*place)->tf);
    (*place)->tf = value;
    return BELAY_OK;
}

belay_code bly_detach_values(const belay_graph *graph, TF_Tensor **values, size_t count,
                             belay_error *err) {
    const bly_runtime *rt = graph->rt;
    for (size_t i = 0; graph->has_reference_variables && i < count; i++) {
        TF_Tensor *copy = bly_tensor_copy(rt, values[i]);
        if (!copy)
            return bly_fail_memory(err);
        rt->DeleteTensor(values[i]);
        values[i] = copy;
    }
    return BELAY_OK;
}

/* A further reader of a value that was handed out already gets a copy of its own. */
static TF_Tensor *take_value(const bly_request *request, size_t fetch, TF_Tensor **values,
                             belay_tensor *const *inputs, belay_tensor **outputs) {
    const bly_runtime *rt = request->graph->rt;
    int32_t source = request->source[fetch];
    if (source < 0)
        return bly_tensor_copy(rt, inputs[-1 - source]->tf);
    if (values[source]) {
        TF_Tensor *value = values[source];
        values[source] = NULL;
        return value;
    }
    for (size_t i = 0; i < fetch; i++)
        if (request->source[i] == source)
            return bly_tensor_copy(rt, outputs[i]->tf);
    return NULL;
}

belay_code bly_request_deliver(const bly_request *request, belay_tensor *const *inputs,
                               TF_Tensor **values, belay_tensor **outputs, belay_error *err) {
    const bly_runtime *rt = request->graph->rt;
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && outputs && i < request->fetch_count; i++) {
        TF_Tensor *value = take_value(request, i, values, inputs, outputs);
        code = value ? put(rt, value, &outputs[i], err) : bly_fail_memory(err);
    }
    return code;
}
