#include "graph/kind.h"

#include "base/error.h"
#include "base/text.h"
#include "wire/cursor.h"

#include <ctype.h>
#include <string.h>

/* The last eight bytes of a table file, such as a checkpoint's index. */
static const unsigned char table_magic[8] = {0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb};

/* Text as protobuf writes it: no control bytes, and a name first. `name` gets that. */
static int is_text(const char *data, size_t len, char *name, size_t room) {
    size_t shown = len < 1024 ? len : 1024, at = 0, used = 0;
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c < 0x20 && c != '\n' && c != '\t' && c != '\r')
            return 0;
        if (c == 0x7f)
            return 0;
    }
    while (at < shown && (isspace((unsigned char)data[at]) || data[at] == '#')) {
        if (data[at] == '#')
            while (at < shown && data[at] != '\n')
                at++;
        else
            at++;
    }
    while (at < shown && (isalnum((unsigned char)data[at]) || data[at] == '_') && used + 1 < room)
        name[used++] = data[at++];
    name[used] = '\0';
    while (at < shown && data[at] == ' ')
        at++;
    return used > 0 && at < shown && strchr("{:<", data[at]) != NULL;
}

static belay_code inside_saved_model(const char *path, belay_error *err) {
    return bly_fail(err, BELAY_DATA_LOSS,
                    "%s looks like the inside of a SavedModel: give the folder that holds it",
                    path);
}

static belay_code check_text(const char *path, const char *name, belay_error *err) {
    static const char *const of_meta_graph[] = {
        "meta_info_def", "graph_def",      "saver_def",       "collection_def",
        "signature_def", "asset_file_def", "object_graph_def"};
    if (BLY_AMONG(name, of_meta_graph))
        return BELAY_OK;
    if (strcmp(name, "node") == 0 || strcmp(name, "versions") == 0 || strcmp(name, "library") == 0)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s is a GraphDef in text form; belay needs a MetaGraphDef, which says "
                        "what the variables are (tf.compat.v1.train.export_meta_graph)",
                        path);
    if (strcmp(name, "saved_model_schema_version") == 0 || strcmp(name, "meta_graphs") == 0)
        return inside_saved_model(path, err);
    if (strcmp(name, "model_checkpoint_path") == 0)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s is the state file of a folder of checkpoints, and no graph", path);
    return bly_fail(err, BELAY_DATA_LOSS, "%s is a text file, and no MetaGraphDef", path);
}

/* A GraphDef starts with a node {name, op}; a MetaGraphDef with its MetaInfoDef, which has no two
 * strings there. */
static int is_graph_def(const void *data, size_t len) {
    bly_cursor cursor = bly_cursor_over(data, len);
    bly_field first, field, second;
    if (!bly_cursor_next(&cursor, &first) || first.number != 1 || first.type != 2)
        return 0;
    bly_cursor node = bly_cursor_over(first.data, first.size);
    if (!bly_cursor_next(&node, &field) || field.number != 1 || field.type != 2)
        return 0;
    if (!bly_cursor_next(&node, &field) || field.number != 2 || field.type != 2 || field.size == 0)
        return 0;
    for (size_t i = 0; i < field.size; i++)
        if (!isalnum(field.data[i]) && field.data[i] != '_')
            return 0;
    /* A MetaGraphDef has one field 1 only, and a graph_def. */
    return !bly_cursor_next(&cursor, &second) || second.number != 2;
}

static int is_saved_model(const void *data, size_t len) {
    bly_cursor cursor = bly_cursor_over(data, len);
    bly_field field;
    return bly_cursor_next(&cursor, &field) && field.number == 1 && field.type == 0;
}

belay_code bly_check_kind(const char *path, const void *data, size_t len, int *out_is_text,
                          belay_error *err) {
    const char *bytes = data;
    char name[64];
    *out_is_text = 0;
    if (len >= 8 && memcmp(bytes, "\x89HDF\r\n\x1a\n", 8) == 0)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s is an HDF5 file: load it with Keras and export it with "
                        "belay_export.py",
                        path);
    if (len >= 4 && memcmp(bytes, "PK\x03\x04", 4) == 0)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s is a zip archive%s: load it with Keras and export it with "
                        "belay_export.py",
                        path, bly_ends_with(path, ".keras") ? " (a .keras file)" : "");
    if (len >= 48 && memcmp(bytes + len - 8, table_magic, 8) == 0)
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s is the index of a checkpoint; its graph is the file that ends in .meta",
                        path);
    *out_is_text = is_text(bytes, len, name, sizeof name);
    if (*out_is_text)
        return check_text(path, name, err);
    if (is_saved_model(data, len))
        return inside_saved_model(path, err);
    if (is_graph_def(data, len))
        return bly_fail(err, BELAY_DATA_LOSS,
                        "%s is a bare GraphDef; belay needs a MetaGraphDef, which says what the "
                        "variables are (tf.compat.v1.train.export_meta_graph)",
                        path);
    return BELAY_OK;
}
