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

struct bly_listed {
    char *name;
    char *key;
};

struct belay_saver {
    atomic_int references;
    belay_graph *graph;
    Bly__SaverDef *built;      /* what belay built; NULL: the graph brought its own */
    Bly__SaverDef *scoped;     /* the graph's own, under a name scope (SV-12); NULL: as it is */
    const Bly__SaverDef *def;  /* NULL: an empty saver (SV-03) */
    uint32_t flags;            /* BELAY_SAVER_* */
    struct bly_listed *listed; /* the variables that it was asked to save; none: all */
    size_t listed_count;
    int has_side; /* the global step goes into a bundle of its own */
    bly_side_saver side;
    int32_t max_to_keep; /* BELAY_KEEP_ALL: never delete */
    double keep_every_hours;
    char *best_metric; /* NULL: none */
    int32_t keep_best;
    int best_is_max;
    char **known; /* checkpoints, oldest first */
    size_t known_count, known_capacity;
    char **foreign; /* those of them that another folder's run may own: never deleted */
    size_t foreign_count, foreign_capacity;
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

/* Loads a checkpoint of either format and checks every byte. NULL with DATA_LOSS or NOT_FOUND where
 * another one should be tried. */
bly_bundle *bly_saver_load_verified(const char *prefix, belay_error *err);

/* Runs an op that restores, feeding it the prefix. */
belay_code bly_saver_run_restore(belay_session *session, const char *feed, const char *prefix,
                                 const char *target, belay_error *err);

/* Restores through ops that are added for it. What they restore was compared with the graph. */
belay_code bly_saver_restore_items(belay_session *session, const belay_graph *graph,
                                   const bly_restored *items, size_t count, const char *prefix,
                                   belay_error *err);

/* Where restoring found that a key is missing: maps names by the object graph that
 * tf.train.Checkpoint leaves in its checkpoints (SV-44), and restores through ops of its own.
 * *out_done is 0 where this is no such checkpoint, or it lacks something, too. */
belay_code bly_saver_restore_objects(belay_saver *saver, belay_session *session,
                                     const bly_bundle *bundle, int *out_done, belay_error *err);

/* Names of a graph's variables -> keys of an object-based checkpoint. Start from zeroes; stays
 * empty where the checkpoint is none. */
typedef struct bly_object_map {
    char **names, **keys;
    size_t count, capacity;
} bly_object_map;
belay_code bly_object_map_load(bly_object_map *map, const bly_bundle *bundle, belay_error *err);
/* The same from the message itself; `prefix` is only named in errors. */
belay_code bly_object_map_read(bly_object_map *map, const char *prefix, const void *data,
                               size_t size, belay_error *err);
const char *bly_object_map_find(const bly_object_map *map, const char *name); /* or NULL */
void bly_object_map_free(bly_object_map *map);
#define BLY_OBJECT_GRAPH_KEY "_CHECKPOINTABLE_OBJECT_GRAPH"

/* Compares what is under `key` with a variable, or a slice of one, in the graph (SV-45, BUG-29).
 * `reshapes`: what restores it gives it the variable's shape (SV-47). */
belay_code bly_saver_compare(const belay_graph *graph, const bly_bundle *bundle, const char *key,
                             const bly_variable *variable, int reshapes, belay_error *err);
/* Keys of the RestoreV2 ops that the saver runs, each given to `each`. */
typedef belay_code bly_each_key(void *self, const char *key, int reshapes, belay_error *err);
belay_code bly_saver_each_key(belay_saver *saver, bly_each_key *each, void *self, belay_error *err);

/* Makes `prefix` the newest of the known checkpoints (SV-31). */
belay_code bly_saver_remember(belay_saver *saver, const char *prefix, belay_error *err);
/* Makes copies of these all that is known, oldest first; of equal ones the last stays. */
belay_code bly_saver_know(belay_saver *saver, const char *const *prefixes, size_t count,
                          belay_error *err);
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
