#include "cluster/spec.h"

#include "base/error.h"
#include "base/mem.h"
#include "cluster/address.h"
#include "wire/cluster.pb-c.h"
#include "wire/encode.h"
#include "wire/unpack.h"

#include <stdlib.h>
#include <string.h>

belay_cluster_spec *belay_cluster_spec_new(void) {
    return bly_calloc(1, sizeof(belay_cluster_spec));
}

static void free_job(struct bly_job *job) {
    for (size_t i = 0; i < job->count; i++)
        bly_free(job->tasks[i].address);
    bly_free(job->tasks);
    bly_free(job->name);
}

void belay_cluster_spec_free(belay_cluster_spec *spec) {
    if (!spec)
        return;
    for (size_t i = 0; i < spec->count; i++)
        free_job(&spec->jobs[i]);
    bly_free(spec->jobs);
    bly_buf_free(&spec->text);
    bly_buf_free(&spec->def);
    bly_free(spec);
}

static belay_code check_spec(const belay_cluster_spec *spec, belay_error *err) {
    if (spec)
        return BELAY_OK;
    return belay_error_code(err) ? belay_error_code(err)
                                 : bly_fail(err, BELAY_INVALID_ARGUMENT, "cluster is NULL");
}

/* ---- finding ---- */

/* Where a job is, or where it would go. */
static size_t job_place(const belay_cluster_spec *spec, const char *name, int *out_found) {
    size_t low = 0, high = spec->count;
    *out_found = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(spec->jobs[middle].name, name);
        if (order == 0) {
            *out_found = 1;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t task_place(const struct bly_job *job, int32_t index, int *out_found) {
    size_t low = 0, high = job->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (job->tasks[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    *out_found = low < job->count && job->tasks[low].index == index;
    return low;
}

const struct bly_job *bly_cluster_job(const belay_cluster_spec *spec, const char *name) {
    int found;
    size_t place = job_place(spec, name, &found);
    return found ? &spec->jobs[place] : NULL;
}

const struct bly_task *bly_job_task(const struct bly_job *job, int32_t index) {
    int found;
    size_t place = task_place(job, index, &found);
    return found ? &job->tasks[place] : NULL;
}

/* ---- changing ---- */

static void changed(belay_cluster_spec *spec) {
    bly_buf_clear(&spec->text);
    bly_buf_clear(&spec->def);
    spec->has_def = 0;
}

static struct bly_job *insert_job(belay_cluster_spec *spec, const char *name) {
    int found;
    size_t place = job_place(spec, name, &found);
    char *copy = bly_strdup(name);
    if (!copy || !bly_grow(&spec->jobs, spec->count, &spec->capacity, sizeof *spec->jobs)) {
        bly_free(copy);
        return NULL;
    }
    struct bly_job *job = &spec->jobs[place];
    memmove(job + 1, job, (spec->count - place) * sizeof *job);
    *job = (struct bly_job){.name = copy};
    spec->count++;
    changed(spec);
    return job;
}

static void remove_job(belay_cluster_spec *spec, struct bly_job *job) {
    size_t place = (size_t)(job - spec->jobs);
    free_job(job);
    spec->count--;
    memmove(job, job + 1, (spec->count - place) * sizeof *job);
    changed(spec);
}

static belay_code insert_task(belay_cluster_spec *spec, struct bly_job *job, int32_t index,
                              const char *address, belay_error *err) {
    int found;
    size_t place = task_place(job, index, &found);
    if (found)
        return bly_fail(err, BELAY_ALREADY_EXISTS, "job %s has a task %d already", job->name,
                        (int)index);
    char *copy = bly_strdup(address);
    if (!copy || !bly_grow(&job->tasks, job->count, &job->capacity, sizeof *job->tasks)) {
        bly_free(copy);
        return bly_fail_memory(err);
    }
    struct bly_task *task = &job->tasks[place];
    memmove(task + 1, task, (job->count - place) * sizeof *task);
    *task = (struct bly_task){index, copy};
    job->count++;
    changed(spec);
    return BELAY_OK;
}

static void remove_task(belay_cluster_spec *spec, struct bly_job *job, size_t at) {
    bly_free(job->tasks[at].address);
    job->count--;
    memmove(&job->tasks[at], &job->tasks[at + 1], (job->count - at) * sizeof *job->tasks);
    changed(spec);
}

belay_code belay_cluster_spec_add_job(belay_cluster_spec *spec, const char *name,
                                      const char *const *addresses, belay_error *err) {
    belay_code code = check_spec(spec, err);
    if (code != BELAY_OK)
        return code;
    if (!name || !*name)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "a job needs a name");
    if (bly_cluster_job(spec, name))
        return bly_fail(err, BELAY_ALREADY_EXISTS, "the cluster has a job %s already", name);
    struct bly_job *job = insert_job(spec, name);
    if (!job)
        return bly_fail_memory(err);
    for (int32_t i = 0; code == BELAY_OK && addresses && addresses[i]; i++)
        code = insert_task(spec, job, i, addresses[i], err);
    if (code != BELAY_OK)
        remove_job(spec, job);
    return code;
}

belay_code belay_cluster_spec_add_task(belay_cluster_spec *spec, const char *name, int32_t index,
                                       const char *address, belay_error *err) {
    belay_code code = check_spec(spec, err);
    if (code != BELAY_OK)
        return code;
    if (!name || !*name)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "a task needs the name of a job");
    if (!address)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "job %s task %d needs an address", name,
                        (int)index);
    if (index < 0)
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "job %s cannot have a task %d", name,
                        (int)index);
    int found;
    size_t place = job_place(spec, name, &found);
    struct bly_job *job = found ? &spec->jobs[place] : insert_job(spec, name);
    if (!job)
        return bly_fail_memory(err);
    code = insert_task(spec, job, index, address, err);
    if (code != BELAY_OK && !found)
        remove_job(spec, job);
    return code;
}

