#include "checkpoint/retention.h"

#include <math.h>

#define SECONDS_AN_HOUR 3600.0

static double find_origin(const bly_retention_entry *entries, size_t count, double given) {
    double oldest = INFINITY;
    if (!isnan(given))
        return given;
    for (size_t i = 0; i < count; i++)
        if (entries[i].saved < oldest) /* false for NaN */
            oldest = entries[i].saved;
    return oldest;
}

/* The period that a checkpoint was saved in. One that was saved exactly at its start belongs to the
 * one before (SV-34: strictly later). 0: the first, in which none is kept. */
static double period_of(double saved, double origin, double length) {
    double period = ceil((saved - origin) / length) - 1;
    return period > 0 ? period : 0; /* 0 for NaN too */
}

static void keep_by_hours(const bly_retention_entry *entries, size_t count,
                          const bly_retention_policy *policy, uint8_t *out_why) {
    double length = policy->keep_every_hours * SECONDS_AN_HOUR;
    double origin = find_origin(entries, count, policy->origin), last = 0;
    for (size_t i = 0; i < count; i++) {
        if (isinf(entries[i].saved) && entries[i].saved > 0) {
            out_why[i] |= BLY_KEEP_HOURS;
            continue;
        }
        double period = length > 0 ? period_of(entries[i].saved, origin, length) : 0;
        /* A clock that was set back makes periods go down; each is still served once. */
        if (period > last) {
            out_why[i] |= BLY_KEEP_HOURS;
            last = period;
        }
    }
}

static int is_better(const bly_retention_entry *a, const bly_retention_entry *b, int best_is_max) {
    return best_is_max ? a->metric > b->metric : a->metric < b->metric;
}

/* Of two that are equally good the newer one is better. */
static void keep_best(const bly_retention_entry *entries, size_t count,
                      const bly_retention_policy *policy, uint8_t *out_why) {
    for (size_t n = 0; n < policy->keep_best && n < count; n++) {
        size_t best = count;
        for (size_t i = 0; i < count; i++) {
            if (isnan(entries[i].metric) || (out_why[i] & BLY_KEEP_BEST))
                continue;
            if (best == count || !is_better(&entries[best], &entries[i], policy->best_is_max))
                best = i;
        }
        if (best == count)
            return;
        out_why[best] |= BLY_KEEP_BEST;
    }
}

void bly_retention(const bly_retention_entry *entries, size_t count,
                   const bly_retention_policy *policy, uint8_t *out_why) {
    uint64_t last = policy->keep_last > 0 ? (uint64_t)policy->keep_last : 0;
    for (size_t i = 0; i < count; i++) {
        out_why[i] = policy->keep_last <= 0 ? BLY_KEEP_ALL : 0;
        if (count - i <= last || i + 1 == count)
            out_why[i] |= BLY_KEEP_LAST;
        if (entries[i].pinned)
            out_why[i] |= BLY_KEEP_PIN;
    }
    keep_by_hours(entries, count, policy, out_why);
    keep_best(entries, count, policy, out_why);
}
