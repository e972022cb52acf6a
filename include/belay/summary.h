/**
 * Summary writers: event files for TensorBoard.
 *
 * A writer owns one event file, `DIR/events.out.tfevents.SECONDS.HOST.PID.COUNTER`, and one
 * background thread that brings events to it. Adding an event copies it into memory and returns: it
 * never waits for the disk. What was added reaches the operating system when the writer is flushed
 * or closed, `flush_secs` after it was added, or earlier when much has gathered; from then on it
 * survives the end of the process, `kill -9` included, as it does with TensorFlow. (Neither forces
 * it through a power cut: event files are not fsynced.)
 *
 * Where the disk does not keep up, memory is bounded: with `queue_bytes` waiting, further scalars
 * and summaries are dropped, and counted (belay_summary_writer_dropped()); a warning says so when
 * it begins and how many were lost when it ends. Graphs, session logs and run metadata are never
 * dropped.
 *
 * A write that fails (a full disk, say) ends the background thread. The error is returned by the
 * next call that adds, flushes or closes, and by every one after it, until the writer is closed and
 * reopened. The events that had not reached the file are lost.
 *
 * Where somebody removed the file, alone or with its folder, a warning says so at the next write,
 * and the folder and a new file are made: what was written is gone, what follows is not. The graph
 * is not in the new file; what describes a tag is, the next time that it is added.
 *
 * Threads: any thread, for every function here, unless it says otherwise. Only
 * belay_summary_writer_flush() and belay_summary_writer_close() wait for the disk, with a limit,
 * and the two makers and belay_summary_writer_reopen(), which create a file.
 *
 * Ownership: strings and bytes are borrowed for the call. A writer is shared: each maker and each
 * _ref() is undone by one _unref(), and the last one closes the file.
 *
 * After fork() the child must not use a writer: its thread stayed with the parent.
 */
#ifndef BELAY_SUMMARY_H
#define BELAY_SUMMARY_H

#include <belay/dtype.h>
#include <belay/error.h>
#include <belay/export.h>
#include <belay/graph.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct belay_summary_writer belay_summary_writer;

/** What a session log says: TensorFlow's numbers. */
typedef int32_t belay_session_status;

/** A run starts at this step: TensorBoard discards what it has of this and later steps. */
#define BELAY_SESSION_START ((belay_session_status)1)
/** A run stopped. Monitored sessions never write it. */
#define BELAY_SESSION_STOP ((belay_session_status)2)
/** A checkpoint was written. */
#define BELAY_SESSION_CHECKPOINT ((belay_session_status)3)

/**
 * Options for belay_summary_writer_open(). Zero in any field means "the default".
 *
 * Start from BELAY_SUMMARY_WRITER_OPTIONS_INIT. Read during the call and not kept.
 */
typedef struct belay_summary_writer_options {
    size_t struct_size;          /**< sizeof(belay_summary_writer_options) in the caller's build. */
    double flush_secs;           /**< Longest time an event stays in memory; 0: 120. */
    const char *filename_suffix; /**< Added to the file's name; NULL: none. Must not hold a '/'. */
    const void *graph_def;       /**< Serialized GraphDef to begin the file with; NULL: none. */
    size_t graph_def_size;       /**< Its size in bytes. */
    const void *meta_graph_def;  /**< Serialized MetaGraphDef to begin with; NULL: none. */
    size_t meta_graph_def_size;  /**< Its size in bytes. */
    uint64_t queue_bytes;        /**< Most bytes waiting before events are dropped; 0: 64 MiB. */
    const belay_graph *graph; /**< To begin with, as belay_summary_writer_add_graph_once() adds it,
                                 instead of the four fields of bytes; NULL: none. */
} belay_summary_writer_options;

/** Initialiser with every field at its default. */
#define BELAY_SUMMARY_WRITER_OPTIONS_INIT                                                          \
    { sizeof(belay_summary_writer_options), 0, NULL, NULL, 0, NULL, 0, 0, NULL }

