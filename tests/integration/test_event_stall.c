/* A disk that stops answering, under a real training: BUG-28. The event thread's write() is held
 * back for as long as a test wants (the link option --wrap leads it through here), so what is shown
 * does not depend on time: a step that waited for the disk would never end, since the disk answers
 * only after all steps are run. */
#include "session_run.h"

#include "base/clock.h"
#include "base/mem.h"

#include <belay/events.h>

#include <pthread.h>

#define TAGS 10

/* ---- the disk ---- */

static struct {
    bly_mutex lock;
    bly_cond changed;
    pthread_t trainer;
    int stalled;
    int waiting; /* threads in a write that does not end */
    int gave_up; /* one waited until its deadline: the test hangs */
    int trainer_wrote;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);

/* The session that trains may have a file elsewhere. */
static int is_event_file(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    path[len > 0 ? len : 0] = '\0';
    return strstr(path, "/stall/events.out.tfevents") != NULL;
}

ssize_t __wrap_write(int fd, const void *data, size_t size) {
    int64_t deadline = bly_deadline_after_secs(30);
    if (!is_event_file(fd))
        return __real_write(fd, data, size);
    bly_mutex_lock(&disk.lock);
    if (disk.stalled && pthread_equal(pthread_self(), disk.trainer)) {
        disk.trainer_wrote = 1;
    } else {
        disk.waiting++;
        bly_cond_signal_all(&disk.changed);
        while (disk.stalled && !disk.gave_up)
            disk.gave_up = !bly_wait_until(&disk.changed, &disk.lock, deadline);
        disk.waiting--;
    }
    bly_mutex_unlock(&disk.lock);
    return __real_write(fd, data, size);
}

static void set_stalled(int stalled) {
    bly_mutex_lock(&disk.lock);
    disk.trainer = pthread_self();
    disk.stalled = stalled;
    bly_cond_signal_all(&disk.changed);
    bly_mutex_unlock(&disk.lock);
}

/* Stalls the disk, and returns when the event thread is in a write that does not end. */
static void stall(belay_summary_writer *writer) {
    int64_t deadline = bly_deadline_after_secs(60);
    set_stalled(1);
    assert_ok(belay_summary_writer_add_scalar(writer, "stalled", 1, 1, err));
    belay_code code = belay_summary_writer_flush(writer, BELAY_AT_ONCE, err);
    assert_int_equal(code, BELAY_DEADLINE_EXCEEDED);
    bly_mutex_lock(&disk.lock);
    while (!disk.waiting && bly_wait_until(&disk.changed, &disk.lock, deadline))
        ;
    int waiting = disk.waiting;
    bly_mutex_unlock(&disk.lock);
    assert_int_equal(waiting, 1);
}

/* The disk did not answer once since stall(), and nobody but the event thread asked it. */
static void assert_still_stalled(void) {
    bly_mutex_lock(&disk.lock);
    int waiting = disk.waiting, gave_up = disk.gave_up, wrote = disk.trainer_wrote;
    bly_mutex_unlock(&disk.lock);
    assert_int_equal(waiting, 1);
    assert_int_equal(gave_up, 0);
    assert_int_equal(wrote, 0);
}

/* ---- the training ---- */

static belay_monitored_session *open_session(struct trainee *t, const char *folder) {
    belay_training_options options = BELAY_TRAINING_OPTIONS_INIT;
    options.checkpoint_dir = folder;
    options.save_checkpoint_steps = 100;
    options.save_summaries_steps = 1;
    options.log_step_count_steps = 1;
    belay_monitored_session *session =
        belay_monitored_training_session_open(t->graph, &options, err);
    assert_made(session);
    return session;
}

/* Steps with ten scalars each. */
static void run_steps(struct trainee *t, belay_step *step, belay_summary_writer *writer,
                      int count) {
    for (int i = 0; i < count; i++) {
        train(t, step, 1);
        for (int tag = 0; tag < TAGS; tag++) {
            char name[16];
            snprintf(name, sizeof name, "mine/%d", tag);
            assert_ok(belay_summary_writer_add_scalar(writer, name, i, i, err));
        }
    }
}

struct found {
    uint64_t mine, checkpoints, files;
};

