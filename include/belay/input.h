/**
 * Input from NumPy files: arrays on disk, cut into batches, shuffled by a seed, resumed where they
 * were.
 *
 * A belay_npy is one `.npy` file, mapped into memory. A belay_batches walks the rows (the first
 * dimension) of several of them together. It fills memory that the caller provides, so that a
 * runtime can own it.
 */
#ifndef BELAY_INPUT_H
#define BELAY_INPUT_H

#include <belay/dtype.h>
#include <belay/error.h>
#include <belay/export.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- .npy files ---- */

/**
 * A `.npy` file of format 1.0, 2.0 or 3.0, in C or Fortran order, of either byte order.
 *
 * dtypes: bool, int8 to int64, uint8 to uint64, float16, float32, float64, complex64, complex128;
 * byte strings (`S`) and Unicode strings (`U`), which become BELAY_STRING: trailing NULs are not
 * part of a string (NumPy's rule) and Unicode becomes UTF-8. Not: objects, structured types, dates,
 * long double.
 *
 * The file is mapped, not copied. Replacing it by another (rename) does no harm. Where it was cut
 * short, the next belay_batches_next() or belay_npy_read() fails with BELAY_DATA_LOSS; a file cut
 * short *during* one of these, within microseconds, still ends the process (SIGBUS), as with every
 * mapped file. One that was written to in place is warned about, once.
 *
 * Rows of a file in Fortran order are put together element by element: slow where rows are long.
 *
 * Threads: any thread; nothing changes after loading.
 */
typedef struct belay_npy belay_npy;

/**
 * Opens and checks a file. The header is read and compared with the file's size; the elements are
 * not read yet.
 *
 * @param path UTF-8.
 * @param err  Filled on error. May be NULL.
 * @return an array the caller frees with belay_npy_free(), or NULL. The message names the file,
 *   what is wrong and what to do:
 *   - BELAY_NOT_FOUND, BELAY_PERMISSION_DENIED: as the system says;
 *   - BELAY_INVALID_ARGUMENT: not a `.npy` file, a dtype or version that is not supported, or a
 *     scalar (no rows);
 *   - BELAY_DATA_LOSS: the file is shorter or longer than its header says, or the header is
 *     damaged.
 *
 * @since 0.1
 */
BELAY_API belay_npy *belay_npy_load(const char *path, belay_error *err);

/** Frees an array. A belay_batches made from it keeps what it needs. NULL is fine. */
BELAY_API void belay_npy_free(belay_npy *npy);

/** The path as it was given. Lives as long as the array. */
BELAY_API const char *belay_npy_path(const belay_npy *npy);

/** Element type: one of those above. */
BELAY_API belay_dtype belay_npy_dtype(const belay_npy *npy);

/** Number of dimensions, 1 or more; the first one counts rows. */
BELAY_API uint32_t belay_npy_rank(const belay_npy *npy);

/** Size of dimension `index`; -1 where there is no such dimension. */
BELAY_API int64_t belay_npy_dim(const belay_npy *npy, uint32_t index);

/** The same as belay_npy_dim(npy, 0). */
BELAY_API int64_t belay_npy_rows(const belay_npy *npy);

/** Elements in one row: the product of the other dimensions (1 for an array of rank 1). */
BELAY_API int64_t belay_npy_row_elements(const belay_npy *npy);

/** Bytes of one row as it is handed out; 0 for BELAY_STRING. */
BELAY_API size_t belay_npy_row_bytes(const belay_npy *npy);

/**
 * Copies rows first to first + count - 1 to `destination`: C order, this machine's byte order.
 *
 * Blocks: for the disk, where the file is not in memory.
 *
 * @param destination count * belay_npy_row_bytes() bytes, no alignment needed.
 * @return BELAY_OK, or
 *   - BELAY_OUT_OF_RANGE: there are no such rows;
 *   - BELAY_INVALID_ARGUMENT: the array holds strings (use belay_batches);
 *   - BELAY_DATA_LOSS: the file was cut short since it was loaded.
 *
 * @since 0.1
 */
