/* Summaries that a program adds itself, in the form of those that a graph computes: histograms,
 * pictures, texts. */
#include "base/error.h"
#include "base/mem.h"
#include "summary/event_file.h"
#include "summary/histogram.h"
#include "summary/writer_impl.h"

#include <string.h>

belay_code belay_summary_writer_add_histogram(belay_summary_writer *writer, const char *tag,
                                              const void *values, belay_dtype dtype, size_t count,
                                              int64_t step, belay_error *err) {
    Bly__SummaryValues__Value value = BLY__SUMMARY_VALUES__VALUE__INIT;
    if (!writer)
        return bly_no_writer(err);
    belay_code code = bly_check_tag(tag, err);
    if (code == BELAY_OK && !values && count)
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "%zu values are NULL", count);
    if (code != BELAY_OK)
        return code;
    bly_histogram *histogram = bly_malloc(sizeof *histogram);
    if (!histogram)
        return bly_fail_memory(err);
    code = bly_histogram_make(histogram, values, dtype, count, err);
    if (code == BELAY_OK) {
        value.tag = (char *)(uintptr_t)tag;
        value.value_case = BLY__SUMMARY_VALUES__VALUE__VALUE_HISTO;
        value.histo = &histogram->proto;
        code = bly_writer_add_value(writer, &value, step, 0, err);
    }
    bly_free(histogram);
    return code;
}

static uint32_t get_be(const unsigned char *from) {
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* Takes what TensorBoard wants to know from a PNG's first chunk: signature, length, "IHDR", width,
 * height, depth, colour type. */
static int read_png_head(const unsigned char *png, size_t size, Bly__SummaryValues__Image *out) {
    static const unsigned char signature[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    static const int32_t channels[] = {1, 0, 3, 3, 2, 0, 4}; /* by colour type; a palette is RGB */
    if (size < 33 || memcmp(png, signature, 16) != 0)
        return 0;
    uint32_t width = get_be(png + 16), height = get_be(png + 20), colour = png[25];
    if (width == 0 || height == 0 || width > INT32_MAX || height > INT32_MAX || colour > 6)
        return 0;
    out->width = (int32_t)width;
    out->height = (int32_t)height;
    out->colorspace = channels[colour];
    return out->colorspace > 0;
}

belay_code belay_summary_writer_add_image(belay_summary_writer *writer, const char *tag,
                                          const void *png, size_t size, int64_t step,
                                          belay_error *err) {
    Bly__SummaryValues__Value value = BLY__SUMMARY_VALUES__VALUE__INIT;
    Bly__SummaryValues__Image image = BLY__SUMMARY_VALUES__IMAGE__INIT;
    if (!writer)
        return bly_no_writer(err);
    belay_code code = bly_check_tag(tag, err);
    if (code != BELAY_OK)
        return code;
    if (!png || !read_png_head(png, size, &image))
        return bly_fail(err, BELAY_INVALID_ARGUMENT, "the %zu bytes of image '%s' are not a PNG",
                        size, tag);
    if (size > BLY_EVENT_MOST) /* before it is copied */
        return bly_fail(
            err, BELAY_INVALID_ARGUMENT,
            "image '%s' is of %zu bytes, which is too large: readers take at most 2 GiB", tag,
            size);
    image.encoded_image_string = (ProtobufCBinaryData){size, (uint8_t *)(uintptr_t)png};
    value.tag = (char *)(uintptr_t)tag;
    value.value_case = BLY__SUMMARY_VALUES__VALUE__VALUE_IMAGE;
    value.image = &image;
    return bly_writer_add_value(writer, &value, step, 0, err);
}

static belay_code add_text(belay_summary_writer *writer, const char *tag, char *text, int64_t step,
                           belay_error *err) {
    Bly__SummaryValues__Value value = BLY__SUMMARY_VALUES__VALUE__INIT;
    Bly__SummaryTensor tensor = BLY__SUMMARY_TENSOR__INIT;
    Bly__TensorShapeProto shape = BLY__TENSOR_SHAPE_PROTO__INIT;
    Bly__SummaryMetadata metadata = BLY__SUMMARY_METADATA__INIT;
    Bly__SummaryMetadata__PluginData plugin = BLY__SUMMARY_METADATA__PLUGIN_DATA__INIT;
    ProtobufCBinaryData bytes = {strlen(text), (uint8_t *)text};
    tensor.dtype = BELAY_STRING;
    tensor.tensor_shape = &shape;
    tensor.n_string_val = 1;
    tensor.string_val = &bytes;
    plugin.plugin_name = (char *)(uintptr_t) "text";
    metadata.plugin_data = &plugin;
    value.tag = (char *)(uintptr_t)tag;
    value.value_case = BLY__SUMMARY_VALUES__VALUE__VALUE_TENSOR;
    value.tensor = &tensor;
    value.metadata = &metadata;
    return bly_writer_add_value(writer, &value, step, 0, err);
}

belay_code belay_summary_writer_add_text(belay_summary_writer *writer, const char *tag,
                                         const char *text, int64_t step, belay_error *err) {
    if (!writer)
        return bly_no_writer(err);
    belay_code code = bly_check_tag(tag, err);
    if (code == BELAY_OK && !text)
        code = bly_fail(err, BELAY_INVALID_ARGUMENT, "the text of '%s' is NULL", tag);
    if (code != BELAY_OK)
        return code;
    char *copy = bly_as_utf8(text);
    code = copy ? add_text(writer, tag, copy, step, err) : bly_fail_memory(err);
    bly_free(copy);
    return code;
}
