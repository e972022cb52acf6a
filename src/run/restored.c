#include "run/restored.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "checkpoint/bundle.h"
#include "checkpoint/state.h"

#include <belay/checkpoint.h>
#include <belay/scaffold.h>
#include <belay/session_manager.h>

#include <string.h>

/* --- which ------------------------------------------------------------------------------------ */

static belay_code verify(const char *prefix, belay_error *err) {
    bly_bundle *bundle = bly_bundle_load(prefix, err);
    if (!bundle)
        return belay_error_code(err);
    belay_code code = bly_bundle_verify(bundle, NULL, NULL, err);
    bly_bundle_free(bundle);
    return code;
}

/* The newest of the others that verifies, after `bad` did not. */
static char *choose_older(const char *folder, const char *bad, const belay_error *why,
                          belay_error *err) {
    bly_found_list found = {NULL, 0, 0};
    char *chosen = NULL;
    BLY_LOCAL_ERROR(ignored);
    if (bly_checkpoint_scan(folder, NULL, &found, err) != BELAY_OK)
        return NULL;
    for (size_t i = found.count; i > 0 && !chosen; i--) {
        const char *prefix = found.items[i - 1].prefix;
        if (strcmp(prefix, bad) != 0 && verify(prefix, &ignored) == BELAY_OK)
            chosen = bly_strdup(prefix);
    }
    if (chosen)
        bly_warn("%s is damaged (%s): taking %s instead", bad, why->message, chosen);
    else
        bly_fail(err, BELAY_DATA_LOSS, "no checkpoint in %s verifies; the newest: %s", folder,
                 why->message);
    bly_found_list_free(&found);
    return chosen;
}

static char *choose_in_folder(const char *folder, belay_error *err) {
    BLY_LOCAL_ERROR(why);
    char *latest = belay_latest_checkpoint(folder, err);
    if (!latest)
        return NULL;
    char *chosen = NULL;
    belay_code code = verify(latest, &why);
    if (code == BELAY_OK) {
        chosen = bly_strdup(latest);
        if (!chosen)
            bly_fail_memory(err);
    } else if (code == BELAY_DATA_LOSS || code == BELAY_NOT_FOUND) {
        chosen = choose_older(folder, latest, &why, err);
    } else {
        bly_error_copy(err, &why);
    }
    belay_checkpoint_path_free(latest);
    return chosen;
}

char *bly_choose_checkpoint(const char *place, belay_error *err) {
    if (bly_is_directory(place))
        return choose_in_folder(place, err);
    size_t len = strlen(place);
    char *prefix = bly_strndup(place, bly_ends_with(place, ".index") ? len - 6 : len);
    if (!prefix) {
        bly_fail_memory(err);
        return NULL;
    }
    if (!bly_checkpoint_exists(prefix))
        bly_fail(err, BELAY_NOT_FOUND, "%s is neither a folder nor the prefix of a checkpoint",
                 place);
    else if (verify(prefix, err) == BELAY_OK)
        return prefix;
    bly_free(prefix);
    return NULL;
}

/* --- the session ------------------------------------------------------------------------------ */

static belay_session *prepare(belay_graph *graph, belay_scaffold *scaffold, const char *prefix,
                              const belay_session_options *options, belay_error *err) {
    belay_session_manager_options m = BELAY_SESSION_MANAGER_OPTIONS_INIT;
    belay_prepare_options p = BELAY_PREPARE_OPTIONS_INIT;
    if (belay_scaffold_finalize(scaffold, err) != BELAY_OK)
        return NULL;
    m.local_init_op = belay_scaffold_local_init_op(scaffold);
    m.ready_op = belay_scaffold_ready_op(scaffold);
    m.ready_for_local_init_op = belay_scaffold_ready_for_local_init_op(scaffold);
    belay_session_manager *manager = belay_session_manager_new(graph, &m, err);
    if (!manager)
        return NULL;
    p.session = options;
    p.init_op = belay_scaffold_init_op(scaffold);
    p.scaffold = scaffold;
    p.saver = belay_scaffold_saver(scaffold);
    p.checkpoint_filename_with_path = prefix;
    p.flags = BELAY_PREPARE_REQUIRE_CHECKPOINT;
    belay_session *session = belay_session_manager_prepare_session(manager, &p, NULL, err);
    belay_session_manager_free(manager);
    return session;
}

belay_session *bly_restored_session(belay_graph *graph, belay_saver *saver, const char *prefix,
                                    const belay_session_options *options, belay_error *err) {
    belay_scaffold_options s = BELAY_SCAFFOLD_OPTIONS_INIT;
    s.saver = saver;
    belay_scaffold *scaffold = belay_scaffold_new(graph, &s, err);
    belay_session *session = scaffold ? prepare(graph, scaffold, prefix, options, err) : NULL;
    belay_scaffold_free(scaffold);
    return session;
}

int64_t bly_restored_step(belay_session *session, const char *prefix) {
    BLY_LOCAL_ERROR(ignored);
    int64_t step = BELAY_NO_STEP;
    if (session && belay_session_global_step(session, &step, &ignored) == BELAY_OK)
        return step;
    bly_bundle *bundle = bly_bundle_load(prefix, &ignored);
    if (!bundle || bly_bundle_read_int(bundle, "global_step", &step, &ignored) != BELAY_OK)
        step = bly_checkpoint_step_of(prefix);
    bly_bundle_free(bundle);
    return step;
}
