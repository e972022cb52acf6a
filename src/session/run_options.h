/* RunOptions of a step and of its hooks, merged into one (HK-RUN-22 to HK-RUN-25). */
#ifndef BLY_SESSION_RUN_OPTIONS_H
#define BLY_SESSION_RUN_OPTIONS_H

#include "runtime/runtime.h"
#include "wire/config.pb-c.h"

#include <belay/session.h>

#include <stddef.h>

/* Reads serialised RunOptions; none, or no bytes, is an empty message. The caller frees it with
 * bly_wire_free(). NULL on error: INVALID_ARGUMENT where the bytes are no RunOptions. */
Bly__RunOptions *bly_run_options_read(const void *data, size_t size, belay_error *err);

/* Adds what a hook asks for (HK-RUN-22, HK-RUN-23). Takes parts out of `hooks`, which is freed
 * afterwards as before. */
belay_code bly_run_options_merge(Bly__RunOptions *into, Bly__RunOptions *hooks, belay_error *err);

/* 1 where a run with these options computes in the calling thread; `wanted`: where they leave that
 * open. */
int bly_run_options_in_caller(const Bly__RunOptions *options, int wanted);

/* As TensorFlow takes them; the caller deletes it. NULL where memory is out. */
TF_Buffer *bly_run_options_pack(const bly_runtime *rt, const Bly__RunOptions *options,
                                int in_caller);

/* Takes over what a run that succeeded told (SE-31). */
belay_code bly_run_metadata_fill(belay_run_metadata *metadata, const TF_Buffer *buffer,
                                 belay_error *err);

#endif
