/* RUN/belay.ledger.jsonl: what happened to a run, one JSON object a line, across restarts. Each
 * line is added by one write at the end of the file, so a killed process leaves at most a cut last
 * line. A ledger that cannot be written is warned about once and does not stop training. */
#ifndef BLY_RUN_LEDGER_H
#define BLY_RUN_LEDGER_H

#include "base/buf.h"

#include <belay/error.h>

#include <stdint.h>

#define BLY_LEDGER_FILE "belay.ledger.jsonl"

typedef struct bly_ledger bly_ledger;

bly_ledger *bly_ledger_open(const char *folder, belay_error *err);

/* A line is begun with its event and step (-1: none), gets further fields, and is written at the
 * end. */
void bly_ledger_begin(bly_ledger *ledger, const char *event, int64_t step);
void bly_ledger_text(bly_ledger *ledger, const char *key,
                     const char *value); /* NULL value: left out */
void bly_ledger_integer(bly_ledger *ledger, const char *key, int64_t value);
void bly_ledger_number(bly_ledger *ledger, const char *key, double value);
void bly_ledger_truth(bly_ledger *ledger, const char *key, int value);
void bly_ledger_end(bly_ledger *ledger);

void bly_ledger_close(bly_ledger *ledger); /* NULL is fine */

/* How the training in a folder stands, by the last line that says so. */
typedef enum bly_ledger_state {
    BLY_LEDGER_UNKNOWN, /* there is no ledger */
    BLY_LEDGER_STARTED, /* it runs, or its process was killed */
    BLY_LEDGER_STOPPED, /* it ended, and may go on */
    BLY_LEDGER_OVER,    /* it reached its end */
} bly_ledger_state;

/* `reason` gets what the stop says. */
bly_ledger_state bly_ledger_look(const char *folder, char *reason, size_t room);

#endif
