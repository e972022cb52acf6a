/* What the parts of the scripted runtime share. Its own memory is malloc()ed, not bly_malloc()ed: a
 * test that fails belay's allocations means belay's. */
#ifndef BLY_TESTS_SCRIPTED_IMPL_H
#define BLY_TESTS_SCRIPTED_IMPL_H

#include "scripted_runtime.h"

#include "base/thread.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* malloc, realloc and strdup that never fail. */
void *scripted_zalloc(size_t size);
void *scripted_realloc(void *old, size_t size);
char *scripted_strdup(const char *text);
char *scripted_strndup(const char *text, size_t len);

/* ---- tensors ---- */

/* Bytes that tensors share. */
struct scripted_buffer {
    atomic_int references;
    void *data;
    size_t len;
    size_t strings; /* how many strings in it are the runtime's to free */
    void (*release)(void *data, size_t len, void *arg);
    void *arg;
};

/* A value within the runtime; a TF_Tensor is a handle to one. */
struct scripted_array {
    atomic_int references;
    struct scripted_buffer *buffer;
    TF_DataType dtype;
    int rank;
    int64_t dims[]; /* rank of them */
};

struct TF_Tensor {
    struct scripted_array *array;
};

struct scripted_array *scripted_array_new(TF_DataType dtype, const int64_t *dims, int rank);
struct scripted_array *scripted_array_scalar(TF_DataType dtype, double value);
struct scripted_array *scripted_array_string(const char *data, size_t len);
struct scripted_array *scripted_array_over(struct scripted_buffer *buffer, TF_DataType dtype,
                                           const int64_t *dims, int rank);
struct scripted_array *scripted_array_copy(const struct scripted_array *a);
struct scripted_array *scripted_array_ref(struct scripted_array *a);
void scripted_array_unref(struct scripted_array *a); /* NULL is fine */
int64_t scripted_array_count(const struct scripted_array *a);
double scripted_array_number(const struct scripted_array *a, int64_t index);
void scripted_array_set_number(struct scripted_array *a, int64_t index, double value);
const char *scripted_array_text(const struct scripted_array *a, int64_t index, size_t *out_len);
void scripted_array_set_text(struct scripted_array *a, int64_t index, const char *data, size_t len);
TF_Tensor *scripted_tensor_of(struct scripted_array *a); /* takes the reference */

/* ---- graphs ---- */

struct scripted_attr {
    char *name;
    TF_AttrType type;
    int is_list;
    char *text; /* strings: text_len bytes; and a list of strings is not supported */
    size_t text_len;
    int64_t integer; /* int, bool, type */
    double number;
    int64_t *integers; /* a list of ints or types, a shape's dims */
    int count;         /* of them; a shape of unknown rank: -1 */
    struct scripted_array *tensor;
};

struct TF_Operation {
    TF_Graph *graph;
    size_t index;
    char *name, *type, *device;
    TF_Output *inputs;
    int input_count;
    TF_Operation **controls;
    int control_count;
    struct scripted_attr *attrs;
    int attr_count;
    int *outputs; /* their types, references counted (+100) */
    int output_count;
};

struct TF_Graph {
    TF_Operation **ops;
    size_t count;
    int sessions; /* that still use it */
    int deleted;
};

const struct scripted_attr *scripted_attr(const TF_Operation *op, const char *name);
int64_t scripted_attr_int(const TF_Operation *op, const char *name, int64_t otherwise);
struct scripted_attr *scripted_attr_add(TF_Operation *op, const char *name, TF_AttrType type);
TF_Operation *scripted_op_new(TF_Graph *graph, const char *type, const char *name);
void scripted_op_free(TF_Operation *op);
void scripted_op_add_input(TF_Operation *op, TF_Output input);
void scripted_op_add_control(TF_Operation *op, TF_Operation *control);
void scripted_op_infer(TF_Operation *op); /* sets its outputs from type, attributes and inputs */
TF_Operation *scripted_find_op(const TF_Graph *graph, const char *name);
void scripted_graph_unref_locked(TF_Graph *graph);

/* ---- sessions ---- */

struct scripted_variable {
    struct scripted_variable *next;
    char *name;
    struct scripted_array *value; /* NULL: not initialised */
};

struct scripted_queue {
    struct scripted_queue *next;
    char *name;
    struct scripted_array **elements; /* `width` arrays each */
    size_t count, capacity, width;
    int closed, cancelled;
};