belay_cluster_spec *belay_cluster_spec_copy(const belay_cluster_spec *spec, belay_error *err) {
    if (check_spec(spec, err) != BELAY_OK)
        return NULL;
    belay_cluster_spec *copy = belay_cluster_spec_new();
    belay_code code = copy ? BELAY_OK : bly_fail_memory(err);
    for (size_t i = 0; code == BELAY_OK && i < spec->count; i++) {
        const struct bly_job *job = &spec->jobs[i];
        code = belay_cluster_spec_add_job(copy, job->name, NULL, err);
        for (size_t t = 0; code == BELAY_OK && t < job->count; t++)
            code = belay_cluster_spec_add_task(copy, job->name, job->tasks[t].index,
                                               job->tasks[t].address, err);
    }
    if (code == BELAY_OK)
        return copy;
    belay_cluster_spec_free(copy);
    return NULL;
}

/* ---- asking ---- */

size_t belay_cluster_spec_job_count(const belay_cluster_spec *spec) {
    return spec ? spec->count : 0;
}

const char *belay_cluster_spec_job_name(const belay_cluster_spec *spec, size_t index) {
    return spec && index < spec->count ? spec->jobs[index].name : NULL;
}

void bly_job_put_tasks(const struct bly_job *job, bly_buf *out) {
    if (job->count == 0) {
        bly_buf_puts(out, "no tasks");
        return;
    }
    bly_buf_puts(out, job->count == 1 ? "task " : "tasks ");
    for (size_t i = 0; i < job->count;) {
        size_t last = i;
        while (last + 1 < job->count && job->tasks[last + 1].index == job->tasks[last].index + 1)
            last++;
        bly_buf_printf(out, "%s%d", i ? ", " : "", (int)job->tasks[i].index);
        if (last > i)
            bly_buf_printf(out, "%s%d", last == i + 1 ? ", " : " to ", (int)job->tasks[last].index);
        i = last + 1;
    }
}

void bly_cluster_put_jobs(const belay_cluster_spec *spec, bly_buf *out) {
    if (spec->count == 0)
        bly_buf_puts(out, "no jobs");
    for (size_t i = 0; i < spec->count; i++) {
        bly_buf_printf(out, "%s%s with ", i ? ", " : "", spec->jobs[i].name);
        bly_job_put_tasks(&spec->jobs[i], out);
    }
}

