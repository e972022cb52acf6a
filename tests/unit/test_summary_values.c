/* What a program adds to an event file beside scalars: graphs, histograms, pictures, texts,
 * hyperparameters. That they look as TensorFlow's do is tests/python/test_tensorboard.py's. */
#include "hooks_fixture.h"

#include "summary/histogram.h"

#include <belay/events.h>
#include <belay/hparams.h>
#include <belay/summary.h>

#include <float.h>
#include <math.h>

static const unsigned char png[33] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0,
                                      13,   'I', 'H', 'D', 'R',  0,    0,    0,    4, 0, 0,
                                      1,    2,   8,   2,   0,    0,    0,    0,    0, 0, 0};

static belay_code keep_first(void *self, const char *name, belay_error *err) {
    char *kept = self;
    (void)err;
    if (!kept[0] && strstr(name, "tfevents"))
        snprintf(kept, 300, "%s", name);
    return BELAY_OK;
}

static const char *first_event_file(fixture *f) {
    char name[300] = "";
    assert_ok(f, bly_directory_list(folder_of(f), keep_first, name, f->err));
    return in_folder(f, name);
}

/* Calls `each` for every event of the folder's one file; returns how many there are. */
static size_t each_event(fixture *f, void (*each)(size_t i, const belay_event *event)) {
    const char *path = first_event_file(f);
    belay_event_reader *reader = belay_event_reader_open(path, f->err);
    assert_non_null(reader);
    const belay_event *event;
    size_t count = 0;
    for (; (event = belay_event_reader_next(reader, f->err)) != NULL; count++)
        if (each)
            each(count, event);
    assert_int_equal(belay_error_code(f->err), BELAY_OK);
    belay_event_reader_free(reader);
    return count;
}

static belay_summary_writer *open_writer(fixture *f) {
    belay_summary_writer *writer = belay_summary_writer_open(folder_of(f), NULL, f->err);
    assert_non_null(writer);
    return writer;
}

static void close_writer(fixture *f, belay_summary_writer *writer) {
    assert_ok(f, belay_summary_writer_close(writer, BELAY_FOREVER, f->err));
    belay_summary_writer_unref(writer);
}

#define assert_invalid(f, call)                                                                    \
    do {                                                                                           \
        belay_error_clear((f)->err);                                                               \
        assert_int_equal((call), BELAY_INVALID_ARGUMENT);                                          \
        assert_true(belay_error_message((f)->err)[0] != '\0');                                     \
        belay_error_clear((f)->err);                                                               \
    } while (0)

/* ---- graphs ---- */

static void check_graph_events(size_t i, const belay_event *event) {
    static const belay_event_kind kinds[] = {BELAY_EVENT_FILE_VERSION, BELAY_EVENT_GRAPH_DEF,
                                             BELAY_EVENT_META_GRAPH_DEF};
    assert_true(i < 3);
    assert_int_equal(event->kind, kinds[i]);
    assert_true(i == 0 || event->size > 0);
}

/* EV-10, EV-12: a graph is given as such, or as bytes, not both. */
static void test_summary_writer_open__takes_a_graph_in_one_form__EV_10__EV_12(void **state) {
    fixture *f = *state;
    belay_summary_writer_options options = BELAY_SUMMARY_WRITER_OPTIONS_INIT;
    use_graph(f, MODEL);
    options.graph = f->graph;
    options.graph_def = "x";
    options.graph_def_size = 1;
    assert_null(belay_summary_writer_open(folder_of(f), &options, f->err));
    assert_int_equal(belay_error_code(f->err), BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(belay_error_message(f->err), "graph_def too"));
    options.graph_def = NULL;
    options.meta_graph_def = "x";
    assert_null(belay_summary_writer_open(folder_of(f), &options, f->err));
    assert_non_null(strstr(belay_error_message(f->err), "meta_graph_def too"));
    options.meta_graph_def = NULL;
    belay_summary_writer *writer = belay_summary_writer_open(folder_of(f), &options, f->err);
    assert_non_null(writer);
    close_writer(f, writer);
    assert_int_equal(each_event(f, check_graph_events), 3);
}

/* EV-12: one of the two must be there. EV-20, BUG-51: the same graph comes once. */
static void test_summary_writer_add_graph__needs_a_graph__EV_12(void **state) {
    fixture *f = *state;
    belay_summary_writer *writer = open_writer(f);
    use_graph(f, MODEL);
    assert_invalid(f, belay_summary_writer_add_graph(writer, NULL, 0, 0, f->err));
    assert_invalid(f, belay_summary_writer_add_meta_graph(writer, NULL, 9, 0, f->err));
    assert_invalid(f, belay_summary_writer_add_graph_once(writer, NULL, f->err));
    assert_ok(f, belay_summary_writer_add_graph_once(writer, f->graph, f->err));
    assert_ok(f, belay_summary_writer_add_graph_once(writer, f->graph, f->err));
    close_writer(f, writer);
    assert_int_equal(each_event(f, check_graph_events), 3);
}

