#include "side.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Noreturn void side_die(const char *what, const char *detail) {
    fprintf(stderr, "%s: %s\n", what, detail);
    exit(1);
}

static const char **text_option(side_arguments *a, const char *name) {
    const struct {
        const char *name;
        const char **value;
    } options[] = {
        {"--dir", &a->dir},       {"--master", &a->master}, {"--init", &a->init},
        {"--target", &a->target}, {"--fetch", &a->fetch},   {"--x", &a->x},
        {"--y", &a->y},           {"--data", &a->data},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (strcmp(name, options[i].name) == 0)
            return options[i].value;
    }
    return NULL;
}

void side_parse(int argc, char **argv, side_arguments *out) {
    *out = (side_arguments){.warmup = 1};
    if (argc < 2)
        side_die("usage", "SIDE GRAPH [options], see side.h");
    out->graph = argv[1];
    for (int i = 2; i < argc; i += 2) {
        const char **text = text_option(out, argv[i]);
        if (i + 1 == argc)
            side_die("a value is missing after", argv[i]);
        if (text)
            *text = argv[i + 1];
        else if (strcmp(argv[i], "--warmup") == 0)
            out->warmup = strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--steps") == 0)
            out->steps = strtol(argv[i + 1], NULL, 10);
        else
            side_die("unknown option", argv[i]);
    }
    if (!out->fetch || out->warmup < 1)
        side_die("usage", "--fetch is needed, and at least one step of warm-up");
}

void *side_read_file(const char *path, size_t *out_size) {
    FILE *file = fopen(path, "rb");
    char *bytes = NULL;
    long size = 0;

    if (!file || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
        side_die("cannot read", path);
    rewind(file);
    /* Room for one byte more: an empty file is no special case. */
    bytes = malloc((size_t)size + 1);
    if (!bytes || fread(bytes, 1, (size_t)size, file) != (size_t)size)
        side_die("cannot read", path);
    fclose(file);
    *out_size = (size_t)size;
    return bytes;
}

/* The elements of a .npy file of version 1, as export_graphs.py writes them. */
static void *read_npy(const char *folder, const char *name, size_t *out_size) {
    char path[4096];
    size_t size = 0, skip = 0;
    unsigned char *bytes = NULL;
    void *elements = NULL;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    bytes = side_read_file(path, &size);
    if (size < 10 || memcmp(bytes, "\x93NUMPY\x01", 7) != 0)
        side_die("not a .npy file", path);
    skip = 10 + (size_t)bytes[8] + ((size_t)bytes[9] << 8);
    if (size < skip)
        side_die("a truncated .npy file", path);
    *out_size = size - skip;
    /* TensorFlow takes memory without a copy where it is aligned to 64. */
    elements = aligned_alloc(64, (*out_size + 63) / 64 * 64);
    if (!elements)
        side_die("no memory for", path);
    memcpy(elements, bytes + skip, *out_size);
    free(bytes);
    return elements;
}

side_batches side_read_batches(const char *folder) {
    side_batches batches = {0};
    size_t x_size = 0, y_size = 0;

    batches.x = read_npy(folder, "x.npy", &x_size);
    batches.y = read_npy(folder, "y.npy", &y_size);
    batches.count = y_size / (SIDE_BATCH * sizeof(int64_t));
    if (batches.count == 0 || x_size < batches.count * SIDE_BATCH * SIDE_FEATURES * sizeof(float))
        side_die("x.npy and y.npy do not fit each other in", folder);
    return batches;
}

double side_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void side_report(double first_step_at, double seconds, long steps) {
    printf("{\"first_step_at\": %.9f, \"us_per_step\": ", first_step_at);
    if (steps > 0)
        printf("%.4f}\n", seconds / (double)steps * 1e6);
    else
        printf("null}\n");
}
