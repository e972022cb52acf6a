/* What ops of the scripted runtime do when they run. Called with the lock held. */
#include "scripted_impl.h"

#include "base/error.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REF 100

typedef struct scripted_array array;

struct kernel_call {
    struct scripted_run *run;
    TF_Operation *op;
    array **outputs; /* as many as the op has */
};

/* An input's value; NULL where there is none. Belongs to the run. */
static array *in(struct kernel_call *k, int index) {
    return index < k->op->input_count ? scripted_input(k->run, k->op, index) : NULL;
}

static int lacks_inputs(struct kernel_call *k, int count) {
    for (int i = 0; i < count; i++) {
        if (in(k, i))
            continue;
        const TF_Output *from = i < k->op->input_count ? &k->op->inputs[i] : NULL;
        if (from && from->oper->outputs[from->index] > REF)
            scripted_fail_run(k->run, BELAY_FAILED_PRECONDITION,
                              "Attempting to use uninitialized value %s", from->oper->name);
        else
            scripted_fail_run(k->run, BELAY_INVALID_ARGUMENT, "input %d is missing", i);
        return 1;
    }
    return 0;
}

static int same(struct kernel_call *k, array *value) {
    k->outputs[0] = scripted_array_ref(value);
    return 1;
}

/* ---- constants and the like ---- */

static int do_nothing(struct kernel_call *k) {
    (void)k;
    return 1;
}

static int do_const(struct kernel_call *k) {
    const struct scripted_attr *value = scripted_attr(k->op, "value");
    return value && value->tensor ? same(k, value->tensor)
                                  : scripted_fail_run(k->run, BELAY_INVALID_ARGUMENT, "no value");
}

static int do_placeholder(struct kernel_call *k) {
    return scripted_fail_run(k->run, BELAY_INVALID_ARGUMENT,
                             "You must feed a value for placeholder tensor '%s' with dtype %s",
                             k->op->name, belay_dtype_name(k->op->outputs[0]));
}

/* A resource's "value" is its op's name, so that an identity of it leads there too. */
static int do_handle(struct kernel_call *k) {
    const struct scripted_attr *shared = scripted_attr(k->op, "shared_name");
    const char *name = shared && shared->text_len ? shared->text : k->op->name;
    k->outputs[0] = scripted_array_string(name, strlen(name));
    return 1;
}

static int do_identity(struct kernel_call *k) {
    return !lacks_inputs(k, 1) && same(k, in(k, 0));
}

/* ---- variables ---- */

/* The op that a reference starts at: Assign and Identity pass it on. */
static const TF_Operation *variable_op(const TF_Operation *op) {
    while (op->input_count > 0 && strcmp(op->type, "VariableV2") != 0 &&
           strcmp(op->type, "Variable") != 0)
        op = op->inputs[0].oper;
    return op;
}

static struct scripted_variable *variable(struct kernel_call *k) {
    const TF_Operation *from = k->op->input_count > 0 ? k->op->inputs[0].oper : k->op;
    size_t len;
    if (k->op->input_count > 0 &&
        k->op->inputs[0].oper->outputs[k->op->inputs[0].index] == TF_RESOURCE) {
        array *handle = in(k, 0);
        return handle ? scripted_variable_of(k->run->session->world,
                                             scripted_array_text(handle, 0, &len))
                      : NULL;
    }
    return scripted_variable_of(k->run->session->world, variable_op(from)->name);
}

/* A variable without a value gives none: what reads it fails, what asks whether it has one does
 * not. */
static int do_reference(struct kernel_call *k) {
    struct scripted_variable *v = scripted_variable_of(k->run->session->world, k->op->name);
    if (v->value)
        k->outputs[0] = scripted_array_ref(v->value);
    return 1;
}

static int do_read(struct kernel_call *k) {
    struct scripted_variable *v = variable(k);
    if (v && v->value)
        return same(k, v->value);
    return scripted_fail_run(
        k->run, BELAY_FAILED_PRECONDITION,
        "Could not find variable %s. This could mean that the variable has been deleted. In TF1, "
        "it can also mean the variable is uninitialized.",
        v ? v->name : "?");
}

static void store(struct scripted_variable *v, array *value) {
    scripted_array_unref(v->value);
    v->value = value;
}

