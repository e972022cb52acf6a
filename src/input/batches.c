#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "input/npy.h"
#include "input/shuffle.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define BATCH_SIZE_DEFAULT 32

static const uint32_t flags_known =
    BELAY_BATCHES_SHUFFLE | BELAY_BATCHES_DROP_SHORT | BELAY_BATCHES_NO_READ_AHEAD;

_Static_assert(sizeof(belay_batches_options) ==
                   offsetof(belay_batches_options, reserved) + sizeof(uint32_t),
               "no tail padding");

struct array {
    char *name;
    belay_npy *npy;
    struct bly_npy_strings strings; /* of the batch handed out last, where it holds strings */
};

struct belay_batches {
    belay_batches_options options;
    int64_t rows;
    int64_t epoch; /* of the next batch */
    int64_t row;   /* where the next batch begins, in the epoch's order; always less than `rows` */
    int handed_out;
    bly_shuffle shuffle; /* where the option says so */
    size_t count;
    struct array arrays[];
};

static int has(const belay_batches *batches, uint32_t flag) {
    return (batches->options.flags & flag) != 0;
}

/* ---- Making ---- */

static belay_code check_options(belay_batches_options *options, belay_error *err) {
    if (options->batch_size < 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "batch_size is %" PRId64 ": give 1 or more",
                        options->batch_size);
    if (options->epochs < 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "epochs is %" PRId64 ": give 1 or more, or 0 for no limit",
                        options->epochs);
    if (options->flags & ~flags_known || options->reserved)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "belay_batches_options has a flag set that this belay does not know");
    if (options->batch_size == 0)
        options->batch_size = BATCH_SIZE_DEFAULT;
    return BELAY_OK;
}

static belay_code check_arrays(const char *const *names, belay_npy *const *arrays, size_t count,
                               const belay_batches_options *options, belay_error *err) {
    if (count == 0 || !names || !arrays)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "no arrays are given to be cut into batches");
    for (size_t i = 0; i < count; i++)
        if (!names[i] || !arrays[i])
            return bly_fail(err, BELAY_INVALID_ARGUMENT, "array %zu has no name or is NULL", i);
    int64_t rows = belay_npy_rows(arrays[0]);
    for (size_t i = 1; i < count; i++)
        if (belay_npy_rows(arrays[i]) != rows)
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "the arrays differ in length: %s (%s) has %" PRId64
                            " rows and %s (%s) has %" PRId64
                            ": save them with the same number of rows",
                            names[0], belay_npy_path(arrays[0]), rows, names[i],
                            belay_npy_path(arrays[i]), belay_npy_rows(arrays[i]));
    if (rows == 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s (%s) has no rows: there is nothing to cut into batches", names[0],
                        belay_npy_path(arrays[0]));
    if (options->flags & BELAY_BATCHES_DROP_SHORT && rows < options->batch_size)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s (%s) has %" PRId64 " rows, less than one batch of %" PRId64
                        ", and short batches are left out: use a smaller batch",
                        names[0], belay_npy_path(arrays[0]), rows, options->batch_size);
    if (options->flags & BELAY_BATCHES_SHUFFLE && rows > (int64_t)UINT32_MAX)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "%s (%s) has %" PRId64 " rows, and at most %" PRIu32
                        " can be shuffled: shuffle the file beforehand, or read it in order",
                        names[0], belay_npy_path(arrays[0]), rows, UINT32_MAX);
    return BELAY_OK;
}

belay_batches *belay_batches_prepare(const char *const *names, belay_npy *const *arrays,
                                     size_t count, const belay_batches_options *given,
                                     belay_error *err) {
    belay_batches_options options;
    if (belay_error_code(err) != BELAY_OK)
        for (size_t i = 0; arrays && i < count; i++)
            if (!arrays[i])
                return NULL; /* a chain of makers: err says what failed first */
    if (bly_options_read(&options, sizeof options, given, "belay_batches_options", err) !=
            BELAY_OK ||
        check_options(&options, err) != BELAY_OK ||
        check_arrays(names, arrays, count, &options, err) != BELAY_OK)
        return NULL;
    belay_batches *batches = bly_calloc(1, sizeof *batches + count * sizeof batches->arrays[0]);
    if (!batches)
        goto no_memory;
    batches->options = options;
    batches->rows = belay_npy_rows(arrays[0]);
    for (size_t i = 0; i < count; i++) {
        batches->arrays[i].name = bly_strdup(names[i]);
        if (!batches->arrays[i].name)
            goto no_memory;
        batches->arrays[i].npy = bly_npy_ref(arrays[i]);
        batches->count++;
    }
    if (has(batches, BELAY_BATCHES_SHUFFLE) &&
        !bly_shuffle_init(&batches->shuffle, (uint32_t)batches->rows))
        goto no_memory;
    for (size_t i = 0; i < count && !has(batches, BELAY_BATCHES_NO_READ_AHEAD); i++)
        if (!bly_npy_is_large(arrays[i]))
            bly_npy_will_need_all(arrays[i]);
    return batches;
no_memory:
    belay_batches_free(batches);
    bly_fail_memory(err);
    return NULL;
}