BELAY_API belay_code belay_npy_read(const belay_npy *npy, int64_t first, int64_t count,
                                    void *destination, belay_error *err);

/* ---- Batches ---- */

/**
 * Rows of several arrays, batch by batch.
 *
 * The order of an epoch depends on (seed, epoch, number of rows) and nothing else: not on the batch
 * size, the arrays' content, the machine or belay's version. Exactly, with all arithmetic modulo
 * 2^64:
 *
 *     mix(z):     z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
 *                 z = (z ^ (z >> 27)) * 0x94d049bb133111eb
 *                 return z ^ (z >> 31)
 *     next():     s = s + 0x9e3779b97f4a7c15; return mix(s)               (SplitMix64)
 *     below(n):   do { p = next() * n, all 128 bits } while (p mod 2^64 < 2^64 mod n)
 *                 return p / 2^64
 *     an epoch:   s = mix(mix(seed + 0x9e3779b97f4a7c15) ^ epoch)         (epochs count from 0)
 *                 a = [0, 1, ... rows - 1]
 *                 for i = 0 ... rows - 1: swap a[i] and a[i + below(rows - i)]
 *
 * Threads: one at a time per object.
 */
typedef struct belay_batches belay_batches;

/** Shuffle the rows anew in each epoch. Without it they come in the files' order. */
#define BELAY_BATCHES_SHUFFLE (UINT32_C(1) << 0)
/** Leave out the last batch of an epoch where it is short. Without it, it is handed out. */
#define BELAY_BATCHES_DROP_SHORT (UINT32_C(1) << 1)
/** Do not ask the kernel to read the next batch ahead. (It is asked only for large files.) */
#define BELAY_BATCHES_NO_READ_AHEAD (UINT32_C(1) << 2)

/**
 * Options for belay_batches_prepare(). Zero in any field means "the default".
 *
 * Start from BELAY_BATCHES_OPTIONS_INIT. Read during the call and not kept.
 */
typedef struct belay_batches_options {
    size_t struct_size; /**< sizeof(belay_batches_options) in the caller's build. */
    int64_t batch_size; /**< Rows in a batch; 0: 32. */
    int64_t epochs;     /**< How many times the rows are handed out; 0: for ever. */
    int64_t seed;       /**< Drives shuffling, and nothing else. */
    uint32_t flags;     /**< BELAY_BATCHES_* bits. */
    uint32_t reserved;  /**< Must be 0. */
} belay_batches_options;

/** Initialiser with every field at its default. */
#define BELAY_BATCHES_OPTIONS_INIT                                                                 \
    { sizeof(belay_batches_options), 0, 0, 0, 0, 0 }

/**
 * Puts arrays together.
 *
 * @param names   What each array is for (the name it is fed to); used in messages. Copied.
 * @param arrays  `count` arrays with the same number of rows. References are kept: the caller
 *                may free its own.
 * @param count   At least 1.
 * @param options NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return batches the caller frees with belay_batches_free(), or NULL:
 *   - BELAY_INVALID_ARGUMENT: the numbers of rows differ, there are no rows, a batch is larger than
 *     the array while short ones are dropped, more than 2^32 - 1 rows to be shuffled, or an option
 *     is malformed;
 *   - BELAY_RESOURCE_EXHAUSTED: memory is out (shuffling takes four bytes a row).
 *
 * @since 0.1
 */
BELAY_API belay_batches *belay_batches_prepare(const char *const *names, belay_npy *const *arrays,
                                               size_t count, const belay_batches_options *options,
                                               belay_error *err);

/** Frees it, and its references to the arrays. NULL is fine. */
BELAY_API void belay_batches_free(belay_batches *batches);

/** Number of arrays. */
BELAY_API size_t belay_batches_count(const belay_batches *batches);

/** Name of array `index`, or NULL where there is none. Lives as long as `batches`. */
BELAY_API const char *belay_batches_name(const belay_batches *batches, size_t index);

