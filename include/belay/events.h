/**
 * Reading event files, those of TensorBoard, without TensorFlow.
 *
 * A reader walks one file, event by event, whoever wrote it. A file that is still being written is
 * read as far as it goes; later the same reader goes on where it was. What is damaged is never
 * handed out: each record carries checksums.
 *
 * Threads: one at a time per object.
 */
#ifndef BELAY_EVENTS_H
#define BELAY_EVENTS_H

#include <belay/dtype.h>
#include <belay/error.h>
#include <belay/export.h>
#include <belay/summary.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct belay_event_reader belay_event_reader;

/** What an event is. */
typedef int32_t belay_event_kind;

#define BELAY_EVENT_OTHER        ((belay_event_kind)0) /**< Nothing that belay knows. */
#define BELAY_EVENT_FILE_VERSION ((belay_event_kind)1) /**< `text`: the version. */
#define BELAY_EVENT_GRAPH_DEF    ((belay_event_kind)2) /**< `data`: a GraphDef. */
#define BELAY_EVENT_SUMMARY      ((belay_event_kind)3) /**< `values`; `data`: a Summary. */
#define BELAY_EVENT_LOG_MESSAGE  ((belay_event_kind)4) /**< `text`. */
#define BELAY_EVENT_SESSION_LOG  ((belay_event_kind)5) /**< `status`, `checkpoint_path`, `text`. */
#define BELAY_EVENT_RUN_METADATA                                                                   \
    ((belay_event_kind)6) /**< `text`: the tag; `data`: a RunMetadata. */
#define BELAY_EVENT_META_GRAPH_DEF ((belay_event_kind)7) /**< `data`: a MetaGraphDef. */

/** What one value of a summary is. */
typedef int32_t belay_value_kind;

#define BELAY_VALUE_OTHER  ((belay_value_kind)0) /**< Nothing that belay knows. */
#define BELAY_VALUE_SCALAR ((belay_value_kind)1) /**< `number`. */
#define BELAY_VALUE_HISTOGRAM                                                                      \
    ((belay_value_kind)2)                       /**< `count`, `min`, `max`, `number`: the mean. */
#define BELAY_VALUE_IMAGE ((belay_value_kind)3) /**< `width`, `height`; `data`: as encoded. */
#define BELAY_VALUE_AUDIO                                                                          \
    ((belay_value_kind)4) /**< `number`: samples a second; `data`: as encoded. */
#define BELAY_VALUE_TEXT   ((belay_value_kind)5) /**< `data`, `size`: the (first) text. */
#define BELAY_VALUE_TENSOR ((belay_value_kind)6) /**< `dtype`, `count`: the elements. */

/**
 * One value of a summary. What TensorFlow 2 writes as a tensor for the plugin "scalars", "text",
 * "images" or "histograms" comes out as what it is.
 */
typedef struct belay_summary_value {
    const char *tag;
    const char
        *plugin; /**< TensorBoard's plugin for this tag, as far as this file told; else "". */
    belay_value_kind kind;
    belay_dtype dtype; /**< Of a value that is stored as a tensor; else BELAY_INVALID_DTYPE. */
    double number;     /**< See the kinds; NaN where they do not name it. */
    double min;        /**< Histograms; else NaN. */
    double max;        /**< Histograms; else NaN. */
    double count;      /**< Histograms, tensors; else 0. */
    int32_t width;     /**< Images; 0: unknown. */
    int32_t height;    /**< Images; 0: unknown. */
    const void *data;  /**< See the kinds; NULL where they do not name it. */
    uint64_t size;     /**< Bytes of data. */
} belay_summary_value;

/** One event. What its kind does not name is "", NULL or 0. */
typedef struct belay_event {
    double wall_time; /**< Seconds since 1970. */
    int64_t step;
    uint64_t offset; /**< Where its record begins in the file. */
    belay_event_kind kind;
    belay_session_status status;
    const char *text;
    const char *checkpoint_path;
    const char *writer; /**< The program, in the first event of a file. */
    const void *data;
    uint64_t size; /**< Bytes of data. */
    const belay_summary_value *values;
    uint64_t value_count;
} belay_event;

/**
 * Opens a file. What is in it is looked at by belay_event_reader_next() only.
 *
 * @param path UTF-8 path of the file.
 * @param err  Filled on error. May be NULL.
 * @return a reader that belay_event_reader_free() frees, or NULL:
 *   - BELAY_NOT_FOUND, BELAY_PERMISSION_DENIED: there is no such file, or it is not for us;
 *   - BELAY_INVALID_ARGUMENT: it is a folder, or something else that has no end.
 *
 * @since 0.1
 */
BELAY_API belay_event_reader *belay_event_reader_open(const char *path, belay_error *err);

/**
 * Reads the next event.
 *
 * @param err Cleared where NULL means the end; else says what is wrong. May be NULL.
 * @return the event, which lives until the next call on this reader, or NULL:
 *   - BELAY_OK: the end, for now: a file that has grown meanwhile is read on by a further call. A
 *     last record that is not all there yet counts as the end
 *     (belay_event_reader_incomplete_bytes());
 *   - BELAY_DATA_LOSS: the record at belay_event_reader_position() is damaged. Nothing behind it is
 *     read: a further call says the same;
 *   - BELAY_RESOURCE_EXHAUSTED: memory is out.
 */
BELAY_API const belay_event *belay_event_reader_next(belay_event_reader *reader, belay_error *err);

/** How many events were read. */
BELAY_API uint64_t belay_event_reader_count(const belay_event_reader *reader);

/** How many bytes of the file were read as whole events: where the next record begins. */
BELAY_API uint64_t belay_event_reader_position(const belay_event_reader *reader);

/**
 * After the end: how many bytes follow that are not a whole record yet, because the file is being
 * written, or because its writer died. 0: the file ends with an event.
 */
BELAY_API uint64_t belay_event_reader_incomplete_bytes(const belay_event_reader *reader);

/** Closes the file. NULL is fine. */
BELAY_API void belay_event_reader_free(belay_event_reader *reader);

#ifdef __cplusplus
}
#endif

#endif
