/**
 * Clusters: which tasks there are, at which addresses, and which of them this process is.
 *
 * A cluster specification maps job names ("ps", "worker", "chief") to tasks, and tasks to addresses
 * HOST:PORT. It comes from a command line or a program (belay_cluster_spec), or from the
 * environment variable TF_CONFIG (belay_tf_config), as Kubeflow and TensorFlow write it. Nothing
 * here needs TensorFlow, and only belay_cluster_spec_probe() the network.
 */
#ifndef BELAY_CLUSTER_H
#define BELAY_CLUSTER_H

#include <belay/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A cluster specification: TensorFlow's `tf.train.ClusterSpec`. Jobs are kept in the order of their
 * names, tasks in that of their indices, which may have gaps.
 *
 * Threads: one at a time per object; any number may read one that nobody changes.
 */
typedef struct belay_cluster_spec belay_cluster_spec;

/** Makes a specification without jobs. NULL only when memory is out. */
BELAY_API belay_cluster_spec *belay_cluster_spec_new(void);

/**
 * Reads a specification that a person wrote, in one of two forms:
 *
 *     ps=host1:2222,host2:2222;worker=host3:2222
 *     {"ps": ["host1:2222", "host2:2222"], "worker": {"3": "host3:2222"}}
 *
 * The second one is that of TF_CONFIG's "cluster": lists of addresses, or maps from an index to an
 * address where not every task is known (CL-01). Spaces around names and addresses do not count.
 *
 * Since a person wrote it, it is looked at closely: job names are a letter and then letters, digits
 * and '_' (TensorFlow aborts the process over others), addresses are HOST:PORT, no job stands twice
 * and no address is two tasks'.
 *
 * @return a specification that the caller frees with belay_cluster_spec_free(), or NULL:
 * BELAY_INVALID_ARGUMENT, with a message that names what is wrong and where.
 */
BELAY_API belay_cluster_spec *belay_cluster_spec_parse(const char *text, belay_error *err);

/**
 * Makes a specification of a serialised ClusterDef (CL-01).
 *
 * @return a specification that the caller frees with belay_cluster_spec_free(), or NULL:
 * BELAY_INVALID_ARGUMENT: these bytes are no ClusterDef.
 */
BELAY_API belay_cluster_spec *belay_cluster_spec_from_def(const void *cluster_def, size_t size,
                                                          belay_error *err);

/** Copies a specification (CL-01); the caller frees the copy. */
BELAY_API belay_cluster_spec *belay_cluster_spec_copy(const belay_cluster_spec *spec,
                                                      belay_error *err);

/** Frees a specification. NULL is fine. */
BELAY_API void belay_cluster_spec_free(belay_cluster_spec *spec);

/**
 * Adds a job with tasks 0, 1, 2 and so on.
 *
 * @param job       Copied.
 * @param addresses Copied; ends in NULL. NULL: a job without tasks.
 * @return BELAY_OK, or BELAY_ALREADY_EXISTS: there is such a job; BELAY_INVALID_ARGUMENT: no name.
 * On error the specification is as it was.
 */
BELAY_API belay_code belay_cluster_spec_add_job(belay_cluster_spec *spec, const char *job,
                                                const char *const *addresses, belay_error *err);

/**
 * Adds one task, and its job where there is none yet. Indices may have gaps (CL-01).
 *
 * @return BELAY_OK, or BELAY_ALREADY_EXISTS: there is such a task; BELAY_INVALID_ARGUMENT: no name,
 * no address, or a negative index. On error the specification is as it was.
 */
BELAY_API belay_code belay_cluster_spec_add_task(belay_cluster_spec *spec, const char *job,
                                                 int32_t task_index, const char *address,
                                                 belay_error *err);

/** How many jobs there are. A specification counts as "none" iff this is 0 (CL-06). */
BELAY_API size_t belay_cluster_spec_job_count(const belay_cluster_spec *spec);

