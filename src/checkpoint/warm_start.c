/* Warm start: some variables from another model's checkpoint. */
#include "checkpoint/saver_impl.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(belay_warm_start_options) ==
                   offsetof(belay_warm_start_options, assignments) + sizeof(void *),
               "no tail padding");
_Static_assert(sizeof(belay_warm_start_entry) ==
                   offsetof(belay_warm_start_entry, reserved) + sizeof(uint32_t),
               "no tail padding");

struct belay_warm_start_report {
    belay_warm_start_entry *entries;
    size_t count, capacity;
};

struct warm_start {
    const belay_graph *graph;
    const bly_bundle *bundle;
    bly_object_map objects;
    bly_restored *items;
    size_t count, capacity;
};

/* ---- what comes from where ---- */

static int is_scope(const char *name) {
    return bly_ends_with(name, "/");
}

static const char *name_of(const bly_variable *variable) {
    return variable->slice_full_name ? variable->slice_full_name : variable->info.name;
}

/* What the checkpoint calls it, or NULL. */
static const char *find_key(const struct warm_start *w, const char *name) {
    const bly_bundle_tensor *tensor = bly_bundle_find(w->bundle, name);
    const char *mapped = tensor ? NULL : bly_object_map_find(&w->objects, name);
    tensor = mapped ? bly_bundle_find(w->bundle, mapped) : tensor;
    return tensor ? tensor->name : NULL;
}

static belay_code add_item(struct warm_start *w, const bly_variable *variable, const char *key,
                           belay_error *err) {
    for (size_t i = 0; i < w->count; i++)
        if (w->items[i].variable == variable)
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "belay_warm_start_options.assignments: two of them are for %s",
                            variable->info.name);
    belay_code code = bly_saver_compare(w->graph, w->bundle, key, variable, 0, err);
    if (code != BELAY_OK)
        return code;
    if (!bly_grow(&w->items, w->count, &w->capacity, sizeof *w->items))
        return bly_fail_memory(err);
    w->items[w->count++] = (bly_restored){variable, key};
    return BELAY_OK;
}

static belay_code assign_name(struct warm_start *w, const char *from, const char *to,
                              belay_error *err) {
    belay_code code = BELAY_OK;
    const char *key = find_key(w, from);
    if (!key) {
        const char *near = bly_bundle_nearest(w->bundle, from);
        return bly_fail(err, BELAY_NOT_FOUND, "%s has no '%s'%s%s%s", bly_bundle_prefix(w->bundle),
                        from, near ? " (it has '" : "", near ? near : "", near ? "')" : "");
    }
    size_t before = w->count;
    for (size_t i = 0; code == BELAY_OK && i < w->graph->variable_count; i++) {
        const bly_variable *variable = &w->graph->variables[i];
        if (strcmp(variable->info.name, to) == 0 || strcmp(name_of(variable), to) == 0)
            code = add_item(w, variable, key, err);
    }
    return code == BELAY_OK && w->count == before ? bly_graph_no_variable(w->graph, to, err) : code;
}

static belay_code assign_scope(struct warm_start *w, const char *from, const char *to,
                               belay_error *err) {
    belay_code code = BELAY_OK;
    int seen = 0;
    from = strcmp(from, "/") == 0 ? "" : from;
    to = strcmp(to, "/") == 0 ? "" : to;
    for (size_t i = 0; code == BELAY_OK && i < w->graph->variable_count - w->graph->local_count;
         i++) {
        const bly_variable *variable = &w->graph->variables[i];
        const char *name = name_of(variable);
        if (strncmp(name, to, strlen(to)) != 0)
            continue;
        bly_buf old = BLY_BUF_INIT;
        bly_buf_printf(&old, "%s%s", from, name + strlen(to));
        const char *key = old.failed ? NULL : find_key(w, old.data);
        code = old.failed ? bly_fail_memory(err) : key ? add_item(w, variable, key, err) : BELAY_OK;
        bly_buf_free(&old);
        seen = 1;
    }
    return seen || code != BELAY_OK
               ? code
               : bly_fail(err, BELAY_NOT_FOUND, "%s has no variable in the scope '%s'",
                          w->graph->path, to);
}

static belay_code assign_trainable(struct warm_start *w, belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && i < w->graph->variable_count; i++) {
        const bly_variable *variable = &w->graph->variables[i];
        const char *key = variable->info.is_trainable ? find_key(w, name_of(variable)) : NULL;
        if (key)
            code = add_item(w, variable, key, err);
    }
    return code;
}

static belay_code assign_pairs(struct warm_start *w, const char *const *pairs, belay_error *err) {
    belay_code code = BELAY_OK;
    for (size_t i = 0; code == BELAY_OK && pairs[i]; i += 2) {
        const char *from = pairs[i], *to = pairs[i + 1];
        if (!to)
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "belay_warm_start_options.assignments: '%s' is without its other half",
                            from);
        if (!from[0] || !to[0] || is_scope(from) != is_scope(to))
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "belay_warm_start_options.assignments: '%s' and '%s' are not two names "
                            "or two scopes",
                            from, to);
        code = is_scope(to) ? assign_scope(w, from, to, err) : assign_name(w, from, to, err);
    }
    return code;
}

