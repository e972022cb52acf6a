/* A TensorFlow without TensorFlow: a whole bly_runtime table of fakes, so that everything above it
 * runs in a unit test, under any sanitizer, with the failures that the test asks for.
 *
 *     scripted_install();
 *     belay_graph *graph = scripted_graph(SCRIPTED_GLOBAL_STEP
 *                                         "train = AssignAddVariableOp(global_step, one)
 * dtype=int64\n", err); scripted_fail("train", 3, BELAY_UNAVAILABLE, "Socket closed");   the third
 * run of op `train` fails scripted_hang("TF_CloseSession", 1);                             the
 * first CloseSession never returns
 *     ...
 *     scripted_uninstall();                                            nothing may be left alive
 *
 * Tensors, statuses, buffers, strings and the building of graphs are real, as far as belay can
 * tell. A run evaluates the graph: fetches first, then targets, each op once, its control inputs
 * before its inputs. The kernels are those in scripted_kernels.c: variables of both kinds,
 * constants, queues, savers (which write and read true bundles), and what TensorFlow's default ops
 * are made of; op types without a kernel fail with UNIMPLEMENTED when they run, unless a rule gives
 * them a value. Like the real thing: variables belong to the session in this process, to the server
 * for a "grpc://" target; a fetched reference variable is the live buffer (BUG-73); CloseSession
 * cancels runs in flight; and a run in the calling thread heeds no timeout (BUG-74). Waits go
 * through bly_wait_until(), so a stepped clock drives them.
 *
 * Every function may be called from any thread, install and uninstall apart. */
#ifndef BLY_TESTS_SCRIPTED_RUNTIME_H
#define BLY_TESTS_SCRIPTED_RUNTIME_H

#include "runtime/runtime.h"

#include <belay/graph.h>

#include <stddef.h>
#include <stdint.h>

/* Starts afresh (empty script, no servers, counters at 0) and installs the table. */
const bly_runtime *scripted_install(void);
/* Releases what hangs, waits a few seconds for calls in flight, and takes the table out. Fails the
 * running cmocka test where anything is left alive, naming it. With a stepped clock:
 * scripted_release(), stepped_clock_uninstall(), this. */
void scripted_uninstall(void);

/* ---- graphs ----
 *
 * One line each; '#' starts a comment:
 *
 *     NAME = TYPE(input, op:1, ^control) attr=value ... device="/job:ps/task:0"
 *     collection KEY: node, node
 *     variable NAME in KEY, KEY: initializer=OP snapshot=TENSOR ref=1 trainable=1 initial=TENSOR
 *     queue_runner QUEUE: enqueue=OP,OP close=OP cancel=OP codes=11,1
 *     saver: filename=TENSOR save=TENSOR restore=OP max_to_keep=5 sharded=1
 *     signature KEY: inputs x=x:0/float outputs loss=loss:0/float method=NAME
 *
 * Values: 3, 1.5, true, "text", float (a type), {float,int64} (types), [2,-1] (a shape; [?] of
 * unknown rank). A Const takes dtype and value=3, value=[1,2] or value=["a","b"]. An op may use one
 * that follows. */
belay_graph *scripted_graph(const char *text, belay_error *err); /* the caller frees it */
/* The same as a serialised MetaGraphDef, to be freed with free(). */
void *scripted_graph_bytes(const char *text, size_t *out_len);
/* Graph from a TF_Graph that the caller builds by hand is what belay_graph_raw() gives. */

/* Pieces of graphs. */
#define SCRIPTED_GLOBAL_STEP                                                                       \
    "global_step = VarHandleOp() dtype=int64 shape=[] shared_name=\"global_step\"\n"               \
    "global_step/zero = Const() dtype=int64 value=0\n"                                             \
    "global_step/Assign = AssignVariableOp(global_step, global_step/zero) dtype=int64\n"           \
    "global_step/Read = ReadVariableOp(global_step) dtype=int64\n"                                 \
    "variable global_step in variables, global_step: initializer=global_step/Assign "              \
    "snapshot=global_step/Read:0 initial=global_step/zero:0\n"                                     \
    "one = Const() dtype=int64 value=1\n"
/* Counts the global step by one. */
#define SCRIPTED_TRAIN                                                                             \
    "train = AssignAddVariableOp(global_step, one) dtype=int64\n"                                  \
    "collection train_op: train\n"
/* An init op for the global step, in its collection. */
#define SCRIPTED_INIT                                                                              \
    "init = NoOp(^global_step/Assign)\n"                                                           \
    "collection init_op: init\n"