/* CL-04 */
static const struct bly_job *need_job(const belay_cluster_spec *spec, const char *name,
                                      belay_error *err) {
    if (check_spec(spec, err) != BELAY_OK)
        return NULL;
    const struct bly_job *job = name ? bly_cluster_job(spec, name) : NULL;
    if (job)
        return job;
    bly_buf jobs = BLY_BUF_INIT;
    bly_cluster_put_jobs(spec, &jobs);
    bly_fail(err, BELAY_INVALID_ARGUMENT, "No such job in cluster: '%s'; it has %s",
             name ? name : "NULL", bly_buf_text(&jobs));
    bly_buf_free(&jobs);
    return NULL;
}

belay_code belay_cluster_spec_num_tasks(const belay_cluster_spec *spec, const char *name,
                                        size_t *out_count, belay_error *err) {
    size_t ignored;
    out_count = out_count ? out_count : &ignored;
    *out_count = 0;
    const struct bly_job *job = need_job(spec, name, err);
    if (!job)
        return BELAY_INVALID_ARGUMENT;
    *out_count = job->count;
    return BELAY_OK;
}

belay_code belay_cluster_spec_task_indices(const belay_cluster_spec *spec, const char *name,
                                           int32_t *out, size_t room, size_t *out_count,
                                           belay_error *err) {
    size_t ignored;
    out_count = out_count ? out_count : &ignored;
    *out_count = 0;
    room = out ? room : 0;
    const struct bly_job *job = need_job(spec, name, err);
    if (!job)
        return BELAY_INVALID_ARGUMENT;
    for (size_t i = 0; i < job->count && i < room; i++)
        out[i] = job->tasks[i].index;
    *out_count = job->count;
    return BELAY_OK;
}

const char *belay_cluster_spec_task_address(const belay_cluster_spec *spec, const char *name,
                                            int32_t index, belay_error *err) {
    const struct bly_job *job = need_job(spec, name, err);
    if (!job)
        return NULL;
    const struct bly_task *task = bly_job_task(job, index);
    if (task)
        return task->address;
    bly_buf tasks = BLY_BUF_INIT;
    bly_job_put_tasks(job, &tasks);
    bly_fail(err, BELAY_INVALID_ARGUMENT, "No task with index %d in job '%s'; it has %s",
             (int)index, name, bly_buf_text(&tasks));
    bly_buf_free(&tasks);
    return NULL;
}

belay_code belay_cluster_spec_job_tasks(const belay_cluster_spec *spec, const char *name,
                                        const char **out, size_t room, size_t *out_count,
                                        belay_error *err) {
    size_t ignored;
    out_count = out_count ? out_count : &ignored;
    *out_count = 0;
    room = out ? room : 0;
    const struct bly_job *job = need_job(spec, name, err);
    if (!job)
        return BELAY_INVALID_ARGUMENT;
    *out_count = job->count ? (size_t)job->tasks[job->count - 1].index + 1 : 0;
    for (size_t i = 0; i < room && i < *out_count; i++)
        out[i] = NULL;
    for (size_t i = 0; i < job->count && (size_t)job->tasks[i].index < room; i++)
        out[job->tasks[i].index] = job->tasks[i].address;
    return BELAY_OK;
}

static int same_tasks(const struct bly_job *a, const struct bly_job *b) {
    int same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same = a->tasks[i].index == b->tasks[i].index &&
               strcmp(a->tasks[i].address, b->tasks[i].address) == 0;
    return same;
}

uint32_t belay_cluster_spec_equal(const belay_cluster_spec *a, const belay_cluster_spec *b) {
    if (!a || !b)
        return a == b;
    int same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same =
            strcmp(a->jobs[i].name, b->jobs[i].name) == 0 && same_tasks(&a->jobs[i], &b->jobs[i]);
    return (uint32_t)same;
}

uint32_t belay_cluster_spec_is_chief(const belay_cluster_spec *spec, const char *task_type,
                                     int32_t task_index) {
    if (belay_cluster_spec_job_count(spec) == 0 || !task_type || strcmp(task_type, "chief") == 0 ||
        strcmp(task_type, "master") == 0 || strcmp(task_type, "evaluator") == 0)
        return 1;
    return strcmp(task_type, "worker") == 0 && task_index == 0 && !bly_cluster_job(spec, "chief") &&
           !bly_cluster_job(spec, "master");
}

