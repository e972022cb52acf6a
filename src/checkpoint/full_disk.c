#define _GNU_SOURCE
#include "checkpoint/full_disk.h"

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#include <belay/dtype.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

/* Bytes of the variables that a checkpoint holds, as far as the graph says; 0: it does not. */
static double wanted_bytes(const belay_graph *graph) {
    double sum = 0;
    for (size_t i = 0; i + graph->local_count < graph->variable_count; i++) {
        const belay_variable *v = &graph->variables[i].info;
        double bytes = (double)belay_dtype_size(v->dtype);
        for (int32_t d = 0; d < v->rank; d++)
            bytes *= (double)v->dims[d];
        if (v->rank < 0 || !(bytes > 0)) /* no shape, or strings */
            return 0;
        sum += bytes;
    }
    return sum;
}

static const char *size_text(double bytes, char *text, size_t room) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    for (; bytes >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        bytes /= 1024;
    snprintf(text, room, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

/* The system's own words for it: TensorFlow passes them on, and they are all that tells a full disk
 * from memory that ran out. NULL where they are not there. */
static const char *words_of_system(const char *message) {
    static const int numbers[] = {ENOSPC, EDQUOT, EFBIG};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strstr(message, strerror(numbers[i])))
            return strerror(numbers[i]);
    return NULL;
}

static void put_sizes(const belay_graph *graph, const char *prefix, char *text, size_t room) {
    char wanted[32], left[32];
    struct statvfs info;
    char *directory = bly_path_directory(prefix);
    double bytes = wanted_bytes(graph);
    text[0] = '\0';
    if (bytes > 0)
        snprintf(text, room, "; it takes about %s", size_text(bytes, wanted, sizeof wanted));
    if (directory && !statvfs(*directory ? directory : ".", &info)) {
        size_t used = strlen(text);
        snprintf(text + used, room - used, "%s %s free there",
                 used ? ", and there are" : "; there are",
                 size_text((double)info.f_bavail * (double)info.f_frsize, left, sizeof left));
    }
    bly_free(directory);
}

void bly_explain_full_disk(const belay_graph *graph, const char *prefix, belay_error *err) {
    char sizes[128];
    const char *words = words_of_system(err->message);
    int is_full = err->code == BELAY_RESOURCE_EXHAUSTED || err->code == BELAY_OUT_OF_RANGE;
    if (is_full && words) {
        put_sizes(graph, prefix, sizes, sizeof sizes);
        bly_fail(err, BELAY_RESOURCE_EXHAUSTED,
                 "%s: cannot save %s%s. Checkpoints of before are whole: %s, and start again",
                 words, prefix, sizes,
                 strcmp(words, strerror(EFBIG)) == 0 ? "allow larger files (ulimit -f)"
                                                     : "make room");
    } else if (err->code == BELAY_OUT_OF_RANGE) {
        err->code = BELAY_UNKNOWN;
    }
}