/* A resource variable takes over the buffer, a reference variable copies into its own. */
static int do_assign(struct kernel_call *k) {
    struct scripted_variable *v;
    if (!(v = variable(k)) || !in(k, 1))
        return scripted_fail_run(k->run, BELAY_INVALID_ARGUMENT, "input 1 is missing");
    int is_reference = k->op->output_count > 0;
    array *value = in(k, 1);
    if (!is_reference) {
        store(v, scripted_array_ref(value));
    } else if (v->value && v->value != value && v->value->buffer->len == value->buffer->len &&
               value->dtype != TF_STRING) {
        memcpy(v->value->buffer->data, value->buffer->data, value->buffer->len);
    } else if (v->value != value) {
        store(v, scripted_array_copy(value));
    }
    return is_reference ? same(k, v->value) : 1;
}

static int update(struct kernel_call *k, double sign) {
    struct scripted_variable *v = variable(k);
    if (!v || !v->value)
        return k->op->output_count > 0 ? !lacks_inputs(k, 1) : do_read(k);
    array *delta = in(k, 1);
    if (!delta)
        return scripted_fail_run(k->run, BELAY_INVALID_ARGUMENT, "input 1 is missing");
    /* A reference variable changes where it is, under the eyes of whoever fetched it (BUG-73). */
    if (k->op->output_count == 0)
        store(v, scripted_array_copy(v->value));
    int64_t count = scripted_array_count(delta);
    for (int64_t i = 0; i < scripted_array_count(v->value); i++)
        scripted_array_set_number(v->value, i,
                                  scripted_array_number(v->value, i) +
                                      sign * scripted_array_number(delta, count > 1 ? i : 0));
    return k->op->output_count == 0 || same(k, v->value);
}

static int do_add_to(struct kernel_call *k) {
    return update(k, 1);
}

static int do_sub_from(struct kernel_call *k) {
    return update(k, -1);
}

static int do_is_initialized(struct kernel_call *k) {
    struct scripted_variable *v = variable(k);
    k->outputs[0] = scripted_array_scalar(TF_BOOL, v && v->value);
    return 1;
}

/* ---- arrays ---- */

static void copy_element(array *to, int64_t at, const array *from, int64_t index) {
    size_t len;
    if (from->dtype == TF_STRING) {
        const char *text = scripted_array_text(from, index, &len);
        scripted_array_set_text(to, at, text, len);
    } else {
        scripted_array_set_number(to, at, scripted_array_number(from, index));
    }
}

/* Joins the inputs from `first` on, along a first dimension. */
static int join(struct kernel_call *k, int inputs) {
    int64_t total = 0, at = 0;
    if (inputs < 1 || lacks_inputs(k, inputs))
        return k->run->code == BELAY_OK
                   ? scripted_fail_run(k->run, BELAY_INVALID_ARGUMENT, "no inputs")
                   : 0;
    for (int i = 0; i < inputs; i++)
        total += scripted_array_count(in(k, i));
    k->outputs[0] = scripted_array_new(in(k, 0)->dtype, &total, 1);
    for (int i = 0; i < inputs; i++)
        for (int64_t n = 0; n < scripted_array_count(in(k, i)); n++)
            copy_element(k->outputs[0], at++, in(k, i), n);
    return 1;
}

static int do_pack(struct kernel_call *k) {
    return join(k, k->op->input_count);
}

static int do_concat(struct kernel_call *k) { /* the last input is the axis, which is 0 */
    return join(k, k->op->input_count - 1);
}

static int do_not(struct kernel_call *k) {
    if (lacks_inputs(k, 1))
        return 0;
    k->outputs[0] = scripted_array_copy(in(k, 0));
    for (int64_t i = 0; i < scripted_array_count(in(k, 0)); i++)
        scripted_array_set_number(k->outputs[0], i, scripted_array_number(in(k, 0), i) == 0);
    return 1;
}

static int do_where(struct kernel_call *k) {
    if (lacks_inputs(k, 1))
        return 0;
    const array *mask = in(k, 0);
    int64_t dims[2] = {0, 1}, at = 0;
    for (int64_t i = 0; i < scripted_array_count(mask); i++)
        dims[0] += scripted_array_number(mask, i) != 0;
    k->outputs[0] = scripted_array_new(TF_INT64, dims, 2);
    for (int64_t i = 0; i < scripted_array_count(mask); i++)
        if (scripted_array_number(mask, i) != 0)
            scripted_array_set_number(k->outputs[0], at++, (double)i);
    return 1;
}