void belay_batches_free(belay_batches *batches) {
    if (!batches)
        return;
    for (size_t i = 0; i < batches->count; i++) {
        bly_free(batches->arrays[i].name);
        belay_npy_free(batches->arrays[i].npy);
        bly_npy_strings_free(&batches->arrays[i].strings);
    }
    bly_shuffle_clean_up(&batches->shuffle);
    bly_free(batches);
}

/* ---- What it is ---- */

size_t belay_batches_count(const belay_batches *batches) {
    return batches ? batches->count : 0;
}

const char *belay_batches_name(const belay_batches *batches, size_t index) {
    return batches && index < batches->count ? batches->arrays[index].name : NULL;
}

const belay_npy *belay_batches_array(const belay_batches *batches, size_t index) {
    return batches && index < batches->count ? batches->arrays[index].npy : NULL;
}

int64_t belay_batches_rows(const belay_batches *batches) {
    return batches ? batches->rows : 0;
}

int64_t belay_batches_size(const belay_batches *batches) {
    return batches ? batches->options.batch_size : 0;
}

int64_t belay_batches_per_epoch(const belay_batches *batches) {
    if (!batches)
        return 0;
    int64_t whole = batches->rows / batches->options.batch_size;
    int has_short = batches->rows % batches->options.batch_size != 0;
    return whole + (has_short && !has(batches, BELAY_BATCHES_DROP_SHORT));
}

int64_t belay_batches_epoch(const belay_batches *batches) {
    return batches ? batches->epoch : 0;
}

int64_t belay_batches_next_rows(const belay_batches *batches) {
    int64_t left = batches ? batches->rows - batches->row : 0;
    if (!batches || (batches->options.epochs > 0 && batches->epoch >= batches->options.epochs))
        return 0;
    return left < batches->options.batch_size ? left : batches->options.batch_size;
}

/* ---- Handing out ---- */

/* Puts the next batch at `row` of `epoch`, or at the next epoch where nothing of this one is left
 * to hand out. */
static void move_to(belay_batches *batches, int64_t epoch, int64_t row) {
    int64_t left = batches->rows - row;
    int over =
        left == 0 || (has(batches, BELAY_BATCHES_DROP_SHORT) && left < batches->options.batch_size);
    batches->epoch = over ? epoch + 1 : epoch;
    batches->row = over ? 0 : row;
}

/* The rows of the next batch. */
static struct bly_npy_rows next_batch(belay_batches *batches) {
    struct bly_npy_rows rows = {NULL, batches->row, belay_batches_next_rows(batches)};
    if (has(batches, BELAY_BATCHES_SHUFFLE) && rows.count > 0)
        rows.rows = bly_shuffle_order(&batches->shuffle, batches->options.seed, batches->epoch,
                                      (uint32_t)(rows.first + rows.count)) +
                    rows.first;
    return rows;
}

static void read_ahead(belay_batches *batches) {
    if (has(batches, BELAY_BATCHES_NO_READ_AHEAD))
        return;
    for (size_t i = 0; i < batches->count; i++)
        if (bly_npy_is_large(batches->arrays[i].npy)) {
            struct bly_npy_rows rows = next_batch(batches);
            bly_npy_will_need(batches->arrays[i].npy, &rows);
        }
}

belay_code belay_batches_next(belay_batches *batches, void *const *destinations, int64_t *out_rows,
                              belay_error *err) {
    belay_code code = BELAY_OK;
    if (out_rows)
        *out_rows = 0;
    if (!batches)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "batches is NULL");
    struct bly_npy_rows rows = next_batch(batches);
    if (rows.count == 0)
        return bly_fail(err, BELAY_OUT_OF_RANGE, "the input ended: all %" PRId64 " epochs are over",
                        batches->options.epochs);
    if (!destinations)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "destinations is NULL");
    batches->handed_out = 0;
    for (size_t i = 0; i < batches->count && code == BELAY_OK; i++) {
        struct array *array = &batches->arrays[i];
        code = bly_npy_check(array->npy, err);
        if (code != BELAY_OK)
            break;
        if (belay_npy_dtype(array->npy) == BELAY_STRING)
            code = bly_npy_gather_strings(array->npy, &rows, &array->strings, err);
        else
            bly_npy_gather(array->npy, &rows, destinations[i]);
    }
    if (code != BELAY_OK)
        return code;
    batches->handed_out = 1;
    move_to(batches, batches->epoch, batches->row + rows.count);
    read_ahead(batches);
    if (out_rows)
        *out_rows = rows.count;
    return BELAY_OK;
}

