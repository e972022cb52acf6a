/* Event files as bytes: TFRecord frames (EV-03) around Event messages (EV-05).
 *
 * A frame is: length (uint64), masked CRC-32C of the length (uint32), payload, masked CRC-32C of
 * the payload (uint32); all little endian. Frames are made in two steps, so that the thread that
 * trains does not compute checksums: the bly_event_put functions leave room for the CRCs, and
 * bly_records_seal() fills them in. */
#ifndef BLY_SUMMARY_EVENT_FILE_H
#define BLY_SUMMARY_EVENT_FILE_H

#include "base/buf.h"
#include "wire/event.pb-c.h"

#include <belay/error.h>

#include <stddef.h>
#include <stdint.h>

/* What a frame adds to its payload. */
#define BLY_RECORD_HEAD ((size_t)12)
#define BLY_RECORD_TAIL ((size_t)4)

/* A larger event could be written, and not be read: protobuf's limit. */
#define BLY_EVENT_MOST ((size_t)INT32_MAX - 1024)

/* Appends a frame with `event` in it, its CRCs not filled in. BELAY_RESOURCE_EXHAUSTED when memory
 * is out, BELAY_INVALID_ARGUMENT where the event is too large; `out` is then as it was. */
belay_code bly_event_put(bly_buf *out, const Bly__Event *event, belay_error *err);

/* The same for the one event that is written by the million, byte for byte as bly_event_put()
 * would, and faster. */
belay_code bly_event_put_scalar(bly_buf *out, double wall_time, int64_t step, const char *tag,
                                size_t tag_len, float value, belay_error *err);

/* Fills in the CRCs of the frames in `records`, which holds whole ones. */
void bly_records_seal(void *records, size_t len);

/* Takes one frame off the front of *data: sets the payload (inside *data) and moves *data and *len
 * past the frame. BELAY_OUT_OF_RANGE at the end, also where the last frame is not complete yet;
 * BELAY_DATA_LOSS where a CRC differs. */
belay_code bly_record_next(const unsigned char **data, size_t *len, const unsigned char **payload,
                           size_t *payload_len, belay_error *err);

/* Creates `directory` with its parents, and a new event file in it with its first record. Returns
 * the descriptor and gives the path, which the caller frees with bly_free(); -1 with err filled
 * where that fails. No file that is there, of whatever process, is ever opened (BUG-49). */
int bly_event_file_create(const char *directory, const char *suffix, char **out_path,
                          belay_error *err);

#endif
