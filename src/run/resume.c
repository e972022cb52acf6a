/* What a run's folder says before anything in it is touched. */
#include "run/train_impl.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "checkpoint/bundle.h"
#include "checkpoint/manifest.h"
#include "checkpoint/saver.h"
#include "checkpoint/state.h"

#include <jansson.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- positions -------------------------------------------------------------------------------- */

/* Where a training would be after `step` steps of one batch each, for a checkpoint that does not
 * say (Python's). */
static belay_code position_of_step(belay_batches *batches, int64_t step, belay_error *err) {
    char now[BELAY_POSITION_SIZE];
    int64_t per_epoch = belay_batches_per_epoch(batches);
    belay_batches_position(batches, now, sizeof now);
    json_t *position = json_loads(now, 0, NULL);
    if (!position || json_object_set_new(position, "epoch", json_integer(step / per_epoch)) ||
        json_object_set_new(position, "row",
                            json_integer(step % per_epoch * belay_batches_size(batches)))) {
        json_decref(position);
        return bly_fail_memory(err);
    }
    char *text = json_dumps(position, JSON_COMPACT);
    json_decref(position);
    belay_code code = text ? belay_batches_set_position(batches, text, err) : bly_fail_memory(err);
    free(text);
    return code;
}

/* 1 where a position was taken from arrays of another length: other data, which has no such
 * position. */
static int is_of_other_rows(const belay_batches *batches, const char *position, int64_t *out_rows) {
    json_t *object = json_loads(position, 0, NULL);
    json_t *rows = json_object_get(object, "rows");
    int other = json_is_integer(rows) && json_integer_value(rows) != belay_batches_rows(batches);
    *out_rows = other ? json_integer_value(rows) : 0;
    json_decref(object);
    return other;
}

belay_code bly_train_set_position(belay_training_run *run, const char *position, int64_t step,
                                  int says_so, belay_error *err) {
    belay_batches *batches = run->feeds ? bly_feeds_batches(run->feeds) : NULL;
    int64_t rows;
    if (!batches)
        return BELAY_OK;
    belay_code code = belay_batches_set_position(batches, run->first_position, err);
    if (code != BELAY_OK)
        return code;
    if (!position) {
        if (step <= 0)
            return BELAY_OK;
        code = position_of_step(batches, step, err);
        if (code == BELAY_OK && says_so)
            bly_warn("the checkpoint of step %" PRId64 " does not say where its input was: going "
                     "on as if each step had taken one batch of these arrays, in epoch %" PRId64,
                     step, belay_batches_epoch(batches));
        return code;
    }
    if (is_of_other_rows(batches, position, &rows)) {
        if (says_so)
            bly_warn("the arrays have %" PRId64 " rows, those of the checkpoint had %" PRId64
                     ": going on with the first row",
                     belay_batches_rows(batches), rows);
        return BELAY_OK;
    }
    return belay_batches_set_position(batches, position, err);
}

/* --- looking ---------------------------------------------------------------------------------- */

/* The newest checkpoint, as far as it can be told without reading its data. */
struct peek {
    char *prefix; /* NULL: none, or one that only the session can decide about */
    bly_bundle *bundle;
    bly_manifest manifest;
    int64_t step; /* -1: it does not say */
};

static void peek_free(struct peek *peek) {
    bly_manifest_free(&peek->manifest);
    bly_bundle_free(peek->bundle);
    bly_free(peek->prefix);
}

/* Nothing here is an error: restoring goes through all of it again, and says what is wrong. */
static void peek(const belay_training_run *run, struct peek *out) {
    const char *key = belay_graph_global_step_name(run->graph);
    int found;
    BLY_LOCAL_ERROR(ignored);
    *out = (struct peek){NULL, NULL, BLY_MANIFEST_INIT, -1};
    if (bly_state_latest(run->options.dir, NULL, &out->prefix, NULL, &ignored) != BELAY_OK ||
        !out->prefix)
        return;
    out->bundle = bly_bundle_load(out->prefix, &ignored);
    if (!out->bundle || !key ||
        bly_bundle_read_int(out->bundle, key, &out->step, &ignored) != BELAY_OK)
        out->step = -1;
    bly_manifest_read(out->prefix, &out->manifest, &found, &ignored);
}

static belay_code check_some_checkpoint(const belay_training_run *run, belay_error *err) {
    bly_found_list found = {NULL, 0, 0};
    belay_code code = bly_checkpoint_scan(run->options.dir, NULL, &found, err);
    if (code == BELAY_OK && found.count == 0)
        code = bly_fail(err, BELAY_NOT_FOUND, "there is no checkpoint in %s, and one is required",
                        run->options.dir);
    bly_found_list_free(&found);
    return code;
}

static int says_end_is_reached(belay_training_run *run, const struct peek *peek) {
    if (run->options.steps)
        return peek->step >= run->options.steps;
    return run->options.epochs && run->feeds && peek->step >= 0 &&
           belay_batches_epoch(bly_feeds_batches(run->feeds)) >= run->options.epochs;
}

/* Whether the checkpoint that says so really restores. Where it does not, an older one goes on. */
static int restores(belay_training_run *run, const char *prefix, int64_t *out_step) {
    BLY_LOCAL_ERROR(ignored);
    belay_session *session = belay_session_open(run->graph, &run->target.options, &ignored);
    int fine = session && belay_saver_restore(run->saver, session, prefix, &ignored) == BELAY_OK &&
               belay_session_global_step(session, out_step, &ignored) == BELAY_OK;
    belay_session_free(session);
    return fine;
}

/* A new training of a SavedModel starts from what lies in its variables/. Where that is damaged the
 * session would say so, too, but the folder would have a ledger and events by then. */
static belay_code check_initial_checkpoint(const belay_training_run *run, belay_error *err) {
    bly_found_list found = {NULL, 0, 0};
    if (!run->graph->initial_checkpoint)
        return BELAY_OK;
    belay_code code = BELAY_OK;
    if (!(run->options.flags & BELAY_RUN_FRESH))
        code = bly_checkpoint_scan(run->options.dir, NULL, &found, err);
    if (code == BELAY_OK && found.count == 0)
        code = bly_verify_initial_checkpoint(run->graph, err);
    bly_found_list_free(&found);
    return code;
}

belay_code bly_train_look(belay_training_run *run, int *out_nothing_to_do, belay_error *err) {
    struct peek found;
    int64_t step;
    *out_nothing_to_do = 0;
    belay_code code = bly_state_check_place(run->options.dir, NULL, err);
    if (code == BELAY_OK)
        code = check_initial_checkpoint(run, err);
    if (code == BELAY_OK && run->options.flags & BELAY_RUN_REQUIRE_RESUME)
        code = check_some_checkpoint(run, err);
    if (code != BELAY_OK || (run->options.flags & BELAY_RUN_FRESH) || run->options.master)
        return code;
    peek(run, &found);
    if (found.bundle) {
        code = bly_saver_check_compatible(run->saver, found.bundle, err);
        if (code == BELAY_OK)
            code = bly_train_set_position(run, found.manifest.input, found.step, 0, err);
        if (code == BELAY_OK && says_end_is_reached(run, &found) &&
            restores(run, found.prefix, &step)) {
            *out_nothing_to_do = 1;
            run->start_step = run->step = step;
        }
    }
    peek_free(&found);
    return code;
}
