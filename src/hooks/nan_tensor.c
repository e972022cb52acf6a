/* Fails, or stops, when the loss is not a number (HK-NAN). */
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "hooks/make.h"

#include <belay/hooks.h>

#include <math.h>
#include <stddef.h>

_Static_assert(sizeof(belay_nan_tensor_options) ==
                   offsetof(belay_nan_tensor_options, reserved) + sizeof(uint32_t),
               "no tail padding");

#define DIVERGED "Model diverged with loss = NaN."

typedef struct nan_tensor {
    char *name;
    belay_output loss;
    int stops; /* instead of failing */
} nan_tensor;

static belay_code not_scalar(const nan_tensor *hook, belay_error *err) {
    return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is not a scalar: it cannot be a loss",
                    hook->name);
}

/* Types that have a NaN, and types that a loss may have without one. */
static int has_nan(belay_dtype dtype) {
    return dtype == BELAY_FLOAT || dtype == BELAY_DOUBLE || dtype == BELAY_HALF ||
           dtype == BELAY_BFLOAT16;
}

static int is_integer(belay_dtype dtype) {
    return dtype == BELAY_INT32 || dtype == BELAY_INT64 || dtype == BELAY_INT16 ||
           dtype == BELAY_INT8 || dtype == BELAY_UINT8 || dtype == BELAY_UINT16 ||
           dtype == BELAY_UINT32 || dtype == BELAY_UINT64 || dtype == BELAY_BOOL;
}

/* What the graph knows of the loss is checked before the first step; the rest when there is a
 * value. */
static belay_code begin(void *self, belay_graph *graph, belay_error *err) {
    nan_tensor *hook = self;
    belay_dtype dtype;
    int32_t rank;
    int64_t dims[1];
    belay_code code = belay_graph_find_output(graph, hook->name, &hook->loss, err);
    if (code != BELAY_OK || !belay_graph_tensor_info(graph, hook->name, &dtype, &rank, dims, 1))
        return code;
    if (rank > 1 || (rank == 1 && dims[0] >= 0 && dims[0] != 1))
        return not_scalar(hook, err);
    return BELAY_OK;
}

static belay_code before_run(void *self, belay_run_context *run, belay_error *err) {
    nan_tensor *hook = self;
    return belay_run_context_fetch(run, hook->loss, err);
}

static belay_code after_run(void *self, belay_run_context *run, belay_error *err) {
    nan_tensor *hook = self;
    const belay_tensor *loss = belay_run_context_value(run, 0);
    if (!loss || belay_tensor_count(loss) != 1)
        return not_scalar(hook, err);
    belay_dtype dtype = belay_tensor_dtype(loss);
    if (!has_nan(dtype) && !is_integer(dtype))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is of type %s: it cannot be a loss",
                        hook->name, belay_dtype_name(dtype));
    if (!has_nan(dtype) || !isnan(belay_tensor_number(loss, 0)))
        return BELAY_OK;
    if (hook->stops) {
        bly_warn(DIVERGED);
        belay_run_context_request_stop(run);
        return BELAY_OK;
    }
    bly_error(DIVERGED);
    return bly_fail(err, BELAY_NAN_LOSS, "NaN loss during training.");
}

static void destroy(void *self) {
    nan_tensor *hook = self;
    bly_free(hook->name);
    bly_free(hook);
}

static belay_code read_options(void *self, const void *given, belay_error *err) {
    nan_tensor *hook = self;
    belay_nan_tensor_options options;
    if (bly_options_read(&options, sizeof options, given, "belay_nan_tensor_options", err) !=
        BELAY_OK)
        return BELAY_INVALID_ARGUMENT;
    if (!options.loss_tensor || options.stop_on_nan_loss > 1 || options.reserved)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s",
                        !options.loss_tensor ? "loss_tensor must be given"
                        : options.reserved   ? "reserved must be 0"
                                             : "stop_on_nan_loss must be 0 or 1");
    hook->stops = options.stop_on_nan_loss != 0;
    hook->name = bly_strdup(options.loss_tensor);
    return hook->name ? BELAY_OK : bly_fail_memory(err);
}

belay_hook *belay_nan_tensor_hook_new(const belay_nan_tensor_options *given, belay_error *err) {
    static const belay_hook_vtable table = {
        .struct_size = sizeof table,
        .begin = begin,
        .before_run = before_run,
        .after_run = after_run,
        .destroy = destroy,
        .name = "NanTensorHook",
    };
    return bly_hook_make(&table, sizeof(nan_tensor), read_options, given, err);
}