/* ---- checking what a person wrote ---- */

/* What a device name can carry: "/job:NAME/task:0". */
static int is_job_name(const char *name) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char more[] = "_0123456789";
    if (!*name || !strchr(letters, *name))
        return 0;
    while (*name && (strchr(letters, *name) || strchr(more, *name)))
        name++;
    return *name == '\0';
}

struct place {
    const struct bly_job *job;
    const struct bly_task *task;
};

static int by_address(const void *a, const void *b) {
    const struct place *first = a, *second = b;
    int order = strcmp(first->task->address, second->task->address);
    if (order == 0)
        order = strcmp(first->job->name, second->job->name);
    if (order == 0)
        order = (first->task->index > second->task->index) - 1;
    return order;
}

/* An address at port 0 is not known yet, so it may stand with several tasks. */
static belay_code check_alone(const struct place *first, const struct place *second,
                              belay_error *err) {
    int port;
    if (strcmp(first->task->address, second->task->address) != 0 ||
        !bly_address_split(first->task->address, NULL, 0, &port) || port == 0)
        return BELAY_OK;
    return bly_fail(err, BELAY_INVALID_ARGUMENT,
                    "job %s task %d and job %s task %d have the same address, %s", first->job->name,
                    (int)first->task->index, second->job->name, (int)second->task->index,
                    first->task->address);
}

static belay_code check_addresses(const belay_cluster_spec *spec, size_t total, belay_error *err) {
    struct place *places = bly_calloc(total, sizeof *places);
    belay_code code = places ? BELAY_OK : bly_fail_memory(err);
    size_t count = 0;
    for (size_t j = 0; places && j < spec->count; j++)
        for (size_t t = 0; t < spec->jobs[j].count; t++)
            places[count++] = (struct place){&spec->jobs[j], &spec->jobs[j].tasks[t]};
    if (places)
        qsort(places, count, sizeof *places, by_address);
    for (size_t i = 1; code == BELAY_OK && i < count; i++)
        code = check_alone(&places[i - 1], &places[i], err);
    bly_free(places);
    return code;
}

belay_code bly_cluster_check(const belay_cluster_spec *spec, belay_error *err) {
    belay_code code = BELAY_OK;
    size_t total = 0;
    int port;
    for (size_t j = 0; code == BELAY_OK && j < spec->count; j++) {
        const struct bly_job *job = &spec->jobs[j];
        total += job->count;
        if (!is_job_name(job->name))
            code = bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "'%s' is no name for a job: a letter, then letters, digits and '_'",
                            job->name);
        for (size_t t = 0; code == BELAY_OK && t < job->count; t++)
            if (!bly_address_split(job->tasks[t].address, NULL, 0, &port))
                code = bly_fail(err, BELAY_INVALID_ARGUMENT,
                                "the address of job %s task %d, '%s', is not of the form HOST:PORT",
                                job->name, (int)job->tasks[t].index, job->tasks[t].address);
    }
    return code == BELAY_OK ? check_addresses(spec, total, err) : code;
}

/* ---- as text and as a ClusterDef ---- */

static int is_dense(const struct bly_job *job) {
    return job->count > 0 && (size_t)job->tasks[job->count - 1].index + 1 == job->count;
}

static void put_job(const struct bly_job *job, bly_buf *out) {
    int dense = is_dense(job);
    bly_buf_put_json(out, job->name);
    bly_buf_puts(out, dense ? ": [" : ": {");
    for (size_t i = 0; i < job->count; i++) {
        bly_buf_puts(out, i ? ", " : "");
        if (!dense)
            bly_buf_printf(out, "\"%d\": ", (int)job->tasks[i].index);
        bly_buf_put_json(out, job->tasks[i].address);
    }
    bly_buf_putc(out, dense ? ']' : '}');
}

