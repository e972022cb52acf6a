/* What the values of a summary are, whichever TensorFlow wrote them. */
#ifndef BLY_SUMMARY_EVENT_VALUES_H
#define BLY_SUMMARY_EVENT_VALUES_H

#include "wire/summary.pb-c.h"

#include <belay/events.h>

/* Fills `out`, which borrows from `value`. `plugin` is what is known of its tag ("": nothing). */
void bly_event_value(const Bly__SummaryValues__Value *value, const char *plugin,
                     belay_summary_value *out);

#endif
