/* What the parts of the saver share: saver.c (making, saving), restore.c, retain.c. */
#ifndef BLY_CHECKPOINT_SAVER_IMPL_H
#define BLY_CHECKPOINT_SAVER_IMPL_H

#include "checkpoint/bundle.h"
#include "checkpoint/saver.h"
#include "checkpoint/state.h"
#include "graph/defaults.h"
#include "graph/graph.h"

#include <stdatomic.h>

struct bly_metric {
    char *name;
    double value;
};

struct belay_saver {
    atomic_int references;
    belay_graph *graph;
    Bly__SaverDef *built;     /* what belay built; NULL: the graph brought its own */
    const Bly__SaverDef *def; /* NULL: an empty saver (SV-03) */
    int has_side;             /* the global step goes into a bundle of its own */
    bly_side_saver side;
    int32_t max_to_keep; /* BELAY_KEEP_ALL: never delete */
    double keep_every_hours;
    char *best_metric; /* NULL: none */
    int32_t keep_best;
    int best_is_max;
    char **known; /* checkpoints, oldest first */
    size_t known_count, known_capacity;
    char **damaged; /* found damaged while restoring; put out of the way at the next save */
    size_t damaged_count, damaged_capacity;
    int64_t origin_unix_ms; /* when the run first saved: keep-every-hours counts from here; 0: not
                               yet */
    char *input_position;
    struct bly_metric *metrics;
    size_t metric_count, metric_capacity;
    char *saved_prefix; /* what belay_saver_save() last handed out */
    char *restored_prefix;
    char *restored_input;
};

/* Makes `prefix` the newest of the known checkpoints (SV-31). */
belay_code bly_saver_remember(belay_saver *saver, const char *prefix, belay_error *err);
void bly_saver_forget_all(belay_saver *saver);

/* Deletes what the policy no longer wants (SV-32 to SV-36, BUG-34 to BUG-36); 1 where something
 * was. What cannot be deleted is logged. */
int bly_saver_retain(belay_saver *saver);

/* PREFIX.belay.json beside the files that were just written. */
belay_code bly_saver_write_manifest(belay_saver *saver, const char *prefix, int64_t step,
                                    belay_error *err);

/* Runs an op (NULL: none) or fetches a tensor of the graph (NULL: none), feeding one path. */
belay_code bly_saver_run(belay_session *session, const char *feed, const char *path,
                         const char *fetch, const char *target, belay_error *err);

#endif
