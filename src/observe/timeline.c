#include "observe/timeline.h"

#include "base/error.h"
#include "base/mem.h"
#include "wire/step_stats.pb-c.h"
#include "wire/text.h"
#include "wire/unpack.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A tensor, from when it is made until nobody uses it any more. An op that runs twice makes it
 * twice: the second counts, in the place of the first. */
typedef struct tensor {
    char *name;
    size_t id;
    int64_t made, last_used;
    int64_t flow_start;
    size_t tensors_pid, device_pid, lane;
    const char *allocator;
    int64_t bytes;
} tensor;

typedef struct printer {
    bly_buf *out;
    int is_first;
    int flags;
    const Bly__StepStats *stats;
    size_t **lanes; /* of each node of each device */
    tensor *tensors;
    size_t tensor_count, tensor_capacity;
    size_t *slots; /* by hash of the name: number of a tensor + 1; 0: none */
    size_t slot_count;
    size_t flow_count;
    int failed; /* memory was out */
} printer;

/* "name" points into a label. */
typedef struct span {
    const char *at;
    size_t len;
} span;

static span span_of(const char *text) {
    return (span){text, strlen(text)};
}

/* ---- events ---- */

static void put_key(printer *p, const char *key) {
    bly_buf_printf(p->out, ",\"%s\":", key);
}

static void put_json_span(bly_buf *out, span text) {
    char *copy = bly_strndup(text.at, text.len);
    if (copy)
        bly_buf_put_json(out, copy);
    else
        out->failed = 1;
    bly_free(copy);
}

static void begin_event(printer *p) {
    bly_buf_puts(p->out, p->is_first ? "\n{" : ",\n{");
    p->is_first = 0;
}

static void put_head(printer *p, char phase, const char *category, span name, size_t pid,
                     size_t tid, int64_t timestamp) {
    begin_event(p);
    bly_buf_printf(p->out, "\"ph\":\"%c\",\"cat\":\"%s\",\"name\":", phase, category);
    put_json_span(p->out, name);
    bly_buf_printf(p->out, ",\"pid\":%zu,\"tid\":%zu,\"ts\":%" PRId64, pid, tid, timestamp);
}

static void put_process(printer *p, size_t pid, const char *name, const char *suffix) {
    bly_buf text = BLY_BUF_INIT;
    bly_buf_printf(&text, "%s%s", name, suffix);
    begin_event(p);
    bly_buf_printf(p->out,
                   "\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%zu,\"args\":{\"name\":", pid);
    bly_buf_put_json(p->out, bly_buf_text(&text));
    bly_buf_puts(p->out, "}}");
    p->failed |= text.failed;
    bly_buf_free(&text);
}

static void put_id(printer *p, size_t id) {
    bly_buf_printf(p->out, ",\"id\":%zu", id);
}

/* ---- what is computed first ---- */

/* Process 0 is the allocators'; each device has one for what it computes and one for tensors. */
static size_t device_pid(size_t device) {
    return 1 + 2 * device;
}

static void put_processes(printer *p) {
    put_process(p, 0, "Allocators", "");
    for (size_t i = 0; i < p->stats->n_dev_stats; i++) {
        put_process(p, device_pid(i), p->stats->dev_stats[i]->device, " Compute");
        put_process(p, device_pid(i) + 1, p->stats->dev_stats[i]->device, " Tensors");
    }
}

static int64_t end_of(const Bly__NodeExecStats *node) {
    return node->all_start_micros + node->all_end_rel_micros;
}

/* Activities of one device that overlap are drawn on different lanes. */
static size_t *assign_lanes(const Bly__DeviceStepStats *device) {
    size_t *lanes = bly_calloc(device->n_node_stats + 1, sizeof *lanes);
    int64_t *busy = bly_calloc(device->n_node_stats + 1, sizeof *busy); /* until when; lane 0: 0 */
    size_t count = 1;
    for (size_t i = 0; lanes && busy && i < device->n_node_stats; i++) {
        const Bly__NodeExecStats *node = device->node_stats[i];
        size_t lane = 0;
        while (lane < count && node->all_start_micros <= busy[lane])
            lane++;
        if (lane == count)
            count++;
        busy[lane] = end_of(node);
        lanes[i] = lane;
    }
    if (!busy) {
        bly_free(lanes);
        lanes = NULL;
    }
    bly_free(busy);
    return lanes;
}

/* ---- tensors by name ---- */

static size_t hash(span name) {
    uint64_t h = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (unsigned char)name.at[i]) * UINT64_C(1099511628211);
    return (size_t)h;
}