belay_code belay_batches_strings(const belay_batches *batches, size_t index,
                                 const char *const **out_strings, const size_t **out_lengths,
                                 belay_error *err) {
    if (out_lengths)
        *out_lengths = NULL;
    if (!batches || !out_strings)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL",
                        batches ? "out_strings" : "batches");
    *out_strings = NULL;
    if (index >= batches->count)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "there is no array %zu: there are %zu", index,
                        batches->count);
    const struct array *array = &batches->arrays[index];
    if (belay_npy_dtype(array->npy) != BELAY_STRING)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s (%s) holds %s, not strings", array->name,
                        belay_npy_path(array->npy), belay_dtype_name(belay_npy_dtype(array->npy)));
    if (!batches->handed_out)
        return bly_fail(err, BELAY_FAILED_PRECONDITION, "no batch was handed out yet");
    *out_strings = array->strings.strings;
    if (out_lengths)
        *out_lengths = array->strings.lengths;
    return BELAY_OK;
}

/* ---- Position ---- */

size_t belay_batches_position(const belay_batches *batches, char *out, size_t size) {
    if (!batches)
        return 0;
    int len =
        snprintf(out, out ? size : 0,
                 "{\"epoch\":%" PRId64 ",\"row\":%" PRId64 ",\"rows\":%" PRId64
                 ",\"batch\":%" PRId64 ",\"seed\":%" PRId64 ",\"shuffle\":%s}",
                 batches->epoch, batches->row, batches->rows, batches->options.batch_size,
                 batches->options.seed, has(batches, BELAY_BATCHES_SHUFFLE) ? "true" : "false");
    return len < 0 ? 0 : (size_t)len;
}

struct position {
    json_int_t epoch, row, rows, batch, seed;
    int shuffle;
};

/* Reads the text, without regard to what it is for. */
static belay_code read_position(const char *text, struct position *out, belay_error *err) {
    json_error_t where;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &where);
    int understood =
        object && json_unpack(object, "{s:I,s:I,s:I,s:I,s:I,s:b}", "epoch", &out->epoch, "row",
                              &out->row, "rows", &out->rows, "batch", &out->batch, "seed",
                              &out->seed, "shuffle", &out->shuffle) == 0;
    json_decref(object);
    if (!understood || out->epoch < 0 || out->epoch == INT64_MAX || out->row < 0 ||
        out->row > out->rows || out->batch < 1)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "'%s' is not a position in the input", text);
    return BELAY_OK;
}

belay_code belay_batches_set_position(belay_batches *batches, const char *position,
                                      belay_error *err) {
    struct position given;
    if (!batches || !position)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "%s is NULL",
                        batches ? "the position in the input" : "batches");
    int shuffle = has(batches, BELAY_BATCHES_SHUFFLE);
    belay_code code = read_position(position, &given, err);
    if (code != BELAY_OK)
        return code;
    if (given.rows != batches->rows)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the position in the input is one in arrays of %" JSON_INTEGER_FORMAT
                        " rows, and %s has %" PRId64
                        ": go on with the arrays of before, or start a run of its own",
                        given.rows, belay_npy_path(batches->arrays[0].npy), batches->rows);
    if (given.shuffle != shuffle)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the position in the input was taken %s shuffling, and the input is now "
                        "read %s it: go on as before, or start a run of its own",
                        given.shuffle ? "with" : "without", shuffle ? "with" : "without");
    if (shuffle && given.seed != batches->options.seed)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "the position in the input was taken with seed %" JSON_INTEGER_FORMAT
                        ", and the seed is now %" PRId64
                        ": go on with the seed of before, or start a run of its own",
                        given.seed, batches->options.seed);
    if (given.batch != batches->options.batch_size)
        bly_info("going on with row %" JSON_INTEGER_FORMAT " in batches of %" PRId64
                 ", which were of %" JSON_INTEGER_FORMAT " before",
                 given.row, batches->options.batch_size, given.batch);
    move_to(batches, given.epoch, given.row);
    return BELAY_OK;
}
