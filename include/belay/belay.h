/**
 * libbelay: monitored training sessions for TensorFlow graphs and Keras models, in C.
 *
 * What it does to the process: it loads TensorFlow at the first call that needs it and never
 * unloads it (belay/runtime.h); TensorFlow starts threads of its own. belay starts a thread for
 * each queue-runner op, and one for each queue runner, which cancels its queue at a stop; one for
 * each loop that a program starts on a coordinator; one for each event file; and one to close each
 * session of a monitored session that has a remote target, since that may hang. All signals are
 * blocked in belay's threads; it installs no signal handler, and neither exits nor aborts the
 * process.
 *
 * Warnings and errors that have no caller to return to go to standard error, until
 * belay_log_set_callback() sends them elsewhere. It reads the environment variables
 * BELAY_TENSORFLOW, VIRTUAL_ENV, CONDA_PREFIX, PATH and
 * TF_DEVICE_FOR_UNINITIALIZED_VARIABLE_REPORTING. It writes only below the folders that it is
 * given, and an export beside its target too: FOLDER/.NAME.belay-export, which becomes FOLDER/NAME.
 * After fork() the child must not use it.
 */
#ifndef BELAY_BELAY_H
#define BELAY_BELAY_H

#include <belay/checkpoint.h>
#include <belay/cluster.h>
#include <belay/coordinator.h>
#include <belay/dtype.h>
#include <belay/error.h>
#include <belay/events.h>
#include <belay/export.h>
#include <belay/graph.h>
#include <belay/hook.h>
#include <belay/hooks.h>
#include <belay/hparams.h>
#include <belay/input.h>
#include <belay/log.h>
#include <belay/monitored_session.h>
#include <belay/run.h>
#include <belay/runtime.h>
#include <belay/saver.h>
#include <belay/scaffold.h>
#include <belay/server.h>
#include <belay/session.h>
#include <belay/session_manager.h>
#include <belay/summary.h>
#include <belay/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The version of the library that is running, such as "0.1.0"; BELAY_VERSION is that of the
 * headers. */
BELAY_API const char *belay_version(void);

#ifdef __cplusplus
}
#endif

#endif