static size_t find_slot(const printer *p, span name) {
    size_t slot = hash(name) & (p->slot_count - 1);
    while (p->slots[slot]) {
        const char *there = p->tensors[p->slots[slot] - 1].name;
        if (strncmp(there, name.at, name.len) == 0 && there[name.len] == '\0')
            break;
        slot = (slot + 1) & (p->slot_count - 1);
    }
    return slot;
}

static tensor *find_tensor(const printer *p, span name) {
    size_t slot = find_slot(p, name);
    return p->slots[slot] ? &p->tensors[p->slots[slot] - 1] : NULL;
}

/* A table that is at most half full. */
static int make_slots(printer *p) {
    size_t outputs = 0;
    for (size_t i = 0; i < p->stats->n_dev_stats; i++)
        for (size_t k = 0; k < p->stats->dev_stats[i]->n_node_stats; k++)
            outputs += p->stats->dev_stats[i]->node_stats[k]->n_output;
    p->slot_count = 16;
    while (p->slot_count < outputs * 2)
        p->slot_count *= 2;
    p->slots = bly_calloc(p->slot_count, sizeof *p->slots);
    return p->slots != NULL;
}

/* NULL when memory is out. */
static tensor *add_tensor(printer *p, const char *node, size_t output) {
    bly_buf name = BLY_BUF_INIT;
    bly_buf_puts(&name, node);
    if (output)
        bly_buf_printf(&name, ":%zu", output);
    tensor *t = name.failed ? NULL : find_tensor(p, (span){bly_buf_text(&name), name.len});
    if (t) {
        t->id = p->tensor_count;
        bly_buf_free(&name);
        return t;
    }
    if (name.failed ||
        !bly_grow(&p->tensors, p->tensor_count, &p->tensor_capacity, sizeof *p->tensors)) {
        bly_buf_free(&name);
        p->failed = 1;
        return NULL;
    }
    size_t slot = find_slot(p, (span){bly_buf_text(&name), name.len});
    t = &p->tensors[p->tensor_count];
    *t = (tensor){.name = bly_buf_take(&name), .id = p->tensor_count};
    p->slots[slot] = ++p->tensor_count;
    return t;
}

static void put_description(printer *p, const Bly__TensorDescription *description) {
    bly_buf text = BLY_BUF_INIT;
    size_t kept = 0;
    if (description)
        bly_text_print(&description->base, &text);
    p->failed |= text.failed;
    for (size_t i = 0; !text.failed && i < text.len; i++)
        if (text.data[i] != '"')
            text.data[kept++] = text.data[i];
    put_json_span(p->out, (span){bly_buf_text(&text), kept});
    bly_buf_free(&text);
}

static void produce(printer *p, size_t device, size_t lane, const Bly__NodeExecStats *node,
                    size_t output) {
    const Bly__TensorDescription *description = node->output[output]->tensor_description;
    const Bly__AllocationDescription *allocation =
        description ? description->allocation_description : NULL;
    tensor *t = add_tensor(p, node->node_name, output);
    if (!t)
        return;
    t->made = node->all_start_micros;
    t->last_used = t->flow_start = end_of(node);
    t->device_pid = device_pid(device);
    t->tensors_pid = device_pid(device) + 1;
    t->lane = lane;
    t->allocator = allocation ? allocation->allocator_name : "";
    t->bytes = allocation ? allocation->requested_bytes : 0;
    if (!(p->flags & BLY_TIMELINE_MEMORY))
        return;
    put_head(p, 'N', "Tensor", span_of(t->name), t->tensors_pid, lane, t->made);
    put_id(p, t->id);
    bly_buf_puts(p->out, "}");
    put_head(p, 'O', "Tensor", span_of(t->name), t->tensors_pid, lane, t->last_used - 1);
    put_id(p, t->id);
    bly_buf_puts(p->out, ",\"args\":{\"snapshot\":{\"tensor_description\":");
    put_description(p, description);
    bly_buf_puts(p->out, "}}}");
}

/* ---- operations ---- */

typedef struct label {
    span op;
    span inputs; /* "a, b" */
} label;

static const char *find_last(span text, const char *what) {
    size_t len = strlen(what);
    for (size_t i = text.len; i-- > 0;)
        if (i + len <= text.len && memcmp(text.at + i, what, len) == 0)
            return text.at + i;
    return NULL;
}

