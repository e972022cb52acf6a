#include <belay/run.h>
#include "base/error.h"
belay_code belay_export_saved_model(const belay_export_options *o, int64_t *out_step, belay_error *err) {
    (void)o; (void)out_step;
    return bly_fail(err, BELAY_UNIMPLEMENTED, "not yet");
}