/* ---- histograms ---- */

/* Every value is in a bucket whose border is the first above it; empty neighbours are joined. */
static void test_histogram__counts_each_value_below_its_border(void **state) {
    static const double values[] = {-1, 0, 1e-13, 1, 1, 2, 1e300, -1e300, DBL_MAX};
    bly_histogram *h = malloc(sizeof *h);
    double counted = 0;
    (void)state;
    assert_non_null(h);
    assert_int_equal(bly_histogram_make(h, values, BELAY_DOUBLE, 9, NULL), BELAY_OK);
    assert_true(h->proto.n_bucket < 20);
    assert_int_equal(h->proto.n_bucket, h->proto.n_bucket_limit);
    for (size_t i = 0; i < h->proto.n_bucket; i++) {
        counted += h->counts[i];
        size_t in_bucket = 0;
        for (size_t k = 0; k < 9; k++)
            in_bucket += (i + 1 == h->proto.n_bucket || values[k] < h->limits[i]) &&
                         (i == 0 || values[k] >= h->limits[i - 1]);
        assert_true(h->counts[i] == (double)in_bucket);
        assert_false(i > 0 && h->counts[i] == 0 && h->counts[i - 1] == 0);
        assert_true(i == 0 || h->limits[i] > h->limits[i - 1]);
    }
    assert_true(counted == 9 && h->proto.num == 9);
    assert_true(h->proto.max == DBL_MAX && h->proto.min == -1e300);
    free(h);
}

static void check_values(size_t i, const belay_event *event) {
    if (i == 0)
        return;
    assert_int_equal(event->kind, BELAY_EVENT_SUMMARY);
    assert_int_equal(event->step, (int64_t)i);
    assert_int_equal(event->value_count, 1);
    const belay_summary_value *value = &event->values[0];
    switch (i) {
    case 1:
        assert_int_equal(value->kind, BELAY_VALUE_HISTOGRAM);
        assert_true(value->count == 3 && value->min == 1 && value->max == 3 && value->number == 2);
        break;
    case 2:
        assert_int_equal(value->kind, BELAY_VALUE_IMAGE);
        assert_int_equal(value->width, 4);
        assert_int_equal(value->height, 258);
        assert_int_equal(value->size, sizeof png);
        assert_memory_equal(value->data, png, sizeof png);
        break;
    default:
        assert_int_equal(value->kind, BELAY_VALUE_TEXT);
        assert_string_equal(value->plugin, "text");
        assert_int_equal(value->size, 2);
        assert_memory_equal(value->data, i == 3 ? "hi" : "h?", 2);
    }
}

/* EV-09: of the two texts the first alone has metadata, and both are texts to a reader. */
static void test_summary_writer__adds_histograms_images_and_texts__EV_09(void **state) {
    fixture *f = *state;
    belay_summary_writer *writer = open_writer(f);
    static const float values[] = {3, 1, 2};
    assert_ok(f,
              belay_summary_writer_add_histogram(writer, "w", values, BELAY_FLOAT, 3, 1, f->err));
    assert_ok(f, belay_summary_writer_add_image(writer, "p", png, sizeof png, 2, f->err));
    assert_ok(f, belay_summary_writer_add_text(writer, "t", "hi", 3, f->err));
    assert_ok(f, belay_summary_writer_add_text(writer, "t", "h\xff", 4, f->err));
    close_writer(f, writer);
    assert_int_equal(each_event(f, check_values), 5);
}

/* ---- what is refused ---- */