static belay_code count_file(void *self, const char *name, belay_error *unused) {
    struct found *found = self;
    const belay_event *event;
    (void)unused;
    if (!strstr(name, "tfevents"))
        return BELAY_OK;
    char *path = bly_path_join(TEST_WORK "/stall", name);
    belay_event_reader *reader = belay_event_reader_open(path, err);
    assert_made(reader);
    while ((event = belay_event_reader_next(reader, err)) != NULL) {
        found->checkpoints +=
            event->kind == BELAY_EVENT_SESSION_LOG && event->status == BELAY_SESSION_CHECKPOINT;
        for (uint64_t i = 0; i < event->value_count; i++)
            found->mine += !strncmp(event->values[i].tag, "mine/", 5);
    }
    assert_int_equal(belay_error_code(err), BELAY_OK);
    found->files++;
    belay_event_reader_free(reader);
    bly_free(path);
    return BELAY_OK;
}

static struct found count_events(void) {
    struct found found = {0, 0, 0};
    assert_ok(bly_directory_list(TEST_WORK "/stall", count_file, &found, err));
    return found;
}

/* BUG-28, EV-13, EV-21: steps that add ten scalars, the default hooks and their checkpoints go on
 * while the disk does not take one event; nothing is lost of it. */
static void test_event_stall__steps_do_not_wait_for_the_disk(void **state) {
    (void)state;
    struct trainee t = trainee_load("summaries.meta");
    belay_monitored_session *session = open_session(&t, work_folder("stall"));
    belay_step *step = trainee_step(&t, session);
    belay_summary_writer *writer = belay_summary_writer_shared(TEST_WORK "/stall", err);
    assert_made(writer);
    run_steps(&t, step, writer, 1);
    stall(writer);
    run_steps(&t, step, writer, 999);
    assert_still_stalled();
    assert_int_equal(belay_summary_writer_dropped(writer), 0);
    set_stalled(0);
    assert_ok(belay_monitored_session_close(session, err));
    assert_ok(belay_summary_writer_flush(writer, BELAY_FOREVER, err));
    belay_summary_writer_unref(writer);
    struct found found = count_events();
    assert_int_equal(found.files, 1);
    assert_int_equal(found.mine, 1000 * TAGS);
    assert_int_equal(found.checkpoints, 11);
    trainee_free(&t);
}

/* BUG-28: where memory's bound is reached too, scalars are dropped, counted, and told of, and the
 * steps still go on; session logs are kept. */
static void test_event_stall__what_does_not_fit_is_dropped_and_told(void **state) {
    (void)state;
    struct trainee t = trainee_load("summaries.meta");
    const char *folder = work_folder("stall");
    belay_summary_writer_options bounded = BELAY_SUMMARY_WRITER_OPTIONS_INIT;
    bounded.queue_bytes = 20000;
    belay_monitored_session *session = open_session(&t, work_folder("stall_checkpoints"));
    belay_step *step = trainee_step(&t, session);
    belay_summary_writer *writer = belay_summary_writer_open(folder, &bounded, err);
    assert_made(writer);
    log_start();
    stall(writer);
    run_steps(&t, step, writer, 1000);
    for (int i = 0; i < 50; i++)
        assert_ok(belay_summary_writer_add_session_log(writer, BELAY_SESSION_CHECKPOINT, "x", NULL,
                                                       i, err));
    assert_still_stalled();
    uint64_t dropped = belay_summary_writer_dropped(writer);
    assert_true(dropped > 1000 && dropped < 1000 * TAGS);
    assert_logged("the disk does not keep up");
    set_stalled(0);
    assert_ok(belay_summary_writer_close(writer, BELAY_FOREVER, err));
    assert_logged("events were dropped");
    belay_summary_writer_unref(writer);
    struct found found = count_events();
    assert_int_equal(found.mine, 1000 * TAGS - dropped);
    assert_int_equal(found.checkpoints, 50);
    assert_ok(belay_monitored_session_close(session, err));
    trainee_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event_stall__steps_do_not_wait_for_the_disk),
        cmocka_unit_test(test_event_stall__what_does_not_fit_is_dropped_and_told),
    };
    bly_cond_init(&disk.changed);
    return cmocka_run_group_tests(tests, session_run_set_up, session_run_tear_down);
}
