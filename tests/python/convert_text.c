/* Turns graphs into text and back, for test_text_form.py. Reads lines "KIND DIRECTION FROM TO":
 * KIND is graph, meta_graph or saved_model, DIRECTION to_text or to_bytes. Prints a line for each:
 * "ok", or the error. */
#include "base/error.h"
#include "base/file.h"
#include "graph/text_form.h"

#include <stdio.h>
#include <string.h>

static belay_code convert(const char *kind, const char *direction, const char *from, const char *to,
                          belay_error *err) {
    static const char *const kinds[] = {"graph", "meta_graph", "saved_model"};
    bly_buf in = BLY_BUF_INIT, out = BLY_BUF_INIT;
    bly_graph_message message = BLY_GRAPH_DEF;
    while (message < BLY_SAVED_MODEL && strcmp(kinds[message], kind) != 0)
        message++;
    belay_code code = bly_file_read(from, (size_t)1 << 30, &in, err);
    if (code == BELAY_OK && strcmp(direction, "to_text") == 0)
        code = bly_graph_to_text(message, from, bly_buf_text(&in), in.len, &out, err);
    else if (code == BELAY_OK)
        code = bly_graph_from_text(message, from, bly_buf_text(&in), in.len, &out, err);
    if (code == BELAY_OK)
        code = bly_file_write_atomic(to, bly_buf_text(&out), out.len, err);
    bly_buf_free(&in);
    bly_buf_free(&out);
    return code;
}

int main(void) {
    char kind[32], direction[32], from[1024], to[1024];
    while (scanf("%31s %31s %1023s %1023s", kind, direction, from, to) == 4) {
        BLY_LOCAL_ERROR(err);
        puts(convert(kind, direction, from, to, &err) == BELAY_OK ? "ok" : err.message);
    }
    return 0;
}