/**
 * Opens a writer of its own: creates the folder, with its parents, and a new event file with its
 * first record in it.
 *
 * Two writers never share a file, whatever process they are in.
 *
 * @param logdir  UTF-8 path; an empty one is the current folder.
 * @param options NULL: all defaults.
 * @param err     Filled on error. May be NULL.
 * @return a writer the caller gives back with belay_summary_writer_unref(), or NULL:
 *   - BELAY_INVALID_ARGUMENT: an option is malformed, a graph is given twice (as `graph` and as
 *     bytes), or the path is not one of a folder;
 *   - BELAY_PERMISSION_DENIED, BELAY_RESOURCE_EXHAUSTED: the file cannot be made.
 *
 * @since 0.1
 */
BELAY_API belay_summary_writer *
belay_summary_writer_open(const char *logdir, const belay_summary_writer_options *options,
                          belay_error *err);

/**
 * The process's one writer for a folder: makes it, with default options, or returns the one that is
 * there.
 *
 * Folders are told apart by what they are, not by how their path is spelled: "run", "run/" and a
 * link to it share a writer. It lives until the last reference to it is given back. One that was
 * closed is reopened, into a new file. A monitored session's hooks write through this one.
 *
 * @param logdir As in belay_summary_writer_open(), and errors as there.
 * @param err    Filled on error. May be NULL.
 * @return a reference the caller gives back with belay_summary_writer_unref(), or NULL.
 *
 * @since 0.1
 */
BELAY_API belay_summary_writer *belay_summary_writer_shared(const char *logdir, belay_error *err);

/** Adds a reference and returns `writer`. */
BELAY_API belay_summary_writer *belay_summary_writer_ref(belay_summary_writer *writer);

/**
 * Gives back a reference. The last one closes the file, waiting for up to ten seconds; an error is
 * logged then. Call belay_summary_writer_close() first to see it. NULL is fine.
 */
BELAY_API void belay_summary_writer_unref(belay_summary_writer *writer);

/**
 * Adds one value under a name.
 *
 * Costs a fraction of a microsecond. On a closed writer this, like every other _add_, does nothing,
 * and warns once.
 *
 * @param tag   The name in TensorBoard.
 * @param value Stored as float32, as TensorFlow does.
 * @param step  The global step it belongs to. 0 is also what a reader sees where no step was given.
 * @param err   Filled on error. May be NULL.
 * @return BELAY_OK (also where the event was dropped), or
 *   - BELAY_RESOURCE_EXHAUSTED: memory is out; the event was not added;
 *   - any other code: an earlier write failed (see the top of this file).
 */
BELAY_API belay_code belay_summary_writer_add_scalar(belay_summary_writer *writer, const char *tag,
                                                     double value, int64_t step, belay_error *err);

/**
 * Adds a serialized Summary: what a summary op gives when it is fetched.
 *
 * Metadata of a value is kept for the first value of each tag that carries any, and left out of
 * later ones.
 *
 * @return as belay_summary_writer_add_scalar(), or BELAY_INVALID_ARGUMENT: the bytes are not a
 * Summary.
 */
BELAY_API belay_code belay_summary_writer_add_summary(belay_summary_writer *writer,
                                                      const void *summary, size_t size,
                                                      int64_t step, belay_error *err);

/**
 * Adds a histogram of values, with the buckets that a graph's histogram summary has.
 *
 * @param values `count` elements of type dtype, one after the other; need not be aligned. May be
 *               NULL where count is 0. belay_tensor_data() fits.
 * @param dtype  Any type of real numbers of 8 bits or more, or BELAY_BOOL.
 * @return as belay_summary_writer_add_scalar(), or BELAY_INVALID_ARGUMENT: a value is not finite
 * (the message says which), or the type holds no numbers.
 *
 * @since 0.1
 */
BELAY_API belay_code belay_summary_writer_add_histogram(belay_summary_writer *writer,
                                                        const char *tag, const void *values,
                                                        belay_dtype dtype, size_t count,
                                                        int64_t step, belay_error *err);

/**
 * Adds a picture.
 *
 * @param png Bytes of a PNG file. Width, height and kind of colours are read from it.
 * @return as belay_summary_writer_add_scalar(), or BELAY_INVALID_ARGUMENT: these bytes are no PNG.
 *
 * @since 0.1
 */
