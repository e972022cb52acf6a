/*
 * A tensor that was fed may outlive its step: the graph can put it in a queue, or assign it to a
 * variable, and then TensorFlow keeps the buffer. So memory is handed to TensorFlow with a release
 * callback, and used again only when it came back; as long as it has not, the next batch goes
 * elsewhere.
 */
#define _POSIX_C_SOURCE 200809L
#include "run/feeds.h"

#include "base/error.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 /* what TensorFlow uses without a copy */

struct buffer {
    atomic_int holders; /* the feed, and the tensor that was made over it */
    void *data;
};

struct feed {
    belay_dtype dtype;
    uint32_t rank;
    int64_t *dims; /* the first one is set for each batch */
    int64_t row_elements;
    size_t row_bytes;      /* 0 for strings */
    struct buffer *buffer; /* NULL: none yet */
};

struct bly_feeds {
    size_t count;
    struct feed *feeds;
    belay_tensor **tensors;
    void **destinations;
    belay_npy **arrays;
    belay_batches *batches;
    int64_t batch;
    int64_t left_out;
};

/* --- memory ----------------------------------------------------------------------------------- */

static void buffer_unref(struct buffer *buffer) {
    if (!buffer || atomic_fetch_sub(&buffer->holders, 1) != 1)
        return;
    free(buffer->data);
    bly_free(buffer);
}

static void release(void *self, void *data) {
    (void)data;
    buffer_unref(self);
}

static struct buffer *buffer_new(size_t size) {
    struct buffer *buffer = bly_calloc(1, sizeof *buffer);
    if (buffer && posix_memalign(&buffer->data, ALIGNMENT, size ? size : 1)) {
        bly_free(buffer);
        return NULL;
    }
    if (buffer)
        atomic_init(&buffer->holders, 1);
    return buffer;
}

/* Memory that nobody else looks at, for a whole batch. */
static belay_code need_buffer(struct feed *feed, int64_t batch, belay_error *err) {
    if (feed->buffer && atomic_load(&feed->buffer->holders) == 1)
        return BELAY_OK;
    buffer_unref(feed->buffer);
    feed->buffer = buffer_new((size_t)batch * feed->row_bytes);
    return feed->buffer ? BELAY_OK : bly_fail_memory(err);
}

/* --- checking --------------------------------------------------------------------------------- */

static belay_code does_not_fit(const char *name, const belay_npy *npy, const bly_plan_feed *wanted,
                               const char *advice, belay_error *err) {
    bly_buf is = BLY_BUF_INIT, should = BLY_BUF_INIT;
    int64_t dims[BELAY_RANK_MAX];
    uint32_t rank = belay_npy_rank(npy);
    for (uint32_t i = 0; i < rank && i < BELAY_RANK_MAX; i++)
        dims[i] = belay_npy_dim(npy, i);
    bly_describe_tensor(belay_npy_dtype(npy), (int32_t)rank, dims, &is);
    bly_describe_tensor(wanted->dtype, wanted->rank, wanted->dims, &should);
    belay_code code =
        bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is %s, but '%s' takes %s%s", belay_npy_path(npy),
                 bly_buf_text(&is), name, bly_buf_text(&should), advice);
    bly_buf_free(&is);
    bly_buf_free(&should);
    return code;
}

static belay_code check_array(const char *name, const belay_npy *npy, const bly_plan_feed *wanted,
                              belay_error *err) {
    char advice[128];
    if (wanted->dtype != belay_npy_dtype(npy)) {
        snprintf(advice, sizeof advice, ": convert it with .astype('%s')",
                 belay_dtype_name(wanted->dtype));
        return does_not_fit(
            name, npy, wanted,
            wanted->dtype == BELAY_STRING || belay_npy_dtype(npy) == BELAY_STRING ? "" : advice,
            err);
    }
    if (wanted->rank == 0)
        return does_not_fit(name, npy, wanted, ": a scalar takes no rows", err);
    if (wanted->rank < 0)
        return BELAY_OK;
    if ((uint32_t)wanted->rank != belay_npy_rank(npy))
        return does_not_fit(name, npy, wanted, "", err);
    for (int32_t i = 1; i < wanted->rank; i++)
        if (wanted->dims[i] >= 0 && wanted->dims[i] != belay_npy_dim(npy, (uint32_t)i))
            return does_not_fit(name, npy, wanted, "", err);
    return BELAY_OK;
}

