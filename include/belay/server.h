/**
 * Servers: this process as one task of a cluster.
 *
 * The server is TensorFlow's own, and runs on TensorFlow's threads beside whatever else the process
 * does. TensorFlow has no way to stop one (CL-12): it serves until the process ends.
 *
 * It listens on every interface, whatever host its address names, and asks nobody who they are:
 * whoever reaches the port runs graphs in this process. Keep it within a network that you trust.
 */
#ifndef BELAY_SERVER_H
#define BELAY_SERVER_H

#include <belay/cluster.h>
#include <belay/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct belay_server belay_server;

/** Options for belay_server_start(). Zero in any field means "the default". */
typedef struct belay_server_options {
    size_t struct_size;                /**< sizeof(belay_server_options) in the caller's build. */
    const belay_cluster_spec *cluster; /**< NULL: server_def's; without that, one task of a job
                                          "localhost", at a port that the system chooses (CL-11). */
    const void *server_def; /**< A serialised ServerDef, which what is given beside it overrides
                               (CL-08); NULL: none. Not together with a cluster. */
    size_t server_def_size;
    const char *job_name;      /**< NULL: server_def's, or the only job (CL-09). */
    const int32_t *task_index; /**< NULL: server_def's, or the job's only task (CL-09). */
    const char *protocol;      /**< NULL: server_def's, or "grpc". */
    const void *config;        /**< A serialised ConfigProto for the sessions on this server, merged
                                  into server_def's; NULL: none. */
    size_t config_size;
} belay_server_options;

/** Initialiser with every field at its default. */
#define BELAY_SERVER_OPTIONS_INIT                                                                  \
    { sizeof(belay_server_options), NULL, NULL, 0, NULL, NULL, NULL, NULL, 0 }

/**
 * Looks whether there is such a task, and whether its cluster can be one, without TensorFlow and
 * without the network.
 *
 * @return BELAY_OK, or BELAY_INVALID_ARGUMENT as belay_server_prepare() would.
 */
BELAY_API belay_code belay_server_check(const belay_server_options *options, belay_error *err);

/**
 * Makes a server that does not serve yet: its port is taken, and its target known.
 *
 * Threads: any thread.
 * Blocks:  while TensorFlow is loaded, and for the devices of this process to start.
 *
 * @param options Borrowed for the call. NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return a server that the caller frees with belay_server_free(), or NULL:
 *   - BELAY_INVALID_ARGUMENT: job and task are not given and there are several (CL-09), or there
 *     are no such ones: the message says which there are; a name or an address is malformed; or
 *     server_def is no ServerDef;
 *   - BELAY_UNAVAILABLE: the port is in use;
 *   - BELAY_PERMISSION_DENIED: the port is not for this user;
 *   - BELAY_NOT_FOUND: no such protocol, or no TensorFlow.
 */
BELAY_API belay_server *belay_server_prepare(const belay_server_options *options, belay_error *err);

/** Has a prepared server serve. One that serves already is left alone. */
BELAY_API belay_code belay_server_begin(belay_server *server, belay_error *err);

/**
 * Makes a server and has it serve (CL-10): belay_server_prepare() and belay_server_begin().
 *
 *     belay_server_options options = BELAY_SERVER_OPTIONS_INIT;
 *     options.cluster = cluster;
 *     options.job_name = "worker";
 *     options.task_index = &index;
 *     belay_server *server = belay_server_start(&options, err);
 *     session_options.target = belay_server_target(server);
 */
BELAY_API belay_server *belay_server_start(const belay_server_options *options, belay_error *err);

/** The target for sessions, "grpc://HOST:PORT"; an empty string for NULL. It lives as long as the
 * process where the server serves, else as long as the server. */
BELAY_API const char *belay_server_target(const belay_server *server);

/** The name of the server's job; an empty string for NULL. It belongs to the server. */
BELAY_API const char *belay_server_job_name(const belay_server *server);

/** The index of the server's task; BELAY_NO_TASK for NULL. */
BELAY_API int32_t belay_server_task_index(const belay_server *server);

/** The serialised ServerDef that TensorFlow was given (CL-07). It belongs to the server. */
BELAY_API const void *belay_server_def(const belay_server *server, size_t *out_size);

/**
 * Gives up the caller's hold. A server that serves goes on until the process ends, as TensorFlow's
 * own do (CL-12); one that does not is taken down. NULL is fine.
 */
BELAY_API void belay_server_free(belay_server *server);

#ifdef __cplusplus
}
#endif

#endif
