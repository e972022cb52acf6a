/* Which checkpoints to delete: a function of what there is and what was asked for, and of nothing
 * else, so that it gives the same answer after any number of restarts (BUG-35), and brings a folder
 * down to size at once (BUG-34). */
#ifndef BLY_CHECKPOINT_RETENTION_H
#define BLY_CHECKPOINT_RETENTION_H

#include <stddef.h>
#include <stdint.h>

/* Why one is kept; several may hold. None: it is to be deleted. */
#define BLY_KEEP_ALL   1u /* the policy deletes nothing */
#define BLY_KEEP_LAST  2u
#define BLY_KEEP_HOURS 4u
#define BLY_KEEP_BEST  8u
#define BLY_KEEP_PIN   16u

typedef struct bly_retention_entry {
    double saved;  /* seconds since 1970; infinity: never to be deleted (SV-37) */
    double metric; /* NaN: has none */
    int pinned;
} bly_retention_entry;

typedef struct bly_retention_policy {
    int64_t keep_last; /* 0 or less: all (SV-30) */
    /* Besides, the first checkpoint saved after each whole multiple of this, counted from `origin`;
     * 0 or less: off. */
    double keep_every_hours;
    double origin; /* when the run began to save, seconds since 1970; NaN: when the oldest entry was
                      saved */
    size_t keep_best;
    int best_is_max;
} bly_retention_policy;

/* Fills out_why[i] for each of `count` entries, which come oldest first. The newest is always kept.
 */
void bly_retention(const bly_retention_entry *entries, size_t count,
                   const bly_retention_policy *policy, uint8_t *out_why);

#endif