static array *with_shape(const array *a, const int64_t *dims, int rank) {
    array *copy = scripted_array_copy(a);
    array *shaped = scripted_array_over(copy->buffer, a->dtype, dims, rank);
    free(copy); /* its buffer went over */
    return shaped;
}

static int do_squeeze(struct kernel_call *k) {
    int64_t dims[8];
    int rank = 0;
    if (lacks_inputs(k, 1))
        return 0;
    for (int i = 0; i < in(k, 0)->rank && rank < 8; i++)
        if (in(k, 0)->dims[i] != 1 || (i == 0 && in(k, 0)->rank > 1))
            dims[rank++] = in(k, 0)->dims[i];
    k->outputs[0] = with_shape(in(k, 0), dims, rank);
    return 1;
}

static int do_expand(struct kernel_call *k) { /* at the front */
    int64_t dims[8] = {1};
    if (lacks_inputs(k, 1))
        return 0;
    for (int i = 0; i < in(k, 0)->rank && i < 7; i++)
        dims[i + 1] = in(k, 0)->dims[i];
    k->outputs[0] = with_shape(in(k, 0), dims, in(k, 0)->rank + 1);
    return 1;
}

static int do_fill(struct kernel_call *k) {
    int64_t dims[8];
    if (lacks_inputs(k, 2))
        return 0;
    int rank = (int)scripted_array_count(in(k, 0));
    for (int i = 0; i < rank && i < 8; i++)
        dims[i] = (int64_t)scripted_array_number(in(k, 0), i);
    k->outputs[0] = scripted_array_new(in(k, 1)->dtype, dims, rank);
    for (int64_t i = 0; i < scripted_array_count(k->outputs[0]); i++)
        scripted_array_set_number(k->outputs[0], i, scripted_array_number(in(k, 1), 0));
    return 1;
}

static int do_reshape(struct kernel_call *k) {
    int64_t dims[8], known = 1;
    int rank, open = -1;
    if (lacks_inputs(k, 2))
        return 0;
    rank = (int)scripted_array_count(in(k, 1));
    for (int i = 0; i < rank && i < 8; i++) {
        dims[i] = (int64_t)scripted_array_number(in(k, 1), i);
        if (dims[i] < 0)
            open = i;
        else
            known *= dims[i];
    }
    if (open >= 0)
        dims[open] = known ? scripted_array_count(in(k, 0)) / known : 0;
    k->outputs[0] = with_shape(in(k, 0), dims, rank);
    return 1;
}

static int do_gather(struct kernel_call *k) { /* along the first dimension, of vectors */
    if (lacks_inputs(k, 2))
        return 0;
    int64_t count = scripted_array_count(in(k, 1));
    k->outputs[0] = scripted_array_new(in(k, 0)->dtype, &count, 1);
    for (int64_t i = 0; i < count; i++)
        copy_element(k->outputs[0], i, in(k, 0), (int64_t)scripted_array_number(in(k, 1), i));
    return 1;
}

static int do_shape(struct kernel_call *k) {
    if (lacks_inputs(k, 1))
        return 0;
    int64_t rank = in(k, 0)->rank;
    k->outputs[0] = scripted_array_new((TF_DataType)k->op->outputs[0], &rank, 1);
    for (int64_t i = 0; i < rank; i++)
        scripted_array_set_number(k->outputs[0], i, (double)in(k, 0)->dims[i]);
    return 1;
}

static int do_size(struct kernel_call *k) {
    if (lacks_inputs(k, 1))
        return 0;
    k->outputs[0] = scripted_array_scalar((TF_DataType)k->op->outputs[0],
                                          (double)scripted_array_count(in(k, 0)));
    return 1;
}

static double combine(char how, double a, double b) {
    return how == '+' ? a + b : how == '-' ? a - b : how == '*' ? a * b : (a != 0 && b != 0);
}

static int arithmetic(struct kernel_call *k, char how) {
    if (k->op->input_count < 1 || lacks_inputs(k, k->op->input_count))
        return 0;
    array *sum = scripted_array_copy(in(k, 0));
    for (int i = 1; i < k->op->input_count; i++) {
        int scalar = scripted_array_count(in(k, i)) == 1;
        for (int64_t n = 0; n < scripted_array_count(sum); n++)
            scripted_array_set_number(sum, n,
                                      combine(how, scripted_array_number(sum, n),
                                              scripted_array_number(in(k, i), scalar ? 0 : n)));
    }
    k->outputs[0] = sum;
    return 1;
}

static int do_add(struct kernel_call *k) {
    return arithmetic(k, '+');
}

