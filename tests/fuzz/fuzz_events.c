/* Event files, fuzzed: the first byte says whether the rest is the bytes of a file, or the payload
 * of one record, whose checksums are then right.
 *
 * With clang: -fsanitize=fuzzer,address. Without, replay.c gives it
 * tests/fuzz/corpus/events. */
#include "base/buf.h"
#include "summary/event_file.h"
#include "target.h"

#include <belay/events.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads all there is, and touches what every event points to. */
static uint64_t read_all(const char *path) {
    belay_error *err = belay_error_new();
    belay_event_reader *reader = belay_event_reader_open(path, err);
    const belay_event *event;
    uint64_t sum = 0, before = 0;
    if (!reader)
        abort();
    while ((event = belay_event_reader_next(reader, err)) != NULL) {
        sum += strlen(event->text) + strlen(event->checkpoint_path) + strlen(event->writer);
        for (uint64_t i = 0; i < event->size; i++)
            sum += ((const unsigned char *)event->data)[i];
        for (uint64_t i = 0; i < event->value_count; i++) {
            const belay_summary_value *value = &event->values[i];
            sum += strlen(value->tag) + strlen(value->plugin) + (value->number > value->min);
            for (uint64_t k = 0; k < value->size; k++)
                sum += ((const unsigned char *)value->data)[k];
        }
        if (event->offset != before || belay_event_reader_position(reader) <= before)
            abort();
        before = belay_event_reader_position(reader);
    }
    if (belay_error_code(err) != BELAY_OK && belay_error_code(err) != BELAY_DATA_LOSS)
        abort();
    belay_event_reader_free(reader);
    belay_error_free(err);
    return sum;
}

static void put_record(bly_buf *out, const uint8_t *data, size_t size) {
    unsigned char head[BLY_RECORD_HEAD] = {0};
    for (size_t i = 0; i < 8; i++)
        head[i] = (unsigned char)((uint64_t)size >> (8 * i));
    bly_buf_append(out, head, sizeof head);
    bly_buf_append(out, data, size);
    bly_buf_append(out, head, BLY_RECORD_TAIL);
    bly_records_seal(out->data, out->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[] = "/tmp/belay-fuzz-XXXXXX";
    bly_buf bytes = BLY_BUF_INIT;
    if (size == 0)
        return 0;
    if (data[0] == 'r')
        put_record(&bytes, data + 1, size - 1);
    else
        bly_buf_append(&bytes, data + 1, size - 1);
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, bly_buf_text(&bytes), bytes.len) != (ssize_t)bytes.len)
        abort();
    close(fd);
    read_all(path);
    unlink(path);
    bly_buf_free(&bytes);
    return 0;
}