/* "name = Op(input, input)". */
static label parse_label(const char *text) {
    label unknown = {span_of("unknown"), {"", 0}};
    const char *close = find_last(span_of(text), ")");
    const char *open = close ? find_last((span){text, (size_t)(close - text)}, "(") : NULL;
    const char *equals = open ? find_last((span){text, (size_t)(open - text)}, " = ") : NULL;
    if (!equals)
        return unknown;
    return (label){{equals + 3, (size_t)(open - equals - 3)},
                   {open + 1, (size_t)(close - open - 1)}};
}

/* What a GPU traced: "... @@name:Op#...", or the node's name itself. */
static label parse_kernel(const Bly__NodeExecStats *node, span *out_name) {
    const char *start = strstr(node->timeline_label, "@@");
    const char *end = strchr(node->timeline_label, '#');
    span whole = start && end && start + 2 < end ? (span){start + 2, (size_t)(end - start - 2)}
                                                 : span_of(node->node_name);
    const char *colon = memchr(whole.at, ':', whole.len);
    *out_name = colon ? (span){whole.at, (size_t)(colon - whole.at)} : whole;
    if (!colon)
        return (label){span_of("unknown"), {"", 0}};
    span op = {colon + 1, whole.len - (size_t)(colon + 1 - whole.at)};
    const char *next = memchr(op.at, ':', op.len);
    if (next)
        op.len = (size_t)(next - op.at);
    return (label){op, {"", 0}};
}

static int next_input(span *rest, span *out) {
    if (!rest->at || rest->len == 0)
        return 0;
    const char *comma = NULL;
    for (size_t i = 0; !comma && i + 1 < rest->len; i++)
        if (rest->at[i] == ',' && rest->at[i + 1] == ' ')
            comma = rest->at + i;
    *out = (span){rest->at, comma ? (size_t)(comma - rest->at) : rest->len};
    *rest = comma ? (span){comma + 2, rest->len - out->len - 2} : (span){NULL, 0};
    return 1;
}

static void put_op(printer *p, size_t device, size_t lane, const Bly__NodeExecStats *node,
                   span name, label parts) {
    span rest = parts.inputs, input;
    put_head(p, 'X', "Op", parts.op, device_pid(device), lane, node->all_start_micros);
    bly_buf_printf(p->out, ",\"dur\":%" PRId64 ",\"args\":{\"name\":", node->all_end_rel_micros);
    put_json_span(p->out, name);
    put_key(p, "op");
    put_json_span(p->out, parts.op);
    for (size_t i = 0; next_input(&rest, &input); i++) {
        bly_buf_printf(p->out, ",\"input%zu\":", i);
        put_json_span(p->out, input);
    }
    bly_buf_puts(p->out, "}}");
}

static void put_flow(printer *p, span name, const tensor *from, size_t device, size_t lane,
                     int64_t start) {
    /* An arrow along one lane only hides it. */
    if (from->device_pid == device_pid(device) && from->lane == lane)
        return;
    size_t id = p->flow_count++;
    put_head(p, 's', "DataFlow", name, from->device_pid, from->lane, from->flow_start);
    put_id(p, id);
    bly_buf_puts(p->out, "}");
    put_head(p, 't', "DataFlow", name, device_pid(device), lane, start);
    put_id(p, id);
    bly_buf_puts(p->out, "}");
}

static void use_inputs(printer *p, size_t device, size_t lane, const Bly__NodeExecStats *node,
                       label parts) {
    span rest = parts.inputs, input;
    while (next_input(&rest, &input)) {
        tensor *t = find_tensor(p, input);
        /* Where partitioning put a Send and a Receive between, it comes from the original node. */
        const char *suffix = t ? NULL : find_last(input, "/_");
        if (suffix && suffix > input.at) {
            input.len = (size_t)(suffix - input.at);
            t = find_tensor(p, input);
        }
        if (!t)
            continue;
        if (end_of(node) - 1 > t->last_used)
            t->last_used = end_of(node) - 1;
        if (p->flags & BLY_TIMELINE_DATAFLOW)
            put_flow(p, input, t, device, lane, node->all_start_micros);
    }
}

static void put_node(printer *p, size_t device, size_t lane, const Bly__NodeExecStats *node) {
    const char *where = p->stats->dev_stats[device]->device;
    span name = span_of(node->node_name);
    if (strstr(where, "/stream:") || strstr(where, "/memcpy")) {
        label kernel = parse_kernel(node, &name);
        put_op(p, device, lane, node, name, kernel);
    } else if (strcmp(node->node_name, "RecvTensor") == 0) {
        put_op(p, device, lane, node, name, (label){span_of("RecvTensor"), {"", 0}});
    } else {
        label parts = parse_label(node->timeline_label);
        put_op(p, device, lane, node, name, parts);
        use_inputs(p, device, lane, node, parts);
    }
}

