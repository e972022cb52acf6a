/* The ops that TensorFlow's Scaffold makes where a graph lacks them, built through the C API (SC-07
 * to SC-15, SC-24). All of them fail with FAILED_PRECONDITION on a finalised graph. Except for the
 * saver, whoever asks for one also adds it to its collection. */
#ifndef BLY_GRAPH_DEFAULTS_H
#define BLY_GRAPH_DEFAULTS_H

#include "graph/graph.h"

/* Groups ops under a NoOp that depends on them. `name` is made unique. NULL on error; count 0 makes
 * an empty group. */
TF_Operation *bly_build_group(belay_graph *graph, const char *name, TF_Operation *const *ops,
                              size_t count, belay_error *err);

/* Default init_op (SC-07), local_init_op (SC-10). Create ops of `resources` and `local_resources`
 * cannot be had from an exported graph (SC-25): belay_graph_problem() names what that leaves
 * unfilled. Variables of a SavedModel have no initializer: they start from
 * graph->initial_checkpoint. */
TF_Operation *bly_build_init_op(belay_graph *graph, belay_error *err);
TF_Operation *bly_build_local_init_op(belay_graph *graph, belay_error *err);

/* Default ready_op (SC-08) and ready_for_local_init_op (SC-09): names of what is not initialised,
 * one string each. */
belay_code bly_build_ready_op(belay_graph *graph, int with_local, TF_Output *out, belay_error *err);

/* Merges collection `summaries` (SC-11); out->oper NULL where there are none. */
belay_code bly_build_summary_op(belay_graph *graph, TF_Output *out, belay_error *err);

/* A sharded saver over `variables` and its SaverDef (SC-12, SV-09, SV-14, SV-15), which is added to
 * collection `savers` and which the caller frees with bly_wire_free() or
 * bly__saver_def__free_unpacked(). NULL without an error where there is nothing to save (SV-03). A
 * restored value whose shape does not fit its variable is INVALID_ARGUMENT (BUG-29). */
Bly__SaverDef *bly_build_saver(belay_graph *graph, belay_error *err);

/* Another saver than that: one that a caller describes. It goes into no collection. */
typedef struct bly_saver_plan {
    const char *scope;            /* ops are made in SCOPE/save; NULL: in save */
    const char *const *variables; /* names, NULL after the last; NULL: all of `variables` */
    const char *const *keys;      /* as many; NULL, the list or one of it: the variable's own */
    int sharded;
    int reshape; /* what is restored takes the variable's shape (SV-47) */
} bly_saver_plan;
/* INVALID_ARGUMENT: two of the variables have one key, or one is there twice (SV-04). NOT_FOUND:
 * the graph has no such variable. */
Bly__SaverDef *bly_build_saver_as(belay_graph *graph, const bly_saver_plan *plan, belay_error *err);

/* NOT_FOUND, with the nearest name there is. */
belay_code bly_graph_no_variable(const belay_graph *graph, const char *name, belay_error *err);

/* What comes from which key. */
typedef struct bly_restored {
    const bly_variable *variable; /* or a slice of one */
    const char *key;
} bly_restored;

/* Ops of belay's own, also on a finalised graph: *out_restore reads the checkpoint whose prefix is
 * fed to *out_prefix, and assigns once every shape is right. */
belay_code bly_build_restore(const belay_graph *graph, const bly_restored *items, size_t count,
                             TF_Output *out_prefix, TF_Operation **out_restore, belay_error *err);

/* Ops that save one variable under its own name into a bundle of its own, merge bundles, and
 * restore that variable: for the global step that belay adds to a SavedModel, whose own saver has
 * fixed keys. */
typedef struct bly_side_saver {
    TF_Output prefix;       /* feed: bundle prefix, a string scalar, for save and restore */
    TF_Operation *save;     /* writes the bundle */
    TF_Output merge_inputs; /* feed: prefixes, a string vector */
    TF_Output merge_output; /* feed: destination prefix, a string scalar */
    TF_Operation *merge; /* MergeV2Checkpoints; deletes the inputs, and their folders where they are
                            empty then */
    TF_Operation *restore;
} bly_side_saver;
belay_code bly_build_side_saver(belay_graph *graph, bly_side_saver *out, belay_error *err);

#endif