const char *belay_cluster_spec_text(belay_cluster_spec *spec, belay_error *err) {
    if (check_spec(spec, err) != BELAY_OK)
        return NULL;
    if (spec->text.len > 0 && !spec->text.failed)
        return spec->text.data;
    bly_buf_free(&spec->text);
    bly_buf_putc(&spec->text, '{');
    for (size_t i = 0; i < spec->count; i++) {
        bly_buf_puts(&spec->text, i ? ", " : "");
        put_job(&spec->jobs[i], &spec->text);
    }
    bly_buf_putc(&spec->text, '}');
    if (!spec->text.failed)
        return spec->text.data;
    bly_fail_memory(err);
    return NULL;
}

/* By hand: protobuf-c leaves out an index of 0, which is right, but not what TensorFlow writes for
 * a map; and so the bytes are the same. */
static void put_task_def(const struct bly_task *task, bly_buf *out) {
    bly_buf entry = BLY_BUF_INIT;
    bly_put_number(&entry, 1, (uint64_t)task->index);
    bly_put_bytes(&entry, 2, task->address, strlen(task->address));
    bly_put_bytes(out, 2, entry.data, entry.len);
    out->failed |= entry.failed;
    bly_buf_free(&entry);
}

static void put_job_def(const struct bly_job *job, bly_buf *out) {
    bly_buf def = BLY_BUF_INIT;
    bly_put_bytes(&def, 1, job->name, strlen(job->name));
    for (size_t i = 0; i < job->count; i++)
        put_task_def(&job->tasks[i], &def);
    bly_put_bytes(out, 1, def.data, def.len);
    out->failed |= def.failed;
    bly_buf_free(&def);
}

const void *belay_cluster_spec_def(belay_cluster_spec *spec, size_t *out_size, belay_error *err) {
    size_t ignored;
    out_size = out_size ? out_size : &ignored;
    *out_size = 0;
    if (check_spec(spec, err) != BELAY_OK)
        return NULL;
    if (!spec->has_def) {
        bly_buf_free(&spec->def);
        for (size_t i = 0; i < spec->count; i++)
            put_job_def(&spec->jobs[i], &spec->def);
        spec->has_def = !spec->def.failed;
    }
    if (!spec->has_def) {
        bly_fail_memory(err);
        return NULL;
    }
    *out_size = spec->def.len;
    return bly_buf_text(&spec->def);
}

/* What stands there twice counts the second time, as in TensorFlow. */
static belay_code add_job_def(belay_cluster_spec *spec, const Bly__JobDef *def, belay_error *err) {
    int found;
    size_t place = job_place(spec, def->name, &found);
    if (found)
        remove_job(spec, &spec->jobs[place]);
    belay_code code = belay_cluster_spec_add_job(spec, def->name, NULL, err);
    for (size_t i = 0; code == BELAY_OK && i < def->n_tasks; i++) {
        struct bly_job *job = &spec->jobs[job_place(spec, def->name, &found)];
        size_t at = task_place(job, def->tasks[i]->key, &found);
        if (found)
            remove_task(spec, job, at);
        code = belay_cluster_spec_add_task(spec, def->name, def->tasks[i]->key,
                                           def->tasks[i]->value, err);
    }
    return code;
}

belay_cluster_spec *belay_cluster_spec_from_def(const void *cluster_def, size_t size,
                                                belay_error *err) {
    belay_code code;
    Bly__ClusterDef *def = bly_wire_unpack(&bly__cluster_def__descriptor, cluster_def, size, &code);
    if (!def) {
        if (code == BELAY_RESOURCE_EXHAUSTED)
            bly_fail_memory(err);
        else
            bly_fail(err, BELAY_INVALID_ARGUMENT, "these %zu bytes are no ClusterDef", size);
        return NULL;
    }
    belay_cluster_spec *spec = belay_cluster_spec_new();
    code = spec ? BELAY_OK : bly_fail_memory(err);
    for (size_t i = 0; code == BELAY_OK && i < def->n_job; i++)
        code = add_job_def(spec, def->job[i], err);
    bly_wire_free(def);
    if (code == BELAY_OK)
        return spec;
    belay_cluster_spec_free(spec);
    return NULL;
}