static int do_sub(struct kernel_call *k) {
    return arithmetic(k, '-');
}

static int do_mul(struct kernel_call *k) {
    return arithmetic(k, '*');
}

static int do_and(struct kernel_call *k) {
    return arithmetic(k, '&');
}

static int do_cast(struct kernel_call *k) {
    if (lacks_inputs(k, 1))
        return 0;
    k->outputs[0] =
        scripted_array_new((TF_DataType)k->op->outputs[0], in(k, 0)->dims, in(k, 0)->rank);
    for (int64_t i = 0; i < scripted_array_count(in(k, 0)); i++)
        scripted_array_set_number(k->outputs[0], i, scripted_array_number(in(k, 0), i));
    return 1;
}

/* ---- strings and summaries ---- */

static int do_string_join(struct kernel_call *k) {
    struct scripted_bytes all = {NULL, 0, 0};
    const struct scripted_attr *separator = scripted_attr(k->op, "separator");
    if (lacks_inputs(k, k->op->input_count))
        return 0;
    scripted_put(&all, "", 0);
    for (int i = 0; i < k->op->input_count; i++) {
        size_t len;
        const char *text = scripted_array_text(in(k, i), 0, &len);
        if (i > 0 && separator)
            scripted_put(&all, separator->text, separator->text_len);
        scripted_put(&all, text, len);
    }
    k->outputs[0] = scripted_array_string(all.data, all.len);
    free(all.data);
    return 1;
}

static int do_sharded_filename(struct kernel_call *k) {
    char text[4200];
    size_t len;
    if (lacks_inputs(k, 3))
        return 0;
    const char *base = scripted_array_text(in(k, 0), 0, &len);
    snprintf(text, sizeof text, "%.*s-%05d-of-%05d", (int)len, base,
             (int)scripted_array_number(in(k, 1), 0), (int)scripted_array_number(in(k, 2), 0));
    k->outputs[0] = scripted_array_string(text, strlen(text));
    return 1;
}

static int do_scalar_summary(struct kernel_call *k) {
    struct scripted_bytes value = {NULL, 0, 0}, summary = {NULL, 0, 0};
    size_t len;
    if (lacks_inputs(k, 2))
        return 0;
    const char *tag = scripted_array_text(in(k, 0), 0, &len);
    float number = (float)scripted_array_number(in(k, 1), 0);
    scripted_put_data(&value, 1, tag, len);
    scripted_put_varint(&value, 2 << 3 | 5);
    scripted_put(&value, &number, sizeof number);
    scripted_put_message(&summary, 1, &value);
    k->outputs[0] = scripted_array_string(summary.data, summary.len);
    free(summary.data);
    return 1;
}

/* ---- savers ---- */

/* A string scalar as a C string; the caller frees it. */
static char *text_of(const array *a, int64_t index) {
    size_t len;
    const char *text = scripted_array_text(a, index, &len);
    return scripted_strndup(text, len);
}

static int fail_as(struct kernel_call *k, const belay_error *error) {
    return scripted_fail_run(k->run, error->code, "%s", error->message);
}

static int has_slices(const array *slices) {
    for (int64_t i = 0; i < scripted_array_count(slices); i++) {
        size_t len;
        scripted_array_text(slices, i, &len);
        if (len > 0)
            return 1;
    }
    return 0;
}

static int do_save(struct kernel_call *k) {
    BLY_LOCAL_ERROR(error);
    if (lacks_inputs(k, k->op->input_count))
        return 0;
    if (has_slices(in(k, 2)))
        return scripted_fail_run(k->run, BELAY_UNIMPLEMENTED, "slices");
    size_t count = (size_t)scripted_array_count(in(k, 1));
    struct scripted_saved *all = scripted_zalloc(count * sizeof *all);
    for (size_t i = 0; i < count; i++)
        all[i] = (struct scripted_saved){text_of(in(k, 1), (int64_t)i), in(k, 3 + (int)i)};
    char *prefix = text_of(in(k, 0), 0);
    belay_code code = scripted_bundle_write(prefix, all, count, &error);
    for (size_t i = 0; i < count; i++)
        free((void *)(uintptr_t)all[i].name);
    free(all);
    free(prefix);
    return code == BELAY_OK || fail_as(k, &error);
}