/** A job's name, `index` from 0 in the order of names; NULL past the last. It lives until the
 * specification is changed or freed. */
BELAY_API const char *belay_cluster_spec_job_name(const belay_cluster_spec *spec, size_t index);

/**
 * How many tasks a job has.
 *
 * @return BELAY_OK, or BELAY_INVALID_ARGUMENT: no such job (CL-04, ER-34). The message says which
 * jobs there are.
 */
BELAY_API belay_code belay_cluster_spec_num_tasks(const belay_cluster_spec *spec, const char *job,
                                                  size_t *out_count, belay_error *err);

/**
 * The indices of a job's tasks, in ascending order.
 *
 * @param out       Set to the indices, at most `room` of them. May be NULL where room is 0.
 * @param out_count Set to how many there are, whatever `room` is.
 * @return BELAY_OK, or BELAY_INVALID_ARGUMENT: no such job (CL-04).
 */
BELAY_API belay_code belay_cluster_spec_task_indices(const belay_cluster_spec *spec,
                                                     const char *job, int32_t *out, size_t room,
                                                     size_t *out_count, belay_error *err);

/**
 * The address of a task. It lives until the specification is changed or freed.
 *
 * @return the address, or NULL: BELAY_INVALID_ARGUMENT: no such job, or no such task in it (CL-04).
 * The message says what there is.
 */
BELAY_API const char *belay_cluster_spec_task_address(const belay_cluster_spec *spec,
                                                      const char *job, int32_t task_index,
                                                      belay_error *err);

/**
 * The addresses of a job's tasks by index, with NULL where there is no such task (CL-05).
 *
 * @param out       Set to the addresses, at most `room` of them; they live until the specification
 * is changed or freed. May be NULL where room is 0.
 * @param out_count Set to the largest index + 1, whatever `room` is; 0 where the job has no tasks.
 * @return BELAY_OK, or BELAY_INVALID_ARGUMENT: no such job (CL-04).
 */
BELAY_API belay_code belay_cluster_spec_job_tasks(const belay_cluster_spec *spec, const char *job,
                                                  const char **out, size_t room, size_t *out_count,
                                                  belay_error *err);

/** 1 where both name the same jobs, tasks and addresses (CL-06). NULL equals NULL only. */
BELAY_API uint32_t belay_cluster_spec_equal(const belay_cluster_spec *a,
                                            const belay_cluster_spec *b);

/**
 * The specification as JSON in one line: a list for a job whose tasks have no gaps, a map for one
 * with gaps, an empty map for one without tasks (CL-03). belay_cluster_spec_parse() reads it back.
 *
 * @return the text, which lives until the specification is changed or freed; NULL when memory is
 * out.
 */
BELAY_API const char *belay_cluster_spec_text(belay_cluster_spec *spec, belay_error *err);

/**
 * The specification as a serialised ClusterDef: jobs in the order of their names, tasks in that of
 * their indices (CL-02).
 *
 * @return the bytes, which live until the specification is changed or freed; NULL when memory is
 * out.
 */
BELAY_API const void *belay_cluster_spec_def(belay_cluster_spec *spec, size_t *out_size,
                                             belay_error *err);

/**
 * Told of one task by belay_cluster_spec_probe(), on the caller's thread, with no lock held.
 *
 * @param reason NULL: somebody listens at the task's address; else why nobody does, as far as is
 *               known: "Connection refused".
 */
typedef void (*belay_task_probe_fn)(void *self, const char *job, int32_t task_index,
                                    const char *address, const char *reason);

/**
 * Looks which tasks of a cluster listen at their addresses, all at the same time, and then tells of
 * each, in the order of jobs and tasks. What listens there need not be a server of TensorFlow's.
 *
 * Threads:   any thread; names and addresses are looked up on threads of belay's, which end soon.
 * Blocks:    until all have answered, and at most max_wait_secs.
 *
 * @param max_wait_secs 0: 5.
 * @param self          Handed to `tell`.
 * @return BELAY_OK, whatever was found; BELAY_INVALID_ARGUMENT: max_wait_secs is malformed, or
 * there is nobody to tell; or BELAY_RESOURCE_EXHAUSTED.
 */
