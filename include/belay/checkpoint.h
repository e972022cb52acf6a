/**
 * Checkpoints, read without TensorFlow: what a folder holds, and what is in a checkpoint.
 *
 * A checkpoint is called by its prefix, such as "run/model.ckpt-500": the files are PREFIX.index
 * and PREFIX.data-00000-of-00001 (TensorFlow's V2 format, whoever wrote it). Nothing in them is
 * trusted. Damage of any kind is BELAY_DATA_LOSS, with the file's name in the message.
 */
#ifndef BELAY_CHECKPOINT_H
#define BELAY_CHECKPOINT_H

#include <belay/dtype.h>
#include <belay/error.h>
#include <belay/export.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- What a folder holds ---- */

/**
 * The newest checkpoint of a folder.
 *
 * That is the one which the state file `checkpoint` names. Where its files are gone, the state file
 * is damaged or there is none, it is the newest of those that are there, and a warning is logged.
 * Data is not checked: belay_checkpoint_reader_verify() does that.
 *
 * Threads: any thread.
 * Blocks:  for the disk.
 *
 * @param directory UTF-8 path.
 * @param err       Filled on error. May be NULL.
 * @return the prefix, which the caller frees with belay_checkpoint_path_free(), or NULL:
 *   - BELAY_NOT_FOUND: the folder holds no checkpoint, or does not exist;
 *   - BELAY_DATA_LOSS: it holds some, and every one is damaged or not complete.
 *
 * @since 0.1
 */
BELAY_API char *belay_latest_checkpoint(const char *directory, belay_error *err);

/** Frees what belay_latest_checkpoint() returned. NULL is fine. */
BELAY_API void belay_checkpoint_path_free(char *path);

/** The index can be read, and every data file is there and as long as it must be. Its bytes were
 * not checked. */
#define BELAY_CHECKPOINT_COMPLETE (UINT32_C(1) << 0)
/** The state file lists it. */
#define BELAY_CHECKPOINT_LISTED (UINT32_C(1) << 1)
/** The state file names it as the newest. */
#define BELAY_CHECKPOINT_LATEST (UINT32_C(1) << 2)
/** It has a manifest, and that can be read. */
#define BELAY_CHECKPOINT_MANIFEST (UINT32_C(1) << 3)
/** Its manifest says that it is never to be deleted. */
#define BELAY_CHECKPOINT_PINNED (UINT32_C(1) << 4)

/** A checkpoint that has no step, or is to be saved without one in its name. */
#define BELAY_NO_STEP INT64_MIN

/** One checkpoint of a folder. Later versions may add members at the end. */
typedef struct belay_checkpoint_info {
    const char *prefix; /**< The folder as it was given, and the name. */
    const char
        *problem; /**< Why it is not complete, or its manifest not readable; NULL: nothing. */
    int64_t step; /**< From its name, else from its manifest; BELAY_NO_STEP: neither says. */
    int64_t saved_unix_ms; /**< From its manifest, else the index file's time. */
    uint64_t size_bytes;   /**< Index and data files together. */
    uint32_t flags;        /**< BELAY_CHECKPOINT_* bits. */
    uint32_t reserved;     /**< 0. */
} belay_checkpoint_info;

/**
 * The checkpoints of a folder, oldest first: by step, then time.
 *
 * Threads: any thread; nothing changes after loading.
 */
typedef struct belay_checkpoint_list belay_checkpoint_list;

/**
 * Lists a folder. Every NAME.index counts that can be read, has data files, or ends in a step.
 *
 * Blocks: for the disk: each index is read.
 *
 * @param directory UTF-8 path.
 * @param err       Filled on error. May be NULL.
 * @return a list that the caller frees with belay_checkpoint_list_free(); it may be empty. NULL:
 * BELAY_NOT_FOUND where the folder does not exist, else what the system said of it.
 *
 * @since 0.1
 */
BELAY_API belay_checkpoint_list *belay_checkpoint_list_load(const char *directory,
                                                            belay_error *err);

/** Frees a list. NULL is fine. */
BELAY_API void belay_checkpoint_list_free(belay_checkpoint_list *list);

/** How many checkpoints there are. */
BELAY_API size_t belay_checkpoint_list_count(const belay_checkpoint_list *list);

/** One of them, `index` from 0; NULL where there is none. Lives as long as the list. */
BELAY_API const belay_checkpoint_info *belay_checkpoint_list_at(const belay_checkpoint_list *list,
                                                                size_t index);

/** Why the state file could not be read; NULL where it could, or there is none. Lives as long as
 * the list. */
BELAY_API const char *belay_checkpoint_list_state_problem(const belay_checkpoint_list *list);

/* ---- What a checkpoint holds ---- */