/* Nothing of it reaches the file, and no call trips over NULL. */
static void test_summary_writer__refuses_what_it_cannot_write(void **state) {
    fixture *f = *state;
    belay_summary_writer *w = open_writer(f);
    static const float nan_second[] = {1, NAN};
    belay_hparam twice[] = {{"a", NULL, 1, BELAY_HPARAM_NUMBER, 0},
                            {"a", NULL, 2, BELAY_HPARAM_NUMBER, 0}};
    belay_hparam odd = {"a", NULL, 1, 7, 0}, bad_text = {"a", "\xff", 1, BELAY_HPARAM_TEXT, 0};
    belay_hparam nameless = {NULL, NULL, 1, BELAY_HPARAM_NUMBER, 0};
    unsigned char gif[sizeof png] = "GIF89a";
    assert_invalid(f, belay_summary_writer_add_histogram(w, "h", NULL, BELAY_FLOAT, 1, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_histogram(w, NULL, "", BELAY_FLOAT, 0, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_histogram(w, "h", "x", BELAY_STRING, 1, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_histogram(w, "h", "x", 12345, 1, 1, f->err));
    assert_int_equal(
        belay_summary_writer_add_histogram(w, "h", nan_second, BELAY_FLOAT, 2, 1, f->err),
        BELAY_INVALID_ARGUMENT);
    assert_non_null(strstr(belay_error_message(f->err), "value 1 of the histogram is"));
    assert_invalid(f, belay_summary_writer_add_image(w, "p", NULL, 40, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_image(w, "p", png, sizeof png - 1, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_image(w, "p", gif, sizeof gif, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_image(w, "p", png, SIZE_MAX, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_image(w, "\xff", png, sizeof png, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_text(w, "t", NULL, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_text(w, NULL, "t", 1, f->err));
    assert_invalid(f, belay_summary_writer_add_summary(w, NULL, 1, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_run_metadata(w, "t", NULL, 1, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_hparams(w, NULL, 1, NULL, f->err));
    assert_invalid(f, belay_summary_writer_add_hparams(w, twice, 2, NULL, f->err));
    assert_invalid(f, belay_summary_writer_add_hparams(w, &odd, 1, NULL, f->err));
    assert_invalid(f, belay_summary_writer_add_hparams(w, &bad_text, 1, NULL, f->err));
    assert_int_equal(belay_summary_writer_add_hparams(w, &bad_text, 1, NULL, f->err),
                     BELAY_INVALID_ARGUMENT);
    assert_string_equal(belay_error_message(f->err), "the text of hyperparameter 'a' is not UTF-8");
    for (int i = 0; i < 2; i++) {
        belay_hparam number = {"rate", NULL, i ? (double)INFINITY : (double)NAN,
                               BELAY_HPARAM_NUMBER, 0};
        assert_int_equal(belay_summary_writer_add_hparams(w, &number, 1, NULL, f->err),
                         BELAY_INVALID_ARGUMENT);
        assert_non_null(strstr(belay_error_message(f->err), "hyperparameter 'rate' is "));
        belay_error_clear(f->err);
    }
    assert_invalid(f, belay_summary_writer_add_hparams(w, &nameless, 1, NULL, f->err));
    assert_invalid(f, belay_summary_writer_add_hparams(w, twice, 1, "\xff", f->err));
    assert_invalid(f, belay_summary_writer_add_hparams_end(w, 0, f->err));
    close_writer(f, w);
    assert_int_equal(each_event(f, NULL), 1);
}

static void test_summary_writer_add_hparams_experiment__refuses_bad_ones(void **state) {
    fixture *f = *state;
    belay_summary_writer *w = open_writer(f);
    belay_hparams_experiment experiment = BELAY_HPARAMS_EXPERIMENT_INIT;
    belay_hparam_info infos[2] = {{.name = "a"}, {.name = "a"}};
    belay_metric_info metric = {NULL, NULL, NULL, NULL};
    experiment.hparam_count = 2;
    assert_invalid(f, belay_summary_writer_add_hparams_experiment(w, &experiment, f->err));
    experiment.hparams = infos;
    assert_invalid(f, belay_summary_writer_add_hparams_experiment(w, &experiment, f->err));
    infos[1].name = "b";
    infos[1].type = 7;
    assert_invalid(f, belay_summary_writer_add_hparams_experiment(w, &experiment, f->err));
    experiment.hparam_count = 1;
    experiment.metrics = &metric;
    experiment.metric_count = 1;
    assert_invalid(f, belay_summary_writer_add_hparams_experiment(w, &experiment, f->err));
    metric.tag = "loss";
    assert_ok(f, belay_summary_writer_add_hparams_experiment(w, &experiment, f->err));
    assert_int_equal(belay_summary_writer_add_hparams_experiment(w, &experiment, f->err),
                     BELAY_ALREADY_EXISTS);
    close_writer(f, w);
    assert_int_equal(each_event(f, NULL), 2);
}

static void test_summary_writer__a_null_writer_is_an_error_everywhere(void **state) {
    fixture *f = *state;
    belay_hparams_experiment experiment = BELAY_HPARAMS_EXPERIMENT_INIT;
    assert_invalid(f, belay_summary_writer_add_histogram(NULL, "h", NULL, 1, 0, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_image(NULL, "p", png, sizeof png, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_text(NULL, "t", "t", 1, f->err));
    assert_invalid(f, belay_summary_writer_add_graph_once(NULL, NULL, f->err));
    assert_invalid(f, belay_summary_writer_add_hparams(NULL, NULL, 0, NULL, f->err));
    assert_invalid(f, belay_summary_writer_add_hparams_end(NULL, 1, f->err));
    assert_invalid(f, belay_summary_writer_add_hparams_experiment(NULL, &experiment, f->err));
    assert_int_equal(belay_summary_writer_add_text(NULL, NULL, NULL, 1, NULL),
                     BELAY_INVALID_ARGUMENT);
}

/* ER-35, BUG-46, EV-11: a tag that was used is refused, in a later file too; what came before
 * stays. */
static void test_summary_writer_add_run_metadata__refuses_a_tag_twice__ER_35(void **state) {
    fixture *f = *state;
    belay_summary_writer *w = open_writer(f);
    assert_ok(f, belay_summary_writer_add_run_metadata(w, "step_1", "x", 1, 1, f->err));
    for (int reopened = 0; reopened < 2; reopened++) {
        assert_int_equal(belay_summary_writer_add_run_metadata(w, "step_1", "y", 1, 1, f->err),
                         BELAY_ALREADY_EXISTS);
        assert_non_null(strstr(belay_error_message(f->err), "step_1"));
        assert_ok(f, belay_summary_writer_close(w, BELAY_FOREVER, f->err));
        if (!reopened)
            assert_int_equal(each_event(f, NULL), 2);
        assert_ok(f, belay_summary_writer_reopen(w, f->err));
    }
    close_writer(f, w);
}

/* ---- no memory ---- */

static belay_code add_all(fixture *f, belay_summary_writer *w) {
    static const float values[] = {1, 2};
    belay_hparam listed[] = {{"", "sgd", 0, BELAY_HPARAM_TEXT, 0}};
    belay_hparam hparams[] = {{"rate", NULL, 0.5, BELAY_HPARAM_NUMBER, 0}};
    belay_hparam_info info = {.name = "rate", .values = listed, .value_count = 1};
    belay_metric_info metric = {"loss", NULL, NULL, NULL};
    belay_hparams_experiment experiment = {sizeof experiment, "e", NULL, &info, 1, &metric, 1};
    belay_code code = belay_summary_writer_add_histogram(w, "h", values, BELAY_FLOAT, 2, 1, f->err);
    if (code == BELAY_OK)
        code = belay_summary_writer_add_text(w, "t", "text", 1, f->err);
    if (code == BELAY_OK)
        code = belay_summary_writer_add_hparams_experiment(w, &experiment, f->err);
    if (code == BELAY_OK)
        code = belay_summary_writer_add_hparams(w, hparams, 1, NULL, f->err);
    if (code == BELAY_OK)
        code = belay_summary_writer_add_graph_once(w, f->graph, f->err);
    return code;
}

/* Each allocation fails once: an error that says so, nothing leaked, and the call goes through the
 * next time, hyperparameters included, though they come once. */
static void test_summary_values__survive_every_failed_allocation(void **state) {
    fixture *f = *state;
    belay_code code = BELAY_RESOURCE_EXHAUSTED;
    use_graph(f, MODEL);
    for (size_t n = 1; code != BELAY_OK; n++) {
        belay_summary_writer *w = open_writer(f);
        bly_mem_fail_at(n);
        code = add_all(f, w);
        bly_mem_fail_at(0);
        assert_true(code == BELAY_OK || code == BELAY_RESOURCE_EXHAUSTED);
        code = code == BELAY_OK ? BELAY_OK : BELAY_RESOURCE_EXHAUSTED;
        if (code != BELAY_OK) {
            belay_code again = add_all(f, w);
            assert_true(again == BELAY_OK || again == BELAY_ALREADY_EXISTS);
        }
        close_writer(f, w);
        assert_true(n < 1000);
        assert_true(code != BELAY_OK || n > 20);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_summary_writer_open__takes_a_graph_in_one_form__EV_10__EV_12),
        TEST(test_summary_writer_add_graph__needs_a_graph__EV_12),
        TEST(test_histogram__counts_each_value_below_its_border),
        TEST(test_summary_writer__adds_histograms_images_and_texts__EV_09),
        TEST(test_summary_writer__refuses_what_it_cannot_write),
        TEST(test_summary_writer_add_hparams_experiment__refuses_bad_ones),
        TEST(test_summary_writer__a_null_writer_is_an_error_everywhere),
        TEST(test_summary_writer_add_run_metadata__refuses_a_tag_twice__ER_35),
        TEST(test_summary_values__survive_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