/* ---- memory ---- */

typedef struct change {
    const char *allocator, *name;
    size_t order; /* of the allocator */
    int64_t time, bytes;
} change;

static int compare_changes(const void *a, const void *b) {
    const change *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Allocators in the order of their first tensor. There are a handful. */
static size_t order_of(const printer *p, const char *allocator) {
    size_t i = 0;
    while (strcmp(p->tensors[i].allocator, allocator) != 0)
        i++;
    return i;
}

static void put_memory(printer *p) {
    change *changes = bly_calloc(p->tensor_count * 2 + 1, sizeof *changes);
    size_t count = 0;
    int64_t total = 0;
    p->failed |= !changes;
    for (size_t i = 0; changes && i < p->tensor_count; i++) {
        const tensor *t = &p->tensors[i];
        put_head(p, 'D', "Tensor", span_of(t->name), t->tensors_pid, 0, t->last_used);
        put_id(p, t->id);
        bly_buf_puts(p->out, "}");
        size_t order = order_of(p, t->allocator);
        changes[count++] = (change){t->allocator, t->name, order, t->made, t->bytes};
        changes[count++] = (change){t->allocator, t->name, order, t->last_used, -t->bytes};
    }
    if (changes)
        qsort(changes, count, sizeof *changes, compare_changes);
    for (size_t i = 0; i < count; i++) {
        const change *c = &changes[i];
        total = i && changes[i - 1].order == c->order ? total + c->bytes : c->bytes;
        put_head(p, 'C', "Memory", span_of(c->allocator), 0, 0, c->time);
        bly_buf_puts(p->out, ",\"args\":{");
        bly_buf_put_json(p->out, c->allocator);
        bly_buf_printf(p->out, ":%" PRId64 "}}", total);
    }
    bly_free(changes);
}

/* ---- all of it ---- */

static int prepare(printer *p) {
    p->lanes = bly_calloc(p->stats->n_dev_stats + 1, sizeof *p->lanes);
    if (!p->lanes || !make_slots(p))
        return 0;
    for (size_t i = 0; i < p->stats->n_dev_stats; i++)
        if (!(p->lanes[i] = assign_lanes(p->stats->dev_stats[i])))
            return 0;
    return 1;
}

static void put_all(printer *p) {
    put_processes(p);
    for (size_t i = 0; i < p->stats->n_dev_stats; i++)
        for (size_t k = 0; k < p->stats->dev_stats[i]->n_node_stats; k++)
            for (size_t o = 0; o < p->stats->dev_stats[i]->node_stats[k]->n_output; o++)
                produce(p, i, p->lanes[i][k], p->stats->dev_stats[i]->node_stats[k], o);
    for (size_t i = 0; i < p->stats->n_dev_stats; i++)
        for (size_t k = 0; k < p->stats->dev_stats[i]->n_node_stats; k++)
            put_node(p, i, p->lanes[i][k], p->stats->dev_stats[i]->node_stats[k]);
    if (p->flags & BLY_TIMELINE_MEMORY)
        put_memory(p);
}

static void clean_up(printer *p) {
    for (size_t i = 0; p->lanes && i < p->stats->n_dev_stats; i++)
        bly_free(p->lanes[i]);
    for (size_t i = 0; i < p->tensor_count; i++)
        bly_free(p->tensors[i].name);
    bly_free(p->lanes);
    bly_free(p->tensors);
    bly_free(p->slots);
}

belay_code bly_timeline_print(const void *run_metadata, size_t size, int flags, bly_buf *out,
                              belay_error *err) {
    static const Bly__StepStats nothing = BLY__STEP_STATS__INIT;
    belay_code code = BELAY_OK;
    Bly__RunMetadata *metadata =
        bly_wire_unpack(&bly__run_metadata__descriptor, run_metadata, size, &code);
    if (!metadata)
        return bly_fail(err, code, "%s",
                        code == BELAY_DATA_LOSS ? "the run's metadata is not a RunMetadata"
                                                : "out of memory");
    printer p = {.out = out,
                 .is_first = 1,
                 .flags = flags,
                 .stats = metadata->step_stats ? metadata->step_stats : &nothing};
    bly_buf_puts(out, "{\"traceEvents\":[");
    p.failed |= !prepare(&p);
    if (!p.failed)
        put_all(&p);
    bly_buf_puts(out, "\n]}\n");
    clean_up(&p);
    bly_wire_free(metadata);
    return p.failed || out->failed ? bly_fail_memory(err) : BELAY_OK;
}