BELAY_API belay_code belay_summary_writer_add_image(belay_summary_writer *writer, const char *tag,
                                                    const void *png, size_t size, int64_t step,
                                                    belay_error *err);

/**
 * Adds a text, which TensorBoard shows as Markdown.
 *
 * @param text UTF-8; bytes that are not are replaced by '?'.
 * @return as belay_summary_writer_add_scalar().
 *
 * @since 0.1
 */
BELAY_API belay_code belay_summary_writer_add_text(belay_summary_writer *writer, const char *tag,
                                                   const char *text, int64_t step,
                                                   belay_error *err);

/**
 * Adds a session log.
 *
 * @param status          One of BELAY_SESSION_*.
 * @param checkpoint_path NULL: none.
 * @param message         NULL: none.
 */
BELAY_API belay_code belay_summary_writer_add_session_log(belay_summary_writer *writer,
                                                          belay_session_status status,
                                                          const char *checkpoint_path,
                                                          const char *message, int64_t step,
                                                          belay_error *err);

/**
 * Adds a graph and its meta graph, each only where the writer's file does not hold the same one
 * already. A graph of more than 2 GiB, which no reader could take, is left out with a warning.
 *
 * Not while ops are added to the graph; else any thread.
 *
 * @since 0.1
 */
BELAY_API belay_code belay_summary_writer_add_graph_once(belay_summary_writer *writer,
                                                         const belay_graph *graph,
                                                         belay_error *err);

/** Adds a serialized GraphDef, which TensorBoard draws. BELAY_INVALID_ARGUMENT where it is NULL or
 * above 2 GiB. */
BELAY_API belay_code belay_summary_writer_add_graph(belay_summary_writer *writer,
                                                    const void *graph_def, size_t size,
                                                    int64_t step, belay_error *err);

/** Adds a serialized MetaGraphDef. BELAY_INVALID_ARGUMENT where it is NULL or above 2 GiB. */
BELAY_API belay_code belay_summary_writer_add_meta_graph(belay_summary_writer *writer,
                                                         const void *meta_graph_def, size_t size,
                                                         int64_t step, belay_error *err);

/**
 * Adds the serialized RunMetadata of one step.
 *
 * @param tag Its name. BELAY_ALREADY_EXISTS where this writer has one of this name already.
 */
BELAY_API belay_code belay_summary_writer_add_run_metadata(belay_summary_writer *writer,
                                                           const char *tag,
                                                           const void *run_metadata, size_t size,
                                                           int64_t step, belay_error *err);

/**
 * Brings everything added before this call to the operating system. Does nothing on a closed
 * writer.
 *
 * @param timeout_ms Longest wait; 0: ten seconds; BELAY_FOREVER: no limit; BELAY_AT_ONCE: none.
 * @return BELAY_OK, BELAY_DEADLINE_EXCEEDED (the writing goes on), or the error of a failed write.
 */
BELAY_API belay_code belay_summary_writer_flush(belay_summary_writer *writer, int64_t timeout_ms,
                                                belay_error *err);

/**
 * Flushes, ends the background thread and closes the file, for all who share the writer. Does
 * nothing on a closed one.
 *
 * The writer is closed afterwards in any case. When the time is up, the thread is left to finish by
 * itself.
 *
 * @return as belay_summary_writer_flush().
 */
BELAY_API belay_code belay_summary_writer_close(belay_summary_writer *writer, int64_t timeout_ms,
                                                belay_error *err);

/**
 * Goes on after a close, in a new event file. Does nothing on an open writer.
 *
 * Tags of run metadata, and which tags had metadata, are remembered. Errors are those of
 * belay_summary_writer_open().
 */
BELAY_API belay_code belay_summary_writer_reopen(belay_summary_writer *writer, belay_error *err);

/** The folder, as it was given first. Lives as long as the writer. */
BELAY_API const char *belay_summary_writer_logdir(const belay_summary_writer *writer);

/** How many events were dropped, in all, because the disk did not keep up. */
BELAY_API uint64_t belay_summary_writer_dropped(belay_summary_writer *writer);

#ifdef __cplusplus
}
#endif

#endif