/** Array `index`, or NULL where there is none. Belongs to `batches`. */
BELAY_API const belay_npy *belay_batches_array(const belay_batches *batches, size_t index);

/** Number of rows of each array. */
BELAY_API int64_t belay_batches_rows(const belay_batches *batches);

/** The batch size in force. */
BELAY_API int64_t belay_batches_size(const belay_batches *batches);

/** Batches in a whole epoch. */
BELAY_API int64_t belay_batches_per_epoch(const belay_batches *batches);

/** The epoch that the next batch belongs to, from 0: how many were handed out completely. */
BELAY_API int64_t belay_batches_epoch(const belay_batches *batches);

/** How many rows belay_batches_next() will hand out: what it needs memory for. 0 at the end. */
BELAY_API int64_t belay_batches_next_rows(const belay_batches *batches);

/**
 * Hands out the next batch.
 *
 * Blocks:    for the disk, where the rows are not in memory.
 * On error:  the position stays as it was, what the destinations hold is not defined.
 *
 * @param destinations One for each array, in their order, of belay_batches_next_rows() times
 *                     belay_npy_row_bytes() bytes, no alignment needed; filled in C order. Ignored
 *                     for BELAY_STRING: see belay_batches_strings().
 * @param out_rows     Set to the number of rows; 0 on error. May be NULL.
 * @param err          Filled on error. May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_OUT_OF_RANGE: all epochs are over;
 *   - BELAY_DATA_LOSS: a file was cut short since it was loaded;
 *   - BELAY_INVALID_ARGUMENT: a Unicode array holds what is not a character.
 *
 * @since 0.1
 */
BELAY_API belay_code belay_batches_next(belay_batches *batches, void *const *destinations,
                                        int64_t *out_rows, belay_error *err);

/**
 * The strings of the batch handed out last, as belay_tensor_new_strings() takes them. They belong
 * to `batches` and live until the next belay_batches_next().
 *
 * @param index       An array of BELAY_STRING.
 * @param out_strings Set to rows * row_elements pointers; each string also ends in a NUL
 *                    that does not count.
 * @param out_lengths Set to as many lengths. May be NULL.
 * @return BELAY_OK, or
 *   - BELAY_INVALID_ARGUMENT: no such array, or not one of strings;
 *   - BELAY_FAILED_PRECONDITION: no batch was handed out.
 */
BELAY_API belay_code belay_batches_strings(const belay_batches *batches, size_t index,
                                           const char *const **out_strings,
                                           const size_t **out_lengths, belay_error *err);

/**
 * Where the next batch begins, as a line of JSON to keep with a checkpoint:
 * `{"epoch":3,"row":640,"rows":1797,"batch":32,"seed":0,"shuffle":true}`.
 *
 * `row` counts the rows of this epoch handed out so far, in the epoch's order.
 *
 * @param out  Where the text goes, with its NUL; NULL where size is 0.
 * @param size Room there. BELAY_POSITION_SIZE is always enough.
 * @return the length of the text, without the NUL; where it is `size` or more, the text was cut.
 */
BELAY_API size_t belay_batches_position(const belay_batches *batches, char *out, size_t size);

/** Room for any position with its NUL. */
#define BELAY_POSITION_SIZE 192

/**
 * Goes on from a position taken earlier, by this or another process.
 *
 * Another batch size is fine: it goes on with the next row, and a log line says so. On error
 * nothing has changed.
 *
 * @param position As belay_batches_position() gave it.
 * @return BELAY_OK, or BELAY_INVALID_ARGUMENT: the text is not a position, or it was taken with
 *   another number of rows, another seed or the other setting of shuffling (the message says what
 *   to do).
 *
 * @since 0.1
 */
BELAY_API belay_code belay_batches_set_position(belay_batches *batches, const char *position,
                                                belay_error *err);

#ifdef __cplusplus
}
#endif

#endif