static int do_restore(struct kernel_call *k) {
    BLY_LOCAL_ERROR(error);
    if (lacks_inputs(k, 3))
        return 0;
    if (has_slices(in(k, 2)))
        return scripted_fail_run(k->run, BELAY_UNIMPLEMENTED, "slices");
    char *prefix = text_of(in(k, 0), 0);
    for (int i = 0; error.code == BELAY_OK && i < k->op->output_count; i++) {
        char *name = text_of(in(k, 1), i);
        k->outputs[i] = scripted_bundle_read(prefix, name, &error);
        if (k->outputs[i] && (int)k->outputs[i]->dtype != k->op->outputs[i])
            bly_fail(&error, BELAY_INVALID_ARGUMENT,
                     "tensor_name = %s; expected dtype %s does not equal original dtype %s", name,
                     belay_dtype_name(k->op->outputs[i]),
                     belay_dtype_name((belay_dtype)k->outputs[i]->dtype));
        free(name);
    }
    free(prefix);
    return error.code == BELAY_OK || fail_as(k, &error);
}

static int do_merge_checkpoints(struct kernel_call *k) {
    BLY_LOCAL_ERROR(error);
    if (lacks_inputs(k, 2))
        return 0;
    size_t count = (size_t)scripted_array_count(in(k, 0));
    char **prefixes = scripted_zalloc(count * sizeof *prefixes);
    for (size_t i = 0; i < count; i++)
        prefixes[i] = text_of(in(k, 0), (int64_t)i);
    char *destination = text_of(in(k, 1), 0);
    scripted_bundle_merge((const char *const *)prefixes, count, destination,
                          scripted_attr_int(k->op, "delete_old_dirs", 1) != 0, &error);
    for (size_t i = 0; i < count; i++)
        free(prefixes[i]);
    free(prefixes);
    free(destination);
    return error.code == BELAY_OK || fail_as(k, &error);
}

/* ---- queues ---- */

static struct scripted_queue *queue_of(struct kernel_call *k) {
    const TF_Operation *op = k->op;
    while (op->input_count > 0)
        op = op->inputs[0].oper;
    struct scripted_world *world = k->run->session->world;
    struct scripted_queue *q = world->queues;
    while (q && strcmp(q->name, op->name) != 0)
        q = q->next;
    if (!q) {
        int64_t capacity = scripted_attr_int(op, "capacity", -1);
        q = scripted_zalloc(sizeof *q);
        q->name = scripted_strdup(op->name);
        q->capacity = capacity > 0 ? (size_t)capacity : SIZE_MAX;
        q->next = world->queues;
        world->queues = q;
    }
    return q;
}

static int has_room(void *arg) {
    const struct scripted_queue *q = arg;
    return q->count < q->capacity || q->cancelled;
}

static int has_element(void *arg) {
    const struct scripted_queue *q = arg;
    return q->count > 0 || q->closed;
}

static int do_enqueue(struct kernel_call *k) {
    struct scripted_queue *q = queue_of(k);
    size_t width = (size_t)k->op->input_count - 1;
    if (lacks_inputs(k, k->op->input_count))
        return 0;
    if (q->closed)
        return scripted_fail_run(k->run, BELAY_CANCELLED, "Queue '%s' is closed.", q->name);
    if (!scripted_block_locked(k->run, has_room, q, INT64_MAX))
        return 0;
    if (q->cancelled)
        return scripted_fail_run(k->run, BELAY_CANCELLED, "Enqueue operation was cancelled");
    q->width = width;
    q->elements = scripted_realloc(q->elements, ((q->count + 1) * width + 1) * sizeof(array *));
    for (size_t i = 0; i < width; i++)
        q->elements[q->count * width + i] = scripted_array_copy(in(k, (int)i + 1));
    q->count++;
    scripted_changed_locked();
    return 1;
}

/* Each element on its own; of queues that are full nobody puts several in at once. */
static int do_enqueue_many(struct kernel_call *k) {
    struct scripted_queue *q = queue_of(k);
    if (lacks_inputs(k, 2))
        return 0;
    size_t count = (size_t)scripted_array_count(in(k, 1));
    if (q->closed || q->count + count > q->capacity)
        return scripted_fail_run(k->run, BELAY_CANCELLED, "Queue '%s' is closed or full.", q->name);
    q->width = 1;
    q->elements = scripted_realloc(q->elements, (q->count + count + 1) * sizeof(array *));
    for (size_t i = 0; i < count; i++)
        q->elements[q->count++] =
            scripted_array_scalar(in(k, 1)->dtype, scripted_array_number(in(k, 1), (int64_t)i));
    scripted_changed_locked();
    return 1;
}