/* ---- the report ---- */

void belay_warm_start_report_free(belay_warm_start_report *report) {
    if (!report)
        return;
    for (size_t i = 0; i < report->count; i++) {
        bly_free((char *)(uintptr_t)report->entries[i].variable);
        bly_free((char *)(uintptr_t)report->entries[i].key);
    }
    bly_free(report->entries);
    bly_free(report);
}

size_t belay_warm_start_report_count(const belay_warm_start_report *report) {
    return report ? report->count : 0;
}

const belay_warm_start_entry *belay_warm_start_report_at(const belay_warm_start_report *report,
                                                         size_t index) {
    return report && index < report->count ? &report->entries[index] : NULL;
}

static belay_code add_line(belay_warm_start_report *report, const char *variable, const char *key,
                           belay_error *err) {
    belay_warm_start_entry entry = {NULL, NULL, BELAY_WARM_START_RESTORED, 0};
    if (!variable || !key)
        entry.outcome = variable ? BELAY_WARM_START_INITIALIZED : BELAY_WARM_START_IGNORED;
    if (!bly_grow(&report->entries, report->count, &report->capacity, sizeof *report->entries))
        return bly_fail_memory(err);
    entry.variable = variable ? bly_strdup(variable) : NULL;
    entry.key = key ? bly_strdup(key) : NULL;
    report->entries[report->count++] = entry;
    return (variable && !entry.variable) || (key && !entry.key) ? bly_fail_memory(err) : BELAY_OK;
}

static belay_code fill_report(const struct warm_start *w, belay_warm_start_report *report,
                              belay_error *err) {
    belay_code code = BELAY_OK;
    uint8_t *used = bly_calloc(bly_bundle_count(w->bundle) + 1, 1);
    if (!used)
        return bly_fail_memory(err);
    for (size_t i = 0; code == BELAY_OK && i < w->graph->variable_count; i++) {
        const bly_variable *variable = &w->graph->variables[i];
        const char *key = NULL;
        for (size_t k = 0; !key && k < w->count; k++)
            if (w->items[k].variable == variable)
                key = w->items[k].key;
        if (key)
            used[bly_bundle_index(w->bundle, bly_bundle_find(w->bundle, key))] = 1;
        if (key || !variable->info.is_local)
            code = add_line(report, variable->info.name, key, err);
    }
    for (size_t i = 0; code == BELAY_OK && i < bly_bundle_count(w->bundle); i++) {
        const char *key = bly_bundle_at(w->bundle, i)->name;
        if (!used[i] && strcmp(key, BLY_OBJECT_GRAPH_KEY) != 0)
            code = add_line(report, NULL, key, err);
    }
    bly_free(used);
    return code;
}

/* ---- all of it ---- */

static belay_code run(struct warm_start *w, belay_session *session, const char *const *assignments,
                      belay_warm_start_report *report, belay_error *err) {
    belay_code code = bly_object_map_load(&w->objects, w->bundle, err);
    if (code == BELAY_OK)
        code = assignments ? assign_pairs(w, assignments, err) : assign_trainable(w, err);
    if (code == BELAY_OK && w->count == 0)
        code = bly_fail(err, BELAY_NOT_FOUND, "%s holds nothing that %s could start from",
                        bly_bundle_prefix(w->bundle), w->graph->path);
    if (code == BELAY_OK) /* before anything changes: memory may run out */
        code = fill_report(w, report, err);
    if (code == BELAY_OK)
        code = bly_saver_restore_items(session, w->graph, w->items, w->count,
                                       bly_bundle_prefix(w->bundle), err);
    if (code == BELAY_OK)
        bly_info("Warm start from %s: %zu of %zu variables restored", bly_bundle_prefix(w->bundle),
                 w->count, w->graph->variable_count - w->graph->local_count);
    return code;
}

belay_code belay_warm_start(belay_session *session, const char *prefix,
                            const belay_warm_start_options *given,
                            belay_warm_start_report **out_report, belay_error *err) {
    belay_warm_start_options options;
    BLY_LOCAL_ERROR(mine);
    if (out_report)
        *out_report = NULL;
    if (!session || !prefix)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL", session ? "prefix" : "session");
    if (bly_options_read(&options, sizeof options, given, "belay_warm_start_options", err) !=
        BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    if (!bly_checkpoint_exists(prefix))
        return bly_fail(err, BELAY_NOT_FOUND, "The passed save_path is not a valid checkpoint: %s",
                        prefix);
    struct warm_start w = {.graph = belay_session_graph(session)};
    bly_bundle *bundle = bly_saver_load_verified(prefix, &mine);
    belay_warm_start_report *report = bundle ? bly_calloc(1, sizeof *report) : NULL;
    w.bundle = bundle;
    if (bundle && !report)
        bly_fail_memory(&mine);
    if (report)
        run(&w, session, options.assignments, report, &mine);
    bly_free(w.items);
    bly_object_map_free(&w.objects);
    bly_bundle_free(bundle);
    if (mine.code == BELAY_OK && out_report)
        *out_report = report;
    else
        belay_warm_start_report_free(report);
    if (mine.code != BELAY_OK)
        bly_error_copy(err, &mine);
    return mine.code;
}
