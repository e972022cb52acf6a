/*
 * The belay side of events_rate, and its limit.
 *
 *     belay_events FOLDER COUNT            adds scalars to an event file until all are written
 *     belay_events FOLDER COUNT --write    makes the same file, then times write() of its bytes
 * alone
 */
#include "side.h"

#include <belay/belay.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What belay's own thread writes at once, about. */
#define WRITE_BYTES ((size_t)256 << 10)

static double add_scalars(const char *folder, long count) {
    belay_error *err = belay_error_new();
    belay_summary_writer *writer = belay_summary_writer_open(folder, NULL, err);
    if (!writer)
        side_die("opening the writer", belay_error_message(err));
    double start = side_now();
    for (long step = 1; step <= count; step++)
        belay_summary_writer_add_scalar(writer, "loss", 1.0 / (double)step, step, err);
    if (belay_summary_writer_flush(writer, BELAY_FOREVER, err) != BELAY_OK)
        side_die("flushing", belay_error_message(err));
    double seconds = side_now() - start;
    if (belay_summary_writer_dropped(writer))
        side_die("the disk did not keep up", "events were dropped");
    belay_summary_writer_unref(writer);
    belay_error_free(err);
    return seconds;
}

/* The folder's one file, whole. */
static void *read_events(const char *folder, size_t *out_size) {
    void *bytes = NULL;
    DIR *files = opendir(folder);
    for (struct dirent *entry; files && (entry = readdir(files)) != NULL;) {
        char path[4096];
        if (!strstr(entry->d_name, "tfevents"))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        bytes = side_read_file(path, out_size);
    }
    if (!bytes)
        side_die("no event file in", folder);
    closedir(files);
    return bytes;
}

static double write_bytes(const char *folder, const char *bytes, size_t size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/written", folder);
    double start = side_now();
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    for (size_t at = 0; fd >= 0 && at < size;) {
        size_t part = size - at < WRITE_BYTES ? size - at : WRITE_BYTES;
        ssize_t put = write(fd, bytes + at, part);
        if (put < 0)
            side_die("cannot write", path);
        at += (size_t)put;
    }
    double seconds = side_now() - start;
    if (fd < 0 || close(fd) != 0)
        side_die("cannot write", path);
    return seconds;
}

int main(int argc, char **argv) {
    size_t size = 0;
    if (argc < 3)
        side_die("usage: belay_events FOLDER COUNT", "[--write]");
    long count = strtol(argv[2], NULL, 10);
    double seconds = add_scalars(argv[1], count);
    if (argc > 3 && !strcmp(argv[3], "--write")) {
        char *bytes = read_events(argv[1], &size);
        seconds = write_bytes(argv[1], bytes, size);
        free(bytes);
    }
    printf("{\"events_per_second\": %.1f}\n", (double)count / seconds);
    return 0;
}