static int do_dequeue(struct kernel_call *k) {
    struct scripted_queue *q = queue_of(k);
    if (!scripted_block_locked(k->run, has_element, q, INT64_MAX))
        return 0;
    if (q->count == 0)
        return scripted_fail_run(k->run, BELAY_OUT_OF_RANGE,
                                 "FIFOQueue '%s' is closed and has insufficient elements "
                                 "(requested 1, current size 0)",
                                 q->name);
    for (size_t i = 0; i < q->width; i++) {
        if ((int)i < k->op->output_count)
            k->outputs[i] = q->elements[i];
        else
            scripted_array_unref(q->elements[i]);
    }
    q->count--;
    memmove(q->elements, q->elements + q->width, q->count * q->width * sizeof(array *));
    scripted_changed_locked();
    return 1;
}

static int do_close_queue(struct kernel_call *k) {
    struct scripted_queue *q = queue_of(k);
    q->closed = 1;
    q->cancelled |= scripted_attr_int(k->op, "cancel_pending_enqueues", 0) != 0;
    scripted_changed_locked();
    return 1;
}

static int do_queue_size(struct kernel_call *k) {
    k->outputs[0] = scripted_array_scalar(TF_INT32, (double)queue_of(k)->count);
    return 1;
}

/* ---- the table ---- */

static const struct {
    const char *type;
    int (*run)(struct kernel_call *k);
} kernels[] = {
    {"Const", do_const},
    {"Placeholder", do_placeholder},
    {"PlaceholderWithDefault", do_identity},
    {"NoOp", do_nothing},
    {"Identity", do_identity},
    {"StopGradient", do_identity},
    {"VarHandleOp", do_handle},
    {"ReadVariableOp", do_read},
    {"AssignVariableOp", do_assign},
    {"AssignAddVariableOp", do_add_to},
    {"AssignSubVariableOp", do_sub_from},
    {"VarIsInitializedOp", do_is_initialized},
    {"VariableV2", do_reference},
    {"Variable", do_reference},
    {"Assign", do_assign},
    {"AssignAdd", do_add_to},
    {"AssignSub", do_sub_from},
    {"IsVariableInitialized", do_is_initialized},
    {"Pack", do_pack},
    {"ConcatV2", do_concat},
    {"LogicalNot", do_not},
    {"LogicalAnd", do_and},
    {"Where", do_where},
    {"Squeeze", do_squeeze},
    {"ExpandDims", do_expand},
    {"Reshape", do_reshape},
    {"Fill", do_fill},
    {"Gather", do_gather},
    {"GatherV2", do_gather},
    {"Shape", do_shape},
    {"Size", do_size},
    {"Cast", do_cast},
    {"Add", do_add},
    {"AddV2", do_add},
    {"AddN", do_add},
    {"Sub", do_sub},
    {"Mul", do_mul},
    {"StringJoin", do_string_join},
    {"MergeSummary", do_string_join}, /* merged messages are their bytes one after the other */
    {"ScalarSummary", do_scalar_summary},
    {"ShardedFilename", do_sharded_filename},
    {"SaveV2", do_save},
    {"RestoreV2", do_restore},
    {"MergeV2Checkpoints", do_merge_checkpoints},
    {"FIFOQueue", do_handle},
    {"FIFOQueueV2", do_handle},
    {"QueueEnqueue", do_enqueue},
    {"QueueEnqueueV2", do_enqueue},
    {"QueueEnqueueManyV2", do_enqueue_many},
    {"QueueDequeue", do_dequeue},
    {"QueueDequeueV2", do_dequeue},
    {"QueueClose", do_close_queue},
    {"QueueCloseV2", do_close_queue},
    {"QueueSize", do_queue_size},
    {"QueueSizeV2", do_queue_size},
    {"HashTable", do_handle},
    {"HashTableV2", do_handle},
    {"InitializeTableV2", do_nothing},
    {"LookupTableImportV2", do_nothing},
};

int scripted_kernel_locked(struct scripted_run *run, TF_Operation *op, array **outputs) {
    struct kernel_call k = {run, op, outputs};
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++)
        if (strcmp(kernels[i].type, op->type) == 0)
            return kernels[i].run(&k);
    return scripted_fail_run(run, BELAY_UNIMPLEMENTED,
                             "the scripted runtime has no kernel for %s: give it a value",
                             op->type);
}
