/**
 * Which TensorFlow is used, and what loading it does to the process.
 *
 * libbelay does not link TensorFlow. It loads it at the first call that needs one, once per
 * process, and never unloads it: TensorFlow starts threads that outlive any dlclose(). Where the
 * host has TensorFlow loaded already (a Python program, say), that copy is used.
 */
#ifndef BELAY_RUNTIME_H
#define BELAY_RUNTIME_H

#include <belay/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Loads TensorFlow now, so that a program learns early whether it can.
 *
 * Looks in this order: the environment variable BELAY_TENSORFLOW (a folder, or the path of
 * libtensorflow_cc.so.2; where it is set nothing else is tried), the prefix recorded when belay was
 * built, the active Python environment's `tensorflow` package, the system's library path.
 *
 * Threads: any thread; the first call does the work.
 * Blocks:  about a quarter of a second the first time.
 *
 * @param err Filled on error. May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_NOT_FOUND: no TensorFlow; the message names the four places;
 *   - BELAY_FAILED_PRECONDITION: what was found cannot be used (it lacks a symbol, which the
 *     message names).
 */
BELAY_API belay_code belay_runtime_load(belay_error *err);

/** TensorFlow's version, such as "2.21.0"; an empty string before it is loaded. */
BELAY_API const char *belay_runtime_version(void);

/** The library file that is in use; an empty string before it is loaded. */
BELAY_API const char *belay_runtime_path(void);

#ifdef __cplusplus
}
#endif

#endif