/* Where variables live: this process for one session, or a server. */
struct scripted_world {
    struct scripted_world *next; /* servers only */
    char *target;
    int incarnation;
    int state;
    int references; /* of sessions; a server has one more */
    struct scripted_variable *variables;
    struct scripted_queue *queues;
};

struct TF_Session {
    struct TF_Session *next;
    TF_Graph *graph;
    struct scripted_world *world;
    int incarnation;
    int closed;
    int in_flight;
    int64_t timeout_ms;
};

/* One TF_SessionRun, or another call that rules can hold up. */
struct scripted_run {
    TF_Session *session; /* NULL: a call without one */
    int64_t deadline_us;
    belay_code code;
    char message[1024];
    const TF_Output *feeds;
    struct scripted_array **fed;
    int feed_count;
    char *state;                      /* per op: 0 not yet, 1 on the way, 2 done */
    struct scripted_array ***outputs; /* per op */
};

extern bly_mutex scripted_lock; /* guards everything but tensors, statuses and buffers */

/* All with the lock held. 0: failed, and run->code says why. */
int scripted_fail_run(struct scripted_run *run, belay_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Waits until ready(arg) (NULL: never), the time `until_us`, close, timeout or release. */
int scripted_block_locked(struct scripted_run *run, int (*ready)(void *arg), void *arg,
                          int64_t until_us);
void scripted_changed_locked(void);
/* Counts a run of `what` and does what the script says. *out_value (may be NULL): a number that a
 * rule gives. */
int scripted_rules_locked(struct scripted_run *run, const char *what, int *out_has_value,
                          double *out_value);
int scripted_kernel_locked(struct scripted_run *run, TF_Operation *op,
                           struct scripted_array **outputs);
int scripted_evaluate_locked(struct scripted_run *run, TF_Operation *op);
struct scripted_array *scripted_input(struct scripted_run *run, const TF_Operation *op, int index);
struct scripted_world *scripted_world_new(const char *target);
void scripted_world_clear(struct scripted_world *world);
struct scripted_variable *scripted_variable_of(struct scripted_world *world, const char *name);

/* ---- bundles ---- */

/* A tensor to be written. */
struct scripted_saved {
    const char *name;
    struct scripted_array *value;
};
/* Writes PREFIX.index and PREFIX.data-00000-of-00001, sorting `tensors`. */
belay_code scripted_bundle_write(const char *prefix, struct scripted_saved *tensors, size_t count,
                                 belay_error *err);
/* Reads one tensor of a bundle; NULL on error. */
struct scripted_array *scripted_bundle_read(const char *prefix, const char *name, belay_error *err);
/* Puts bundles together into one; deletes the inputs where asked. */
belay_code scripted_bundle_merge(const char *const *prefixes, size_t count, const char *destination,
                                 int delete_inputs, belay_error *err);

/* ---- protobuf ---- */

struct scripted_bytes {
    char *data;
    size_t len, capacity;
};

void scripted_put(struct scripted_bytes *out, const void *data, size_t len);
void scripted_put_varint(struct scripted_bytes *out, uint64_t value);
void scripted_put_number(struct scripted_bytes *out, uint32_t field, uint64_t value);
void scripted_put_data(struct scripted_bytes *out, uint32_t field, const void *data, size_t len);
void scripted_put_text(struct scripted_bytes *out, uint32_t field, const char *text);
/* Adds a message as a field and empties it. */
void scripted_put_message(struct scripted_bytes *out, uint32_t field,
                          struct scripted_bytes *message);
void scripted_put_node(struct scripted_bytes *out, const TF_Operation *op);
int scripted_dtype(const char *name, size_t len); /* 0: no such type */

/* The table's entries, by file. */
#define SCRIPTED_ENTRY(name) extern __typeof__(TF_##name) scripted_##name;
BLY_RUNTIME_CALLS(SCRIPTED_ENTRY)
#undef SCRIPTED_ENTRY

void scripted_called(const char *what); /* counts a call that no rule holds up */
extern atomic_int scripted_live_tensors, scripted_live_statuses, scripted_live_buffers,
    scripted_live_graphs, scripted_live_sessions, scripted_live_options, scripted_live_descriptions,
    scripted_live_device_lists;

#endif