/** One tensor. Later versions may add members at the end. */
typedef struct belay_checkpoint_tensor {
    const char *name;    /**< The checkpoint key (SV-14). */
    const int64_t *dims; /**< `rank` of them; NULL for a scalar. */
    int64_t elements;    /**< Product of dims; 1 for a scalar. */
    uint64_t size_bytes; /**< In memory; for types without a fixed element size, what it takes on
                            disk. */
    uint64_t parts;      /**< 0: stored whole; else how many slices of a partitioned variable. */
    belay_dtype dtype;   /**< Element type. */
    int32_t rank;        /**< 0: a scalar. */
    uint32_t crc32c;     /**< Of its bytes on disk, as the index has it: tells whether two tensors
                            are the same where neither can be read. 0: stored in parts. */
    uint32_t reserved;   /**< 0. */
} belay_checkpoint_tensor;

/**
 * A checkpoint that is open for reading.
 *
 * Threads: any thread; several may read at once.
 */
typedef struct belay_checkpoint_reader belay_checkpoint_reader;

/**
 * Opens a checkpoint: reads its index and compares the data files' sizes with it.
 *
 * Blocks: for the disk.
 *
 * @param prefix UTF-8 path, without ".index".
 * @param err    Filled on error. May be NULL.
 * @return a reader that the caller frees with belay_checkpoint_reader_free(), or NULL:
 *   - BELAY_NOT_FOUND: there is no such checkpoint;
 *   - BELAY_DATA_LOSS: it is damaged, or a data file is missing or short;
 *   - BELAY_UNIMPLEMENTED: compressed, big-endian, of a newer version, or of the old V1 format.
 *
 * @since 0.1
 */
BELAY_API belay_checkpoint_reader *belay_checkpoint_reader_load(const char *prefix,
                                                                belay_error *err);

/** Frees a reader. NULL is fine. */
BELAY_API void belay_checkpoint_reader_free(belay_checkpoint_reader *reader);

/** The prefix as it was given. Lives as long as the reader. */
BELAY_API const char *belay_checkpoint_reader_prefix(const belay_checkpoint_reader *reader);

/** How many tensors there are; a partitioned variable is one. */
BELAY_API size_t belay_checkpoint_reader_count(const belay_checkpoint_reader *reader);

/** One of them, sorted by name, `index` from 0; NULL where there is none. Lives as long as the
 * reader. */
BELAY_API const belay_checkpoint_tensor *
belay_checkpoint_reader_at(const belay_checkpoint_reader *reader, size_t index);

/** The tensor of that name, or NULL. Lives as long as the reader. */
BELAY_API const belay_checkpoint_tensor *
belay_checkpoint_reader_find(const belay_checkpoint_reader *reader, const char *name);

/**
 * Reads a tensor, C order, and checks it on the way. The slices of a partitioned variable are put
 * together.
 *
 * Blocks:   for the disk.
 * On error: the content of `buffer` is undefined.
 *
 * @param name   The tensor's name.
 * @param buffer `size` bytes, no alignment needed.
 * @param size   The tensor's size_bytes, exactly.
 * @return BELAY_OK, or
 *   - BELAY_NOT_FOUND: no such tensor (the message suggests the nearest name);
 *   - BELAY_INVALID_ARGUMENT: another size, a type without fixed element size, or slices that do
 *     not cover the whole;
 *   - BELAY_DATA_LOSS: damaged: tensor, file and offset are in the message.
 *
 * @since 0.1
 */
BELAY_API belay_code belay_checkpoint_reader_read(const belay_checkpoint_reader *reader,
                                                  const char *name, void *buffer, uint64_t size,
                                                  belay_error *err);

/** The elements of a string tensor, in C order. */
typedef struct belay_checkpoint_strings belay_checkpoint_strings;

/**
 * Reads a string tensor and checks it on the way.
 *
 * Blocks: for the disk.
 *
 * @return its elements, which the caller frees with belay_checkpoint_strings_free(), or NULL, with
 * codes as belay_checkpoint_reader_read().
 *
 * @since 0.1
 */
BELAY_API belay_checkpoint_strings *
belay_checkpoint_reader_read_strings(const belay_checkpoint_reader *reader, const char *name,
                                     belay_error *err);

/** Frees elements. NULL is fine. */
BELAY_API void belay_checkpoint_strings_free(belay_checkpoint_strings *strings);

/** How many elements there are. */
BELAY_API size_t belay_checkpoint_strings_count(const belay_checkpoint_strings *strings);

/**
 * An element, `index` from 0. It may hold zero bytes, and is not terminated by one.
 *
 * @param out_size Set to its bytes. May be NULL.
 * @return the bytes, never NULL where there is such an element. They live as long as `strings`.
 */
BELAY_API const char *belay_checkpoint_strings_at(const belay_checkpoint_strings *strings,
                                                  size_t index, size_t *out_size);

/**
 * Checks every byte of the checkpoint, in the order they lie on disk and with little memory.
 *
 * Blocks: for the disk; about as long as reading the files once.
 *
 * @return BELAY_OK, or BELAY_DATA_LOSS: the first damage; tensor, file and offset are in the
 * message. Anything else is what the system said, and tells nothing about the checkpoint.
 *
 * @since 0.1
 */
BELAY_API belay_code belay_checkpoint_reader_verify(const belay_checkpoint_reader *reader,
                                                    belay_error *err);

#ifdef __cplusplus
}
#endif

#endif
