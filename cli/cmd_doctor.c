/* belay doctor: what a person who helps over the telephone would ask for. */
#include "commands.h"
#include "output.h"
#include "progress.h"
#include "quiet.h"

#include <fcntl.h>
#include <gnu/libc-version.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

typedef struct values {
    const char *dir, *cluster;
    int json;
} values;

#define AT(field) offsetof(values, field)

static const cli_option options[] = {
    {"dir", "DIR", "look at the disk of this folder; default: the current one", CLI_TEXT, AT(dir)},
    {"cluster", "SPEC", "which tasks of a cluster listen: JOB=HOST:PORT,...;JOB=..., or JSON",
     CLI_TEXT, AT(cluster)},
    {"json", NULL, "the result as JSON", CLI_SWITCH, AT(json)},
    {NULL, NULL, NULL, CLI_SWITCH, 0},
};

enum state { FINE, NOTE, BAD };

struct report {
    cli_table *table; /* NULL: JSON is wanted */
    json_t *json;
    int bad;
};

static void tell(struct report *report, enum state state, const char *what, const char *text) {
    static const char *const names[] = {"ok", "note", "bad"};
    report->bad |= state == BAD;
    if (report->table) {
        cli_table_add(report->table, (const char *[]){names[state], what, text});
        return;
    }
    json_t *one = json_object();
    json_object_set_new(one, "state", json_string(names[state]));
    json_object_set_new(one, "what", json_string(what));
    json_object_set_new(one, "text", cli_json_text(text));
    json_array_append_new(report->json, one);
}

static void tell_tensorflow(struct report *report) {
    belay_error *err = belay_error_new();
    char text[4096];
    if (cli_load_tensorflow(err) == BELAY_OK) {
        snprintf(text, sizeof text, "%s, from %s", belay_runtime_version(), belay_runtime_path());
        tell(report, FINE, "TensorFlow", text);
        if (strncmp(belay_runtime_version(), "2.21.", 5) != 0)
            tell(report, NOTE, "TensorFlow", "belay is made for and tested with 2.21");
    } else {
        tell(report, BAD, "TensorFlow", belay_error_message(err));
    }
    belay_error_free(err);
}

/* The environment that decides which TensorFlow is found and how it behaves. */
static void tell_environment(struct report *report) {
    static const char *const names[] = {
        "BELAY_TENSORFLOW",      "VIRTUAL_ENV",         "CONDA_PREFIX",
        "LD_LIBRARY_PATH",       "TF_CONFIG",           "TF_CPP_MIN_LOG_LEVEL",
        "TF_ENABLE_ONEDNN_OPTS", "CUDA_VISIBLE_DEVICES"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (value)
            tell(report, NOTE, names[i], value);
    }
}

static void tell_belay(struct report *report) {
    char text[128];
    snprintf(text, sizeof text, "%s%s%s", belay_version(),
             strcmp(belay_version(), BELAY_VERSION) != 0 ? ", command built for " : "",
             strcmp(belay_version(), BELAY_VERSION) != 0 ? BELAY_VERSION : "");
    tell(report, FINE, "belay", text);
}

static void tell_system(struct report *report) {
    struct utsname system;
    char text[512];
    if (!uname(&system)) {
        snprintf(text, sizeof text, "%s %s on %s", system.sysname, system.release, system.machine);
        tell(report, strcmp(system.machine, "x86_64") != 0 ? BAD : FINE, "system", text);
    }
    int major = 0, minor = 0;
    if (sscanf(gnu_get_libc_version(), "%d.%d", &major, &minor) == 2 &&
        (major < 2 || (major == 2 && minor < 27)))
        tell(report, BAD, "glibc", "TensorFlow needs 2.27 or later");
    else
        tell(report, FINE, "glibc", gnu_get_libc_version());
}