BELAY_API belay_code belay_cluster_spec_probe(const belay_cluster_spec *spec, double max_wait_secs,
                                              belay_task_probe_fn tell, void *self,
                                              belay_error *err);

/** No task index is given. */
#define BELAY_NO_TASK ((int32_t)-1)

/**
 * Whether a task is the one that initialises, restores and saves (CL-15): where there is no cluster
 * everybody is; the task types "chief" and "evaluator", and none, always are; so is worker 0 where
 * there is no job "chief". The older name "master" counts as "chief".
 *
 * @param spec       NULL: no cluster.
 * @param task_type  NULL: none.
 * @param task_index BELAY_NO_TASK: none.
 */
BELAY_API uint32_t belay_cluster_spec_is_chief(const belay_cluster_spec *spec,
                                               const char *task_type, int32_t task_index);

/**
 * What TF_CONFIG says (CL-13): a JSON object
 *
 *     {"cluster": {"ps": ["host1:2222"], "worker": ["host2:2222", "host3:2222"]},
 *      "task": {"type": "worker", "index": 1}}
 *
 * with, optionally, "rpc_layer", "environment" and "session_master". Other members are passed over.
 */
typedef struct belay_tf_config belay_tf_config;

/**
 * Reads TF_CONFIG.
 *
 * Beside what belay_cluster_spec_parse() looks at: at most one chief (or "master") and one
 * evaluator, and the task is one of the cluster's, or an evaluator, which need not be in it. An
 * index may be a string of digits.
 *
 * @param text NULL: the environment variable; where that is not set, an empty object.
 * @return what it says, which the caller frees with belay_tf_config_free(), or NULL:
 * BELAY_INVALID_ARGUMENT, with one line that begins with "TF_CONFIG" and names what is wrong.
 */
BELAY_API belay_tf_config *belay_tf_config_load(const char *text, belay_error *err);

/** Frees it. NULL is fine. */
BELAY_API void belay_tf_config_free(belay_tf_config *config);

/** The cluster, which has no jobs where none is given. It belongs to `config`. */
BELAY_API const belay_cluster_spec *belay_tf_config_cluster(const belay_tf_config *config);

/** This process's job; NULL: not given. */
BELAY_API const char *belay_tf_config_task_type(const belay_tf_config *config);

/** This process's index in its job; BELAY_NO_TASK: not given. */
BELAY_API int32_t belay_tf_config_task_index(const belay_tf_config *config);

/** Such as "grpc"; NULL: not given. */
BELAY_API const char *belay_tf_config_rpc_layer(const belay_tf_config *config);

/** Such as "cloud"; NULL: not given. */
BELAY_API const char *belay_tf_config_environment(const belay_tf_config *config);

/** The target that was set for all tasks; NULL: not given. */
BELAY_API const char *belay_tf_config_session_master(const belay_tf_config *config);

/**
 * The target for this process's sessions (CL-14): session_master where it is given; an empty string
 * where there is no cluster, or one of one task; else the task's address, with "<rpc_layer>://" in
 * front where there is one.
 *
 * @param task_type  NULL: that of TF_CONFIG.
 * @param task_index BELAY_NO_TASK: that of TF_CONFIG.
 * @param rpc_layer  NULL: that of TF_CONFIG; an empty string: none.
 * @return the target, which lives until the next call or `config` is freed, or NULL:
 * BELAY_INVALID_ARGUMENT: the task is not given, or not in the cluster.
 */
BELAY_API const char *belay_tf_config_master(belay_tf_config *config, const char *task_type,
                                             int32_t task_index, const char *rpc_layer,
                                             belay_error *err);

#ifdef __cplusplus
}
#endif

#endif