/* The size of a batch that the graph fixes; 0: it takes any. */
static belay_code fixed_batch(const bly_plan *plan, int64_t *out, belay_error *err) {
    const char *who = NULL;
    *out = 0;
    for (size_t i = 0; i < plan->feed_names.count; i++) {
        const bly_plan_feed *feed = &plan->feeds[i];
        if (feed->rank < 1 || feed->dims[0] < 0)
            continue;
        if (feed->dims[0] == 0 || (who && feed->dims[0] != *out))
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "'%s' takes batches of exactly %" PRId64 " rows%s%s%s",
                            plan->feed_names.items[i], feed->dims[0], who ? ", '" : "",
                            who ? who : "", who ? "' of another number" : "");
        *out = feed->dims[0];
        who = plan->feed_names.items[i];
    }
    return BELAY_OK;
}

static belay_code choose_batch(const bly_plan *plan, const bly_feeds_options *options,
                               int64_t *out_batch, int *out_fixed, belay_error *err) {
    int64_t fixed;
    belay_code code = fixed_batch(plan, &fixed, err);
    if (code == BELAY_OK && fixed && options->batch && options->batch != fixed)
        code = bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the graph takes batches of exactly %" PRId64 " rows, not %" PRId64, fixed,
                        options->batch);
    *out_fixed = fixed != 0;
    *out_batch = fixed ? fixed : options->batch ? options->batch : options->default_batch;
    return code;
}

/* --- opening ---------------------------------------------------------------------------------- */

static belay_code open_array(bly_feeds *feeds, const bly_plan *plan, size_t i, const char *file,
                             belay_error *err) {
    struct feed *feed = &feeds->feeds[i];
    belay_npy *npy = belay_npy_load(file, err);
    feeds->arrays[i] = npy;
    if (!npy)
        return belay_error_code(err);
    feed->dtype = belay_npy_dtype(npy);
    feed->rank = belay_npy_rank(npy);
    feed->row_elements = belay_npy_row_elements(npy);
    feed->row_bytes = belay_npy_row_bytes(npy);
    feed->dims = bly_calloc(feed->rank, sizeof *feed->dims);
    if (!feed->dims)
        return bly_fail_memory(err);
    for (uint32_t k = 1; k < feed->rank; k++)
        feed->dims[k] = belay_npy_dim(npy, k);
    return check_array(plan->feed_names.items[i], npy, &plan->feeds[i], err);
}

static belay_code prepare_batches(bly_feeds *feeds, const bly_plan *plan,
                                  const bly_feeds_options *options, belay_error *err) {
    belay_batches_options o = BELAY_BATCHES_OPTIONS_INIT;
    int is_fixed;
    belay_code code = choose_batch(plan, options, &feeds->batch, &is_fixed, err);
    if (code != BELAY_OK)
        return code;
    o.batch_size = feeds->batch;
    o.epochs = options->epochs;
    o.seed = options->seed;
    o.flags =
        (options->shuffle ? BELAY_BATCHES_SHUFFLE : 0) | (is_fixed ? BELAY_BATCHES_DROP_SHORT : 0);
    feeds->batches = belay_batches_prepare(bly_names_list(&plan->feed_names), feeds->arrays,
                                           feeds->count, &o, err);
    if (!feeds->batches)
        return belay_error_code(err);
    if (feeds->batch > belay_batches_rows(feeds->batches))
        feeds->batch = belay_batches_rows(feeds->batches);
    if (is_fixed)
        feeds->left_out = belay_batches_rows(feeds->batches) % feeds->batch;
    return BELAY_OK;
}