static void tell_machine(struct report *report) {
    char text[128], size[32];
    long cores = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES);
    long page = sysconf(_SC_PAGESIZE);
    snprintf(text, sizeof text, "%ld cores, %s of memory", cores,
             cli_size_text((uint64_t)pages * (uint64_t)page, size, sizeof size));
    tell(report, FINE, "machine", text);
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx"))
        tell(report, BAD, "processor", "has no AVX, which TensorFlow's libraries need");
#endif
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_cur < 1024) {
        snprintf(text, sizeof text, "only %llu may be open", (unsigned long long)files.rlim_cur);
        tell(report, NOTE, "files", text);
    }
}

static void tell_disk(struct report *report, const char *dir) {
    struct statvfs disk;
    char text[512], size[32];
    if (statvfs(dir, &disk)) {
        snprintf(text, sizeof text, "%s cannot be looked at", dir);
        tell(report, BAD, "disk", text);
        return;
    }
    uint64_t left = (uint64_t)disk.f_bavail * disk.f_frsize;
    snprintf(text, sizeof text, "%s free in %s", cli_size_text(left, size, sizeof size), dir);
    tell(report, left < (UINT64_C(1) << 30) ? NOTE : FINE, "disk", text);
    if (access(dir, W_OK))
        tell(report, BAD, "disk", "the folder cannot be written");
}

static void tell_task(void *self, const char *job, int32_t task, const char *address,
                      const char *reason) {
    char what[300], text[1000];
    snprintf(what, sizeof what, "job %s task %" PRId32, job, task);
    snprintf(text, sizeof text, "%s at %s%s%s", reason ? "does not listen" : "listens", address,
             reason ? ": " : "", reason ? reason : "");
    tell(self, reason ? BAD : FINE, what, text);
}

static void tell_cluster(struct report *report, const belay_cluster_spec *cluster) {
    belay_error *err = belay_error_new();
    if (belay_cluster_spec_probe(cluster, 0, tell_task, report, err) != BELAY_OK)
        tell(report, BAD, "cluster", belay_error_message(err));
    belay_error_free(err);
}

/* NULL with a code to end with where there is a specification, and it is wrong. */
static belay_cluster_spec *read_cluster(const values *v, int *out_code) {
    belay_error *err = belay_error_new();
    belay_cluster_spec *cluster = v->cluster ? belay_cluster_spec_parse(v->cluster, err) : NULL;
    *out_code = CLI_OK;
    if (v->cluster && !cluster)
        *out_code = belay_error_code(err) == BELAY_INVALID_ARGUMENT
                        ? cli_usage_error("--cluster: %s", belay_error_message(err))
                        : cli_report(err);
    belay_error_free(err);
    return cluster;
}

static int run_doctor(const void *given, const char *const *arguments, int count) {
    const values *v = given;
    int code;
    belay_cluster_spec *cluster = read_cluster(v, &code);
    if (code != CLI_OK)
        return code;
    static const char *const headings[] = {"", "what", ""};
    struct report report = {v->json ? NULL : cli_table_new(3, headings),
                            v->json ? json_array() : NULL, 0};
    (void)arguments;
    (void)count;
    cli_progress_start(CLI_LOG_TEXT, 0);
    tell_belay(&report);
    tell_system(&report);
    tell_machine(&report);
    tell_tensorflow(&report);
    tell_environment(&report);
    tell_disk(&report, v->dir ? v->dir : ".");
    if (cluster)
        tell_cluster(&report, cluster);
    belay_cluster_spec_free(cluster);
    if (report.table) {
        cli_table_print(report.table);
        cli_table_free(report.table);
    } else {
        cli_print_json(report.json);
    }
    return report.bad ? CLI_FAILED : CLI_OK;
}

const cli_command cli_doctor = {
    "doctor",
    "[--dir DIR] [--cluster SPEC] [--json]",
    "What is installed, loaded and reachable, and what is wrong.",
    "Each line begins with ok, note or bad; exit code 1: something is bad. SPEC as for 'belay\n"
    "server'. Tasks are looked at all at once, for at most five seconds.",
    options,
    sizeof(values),
    0,
    0,
    run_doctor,
};