/* A saver for the global step. */
#define SCRIPTED_SAVER                                                                             \
    "save/Const = Const() dtype=string value=\"model\"\n"                                          \
    "save/names = Const() dtype=string value=[\"global_step\"]\n"                                  \
    "save/slices = Const() dtype=string value=[\"\"]\n"                                            \
    "save/SaveV2 = SaveV2(save/Const, save/names, save/slices, global_step/Read) dtypes={int64}\n" \
    "save/control_dependency = Identity(save/Const, ^save/SaveV2) T=string\n"                      \
    "save/RestoreV2 = RestoreV2(save/Const, save/names, save/slices) dtypes={int64}\n"             \
    "save/Assign = AssignVariableOp(global_step, save/RestoreV2) dtype=int64\n"                    \
    "save/restore_all = NoOp(^save/Assign)\n"                                                      \
    "saver: filename=save/Const:0 save=save/control_dependency:0 restore=save/restore_all "        \
    "max_to_keep=5\n"
/* A queue with one enqueue op, and its runner. */
#define SCRIPTED_QUEUE                                                                             \
    "queue = FIFOQueueV2() capacity=2 component_types={int64}\n"                                   \
    "element = Const() dtype=int64 value=7\n"                                                      \
    "enqueue = QueueEnqueueV2(queue, element)\n"                                                   \
    "close = QueueCloseV2(queue) cancel_pending_enqueues=false\n"                                  \
    "cancel = QueueCloseV2(queue) cancel_pending_enqueues=true\n"                                  \
    "dequeue = QueueDequeueV2(queue) component_types={int64}\n"                                    \
    "queue_runner queue: enqueue=enqueue close=close cancel=cancel\n"

/* ---- the script ----
 *
 * `what` is an op's name, or a call such as "TF_NewSession". `nth` counts its runs from 1 since
 * scripted_install(); 0 is every run. Rules are looked at in the order in which they were added, so
 * a delay can come before a failure. */
void scripted_fail(const char *what, int nth, belay_code code, const char *message);
void scripted_fail_range(const char *what, int first, int last, belay_code code,
                         const char *message);
/* Blocks until the session is closed (then CANCELLED), its timeout is over, or scripted_release().
 */
void scripted_hang(const char *what, int nth);
/* Takes time of belay's clock. Closing the session ends it too. */
void scripted_delay_ms(const char *what, int nth, int64_t ms);
/* Calls back, on the running thread and without a lock. */
void scripted_call(const char *what, int nth, void (*function)(void *self), void *self);
/* Output 0 is this number, a scalar of the op's type; its kernel does not run. */
void scripted_value(const char *what, int nth, double value);
/* Forgets the rules for `what`; NULL: all. */
void scripted_forget(const char *what);
/* Lets everything go that hangs, now and from now on. */
void scripted_release(void);

/* ---- servers: what "grpc://..." targets lead to ---- */

#define SCRIPTED_UP          0
#define SCRIPTED_UNAVAILABLE 1 /* every run fails with UNAVAILABLE */
#define SCRIPTED_SILENT      2 /* every run blocks, as TensorFlow's do where nobody answers */
void scripted_server_state(const char *target, int state);
/* A new process in its place: its variables are gone, and sessions from before fail with ABORTED.
 */
void scripted_server_restart(const char *target);

/* ---- asking ---- */

size_t scripted_count(const char *what); /* runs of an op; calls of "TF_..."; failed ones too */
/* Threads that hang in a rule, a queue or a silent server right now. */
size_t scripted_blocked(void);
/* Waits, for real and at most some seconds, until scripted_blocked() is at least `count`. 0 where
 * it never was. */
int scripted_await_blocked(size_t count);

/* The value of a variable, first element: in the newest session (target NULL) or on a server. 0:
 * not initialised. */
int scripted_variable(const char *target, const char *name, double *out);

/* One line per SessionRun so far, "fetch loss:0 target train" or "target init feed x:0"; belongs to
 * the runtime. */
const char *scripted_run_line(size_t index);
size_t scripted_run_count(void);
void scripted_keep_no_runs(void); /* until uninstalled: for programs that make millions */

/* What the last run had as RunOptions, or the last session as config. */
size_t scripted_last_run_options(void *out, size_t room);
size_t scripted_last_config(void *out, size_t room);

/* Objects that are alive. */
typedef struct scripted_alive_counts {
    int tensors, statuses, buffers, graphs, sessions, options, descriptions, device_lists;
} scripted_alive_counts;
scripted_alive_counts scripted_alive(void);

#endif
