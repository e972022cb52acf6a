#include "summary/event_file.h"

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HOST_MOST 255

static void put_le(unsigned char *to, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get_le(const unsigned char *from, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* Room for a frame at the end of `out`; NULL, with `out` as it was, when memory is out. Sets the
 * length only: the rest of the head and the tail are the sealer's. */
static unsigned char *begin_record(bly_buf *out, size_t payload_len) {
    unsigned char *at =
        (unsigned char *)bly_buf_reserve(out, BLY_RECORD_HEAD + payload_len + BLY_RECORD_TAIL);
    if (!at) {
        out->failed = 0; /* what it holds is whole */
        return NULL;
    }
    put_le(at, payload_len, 8);
    return at + BLY_RECORD_HEAD;
}

static void end_record(bly_buf *out, size_t payload_len) {
    out->len += BLY_RECORD_HEAD + payload_len + BLY_RECORD_TAIL;
}

belay_code bly_event_put(bly_buf *out, const Bly__Event *event, belay_error *err) {
    size_t len = bly__event__get_packed_size(event);
    if (len > BLY_EVENT_MOST)
        return bly_fail(err, BELAY_INVALID_ARGUMENT,
                        "an event of %zu bytes is too large: readers take at most 2 GiB", len);
    unsigned char *payload = begin_record(out, len);
    if (!payload)
        return bly_fail_memory(err);
    bly__event__pack(event, payload);
    end_record(out, len);
    return BELAY_OK;
}

static size_t varint_size(uint64_t value) {
    size_t size = 1;
    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

static unsigned char *put_varint(unsigned char *to, uint64_t value) {
    while (value >= 0x80) {
        *to++ = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    *to++ = (unsigned char)value;
    return to;
}

belay_code bly_event_put_scalar(bly_buf *out, double wall_time, int64_t step, const char *tag,
                                size_t tag_len, float value, belay_error *err) {
    /* The bytes before each field are its number and wire type: see wire/event.proto. */
    size_t tag_size = tag_len ? 1 + varint_size(tag_len) + tag_len : 0;
    size_t value_size = tag_size + 5;
    size_t summary_size = 1 + varint_size(value_size) + value_size;
    size_t step_size = step ? 1 + varint_size((uint64_t)step) : 0;
    size_t len = 9 + step_size + 1 + varint_size(summary_size) + summary_size;
    if (tag_len > BLY_EVENT_MOST || len > BLY_EVENT_MOST)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "a tag of %zu bytes is too long", tag_len);
    unsigned char *at = begin_record(out, len);
    uint64_t time_bits;
    uint32_t value_bits;
    if (!at)
        return bly_fail_memory(err);

    memcpy(&time_bits, &wall_time, sizeof time_bits);
    memcpy(&value_bits, &value, sizeof value_bits);
    *at++ = 0x09; /* wall_time */
    put_le(at, time_bits, 8);
    at += 8;
    if (step) {
        *at++ = 0x10; /* step */
        at = put_varint(at, (uint64_t)step);
    }
    *at++ = 0x2a; /* summary */
    at = put_varint(at, summary_size);
    *at++ = 0x0a; /* its value */
    at = put_varint(at, value_size);
    if (tag_len) {
        *at++ = 0x0a; /* tag */
        at = put_varint(at, tag_len);
        memcpy(at, tag, tag_len);
        at += tag_len;
    }
    *at++ = 0x15; /* simple_value */
    put_le(at, value_bits, 4);
    end_record(out, len);
    return BELAY_OK;
}

void bly_records_seal(void *records, size_t len) {
    unsigned char *at = records;
    unsigned char *end = at + len;
    while (at < end) {
        size_t payload_len = (size_t)get_le(at, 8);
        unsigned char *payload = at + BLY_RECORD_HEAD;
        put_le(at + 8, bly_crc32c_mask(bly_crc32c(0, at, 8)), 4);
        put_le(payload + payload_len, bly_crc32c_mask(bly_crc32c(0, payload, payload_len)), 4);
        at = payload + payload_len + BLY_RECORD_TAIL;
    }
}

belay_code bly_record_next(const unsigned char **data, size_t *len, const unsigned char **payload,
                           size_t *payload_len, belay_error *err) {
    const unsigned char *at = *data;
    if (*len < BLY_RECORD_HEAD)
        return bly_fail(err, BELAY_OUT_OF_RANGE, "no further record");
    uint64_t size = get_le(at, 8);
    if (bly_crc32c_mask(bly_crc32c(0, at, 8)) != get_le(at + 8, 4))
        return bly_fail(err, BELAY_DATA_LOSS, "the length of a record is damaged");
    if (size > BLY_EVENT_MOST)
        return bly_fail(err, BELAY_DATA_LOSS, "a record of %llu bytes is larger than any event",
                        (unsigned long long)size);
    if (*len - BLY_RECORD_HEAD < BLY_RECORD_TAIL || size > *len - BLY_RECORD_HEAD - BLY_RECORD_TAIL)
        return bly_fail(err, BELAY_OUT_OF_RANGE, "the last record is not complete");
    at += BLY_RECORD_HEAD;
    if (bly_crc32c_mask(bly_crc32c(0, at, (size_t)size)) != get_le(at + size, 4))
        return bly_fail(err, BELAY_DATA_LOSS, "a record of %zu bytes is damaged", (size_t)size);
    *payload = at;
    *payload_len = (size_t)size;
    *data = at + size + BLY_RECORD_TAIL;
    *len -= BLY_RECORD_HEAD + (size_t)size + BLY_RECORD_TAIL;
    return BELAY_OK;
}

/* TensorFlow's name with this process and a counter added: two writers of one host in one second
 * must not meet, be they in one process or two (BUG-49). TensorBoard looks for "tfevents" only. */
static char *new_path(const char *directory, const char *suffix, int64_t unix_secs) {
    static atomic_uint counter;
    char host[HOST_MOST + 1];
    bly_buf name = BLY_BUF_INIT;
    if (gethostname(host, sizeof host) != 0)
        strcpy(host, "localhost");
    host[HOST_MOST] = '\0';
    for (char *c = host; *c; c++)
        if (*c == '/')
            *c = '_';
    bly_buf_printf(&name, "events.out.tfevents.%010lld.%s.%ld.%u%s", (long long)unix_secs, host,
                   (long)getpid(), atomic_fetch_add(&counter, 1), suffix);
    char *path = name.failed ? NULL : bly_path_join(directory, name.data);
    bly_buf_free(&name);
    return path;
}

static belay_code put_first_record(int fd, const char *path, double unix_secs, belay_error *err) {
    bly_buf record = BLY_BUF_INIT;
    Bly__SourceMetadata source = BLY__SOURCE_METADATA__INIT;
    Bly__Event event = BLY__EVENT__INIT;
    source.writer = (char *)(uintptr_t) "belay";
    event.wall_time = unix_secs;
    event.what_case = BLY__EVENT__WHAT_FILE_VERSION;
    event.file_version = (char *)(uintptr_t) "brain.Event:2";
    event.source_metadata = &source;
    belay_code code = bly_event_put(&record, &event, err);
    if (code == BELAY_OK) {
        bly_records_seal(record.data, record.len);
        /* A file this small is written whole or not at all. */
        ssize_t put = write(fd, record.data, record.len);
        if (put < 0 || (size_t)put != record.len)
            code = bly_fail_errno(err, put < 0 ? errno : ENOSPC, "cannot write %s", path);
    }
    bly_buf_free(&record);
    return code;
}

int bly_event_file_create(const char *directory, const char *suffix, char **out_path,
                          belay_error *err) {
    int fd = -1;
    char *path = NULL;
    double now = floor(bly_unix_time());
    *out_path = NULL;
    if (bly_make_directories(directory, err) != BELAY_OK)
        return -1;
    do {
        bly_free(path);
        path = new_path(directory, suffix, (int64_t)now);
        if (!path) {
            bly_fail_memory(err);
            return -1;
        }
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    } while (fd < 0 && (errno == EEXIST || errno == EINTR)); /* another container, same pid */
    if (fd < 0) {
        bly_fail_errno(err, errno, "cannot make %s", path);
    } else if (put_first_record(fd, path, now, err) != BELAY_OK) {
        close(fd);
        unlink(path);
        fd = -1;
    }
    if (fd < 0)
        bly_free(path);
    else
        *out_path = path;
    return fd;
}