bly_feeds *bly_feeds_open(const bly_plan *plan, const char *const *files,
                          const bly_feeds_options *options, belay_error *err) {
    bly_feeds *feeds = bly_calloc(1, sizeof *feeds);
    if (!feeds) {
        bly_fail_memory(err);
        return NULL;
    }
    feeds->count = plan->feed_names.count;
    feeds->feeds = bly_calloc(feeds->count, sizeof *feeds->feeds);
    feeds->tensors = bly_calloc(feeds->count, sizeof *feeds->tensors);
    feeds->destinations = bly_calloc(feeds->count, sizeof *feeds->destinations);
    feeds->arrays = bly_calloc(feeds->count, sizeof *feeds->arrays);
    belay_code code = BELAY_OK;
    if (!feeds->feeds || !feeds->tensors || !feeds->destinations || !feeds->arrays)
        code = bly_fail_memory(err);
    for (size_t i = 0; i < feeds->count && code == BELAY_OK; i++)
        code = open_array(feeds, plan, i, files[i], err);
    if (code == BELAY_OK)
        code = prepare_batches(feeds, plan, options, err);
    if (code == BELAY_OK)
        return feeds;
    bly_feeds_close(feeds);
    return NULL;
}

void bly_feeds_close(bly_feeds *feeds) {
    if (!feeds)
        return;
    for (size_t i = 0; i < feeds->count; i++) {
        if (feeds->tensors)
            belay_tensor_free(feeds->tensors[i]);
        if (feeds->feeds) {
            buffer_unref(feeds->feeds[i].buffer);
            bly_free(feeds->feeds[i].dims);
        }
        if (feeds->arrays)
            belay_npy_free(feeds->arrays[i]);
    }
    belay_batches_free(feeds->batches);
    bly_free(feeds->feeds);
    bly_free(feeds->tensors);
    bly_free(feeds->destinations);
    bly_free(feeds->arrays);
    bly_free(feeds);
}

belay_batches *bly_feeds_batches(bly_feeds *feeds) {
    return feeds->batches;
}

int64_t bly_feeds_left_out(const bly_feeds *feeds) {
    return feeds->left_out;
}

/* --- a batch ---------------------------------------------------------------------------------- */

static belay_tensor *make_tensor(bly_feeds *feeds, size_t i, int64_t rows, belay_error *err) {
    struct feed *feed = &feeds->feeds[i];
    feed->dims[0] = rows;
    if (feed->dtype == BELAY_STRING) {
        const char *const *strings;
        const size_t *lengths;
        if (belay_batches_strings(feeds->batches, i, &strings, &lengths, err) != BELAY_OK)
            return NULL;
        return belay_tensor_new_strings(strings, lengths, feed->dims, feed->rank, err);
    }
    atomic_fetch_add(&feed->buffer->holders, 1); /* given back by release, in any case */
    return belay_tensor_new_over(feed->dtype, feed->dims, feed->rank, feed->buffer->data,
                                 (size_t)rows * feed->row_bytes, release, feed->buffer, err);
}

belay_code bly_feeds_next(bly_feeds *feeds, belay_tensor *const **out, int64_t *out_rows,
                          belay_error *err) {
    int64_t rows = 0;
    for (size_t i = 0; i < feeds->count; i++) {
        belay_tensor_free(feeds->tensors[i]);
        feeds->tensors[i] = NULL;
        feeds->destinations[i] = NULL;
        if (feeds->feeds[i].dtype == BELAY_STRING)
            continue;
        belay_code code = need_buffer(&feeds->feeds[i], feeds->batch, err);
        if (code != BELAY_OK)
            return code;
        feeds->destinations[i] = feeds->feeds[i].buffer->data;
    }
    belay_code code = belay_batches_next(feeds->batches, feeds->destinations, &rows, err);
    for (size_t i = 0; i < feeds->count && code == BELAY_OK; i++) {
        feeds->tensors[i] = make_tensor(feeds, i, rows, err);
        if (!feeds->tensors[i])
            code = belay_error_code(err);
    }
    *out = feeds->tensors;
    if (out_rows)
        *out_rows = rows;
    return code;
}
