/* Graphs as text, fuzzed: the first byte says what is read, 't' text and anything else a serialised
 * message. What was read as text is printed, and must be read as the same again; and so for bytes.
 *
 * With clang: -fsanitize=fuzzer,address. Without, replay.c gives it
 * tests/fuzz/corpus/graph_text. */
#include "graph/text_form.h"
#include "target.h"

#include <stdlib.h>
#include <string.h>

/* Numbers that are none print as nan whatever their bits were, so it is text that is compared. */
static void check_again(const bly_buf *bytes) {
    bly_buf text = BLY_BUF_INIT, again = BLY_BUF_INIT, second = BLY_BUF_INIT;
    if (bly_graph_to_text(BLY_META_GRAPH_DEF, "f", bly_buf_text(bytes), bytes->len, &text, NULL) ==
        BELAY_OK) {
        /* a string of a serialised message may have been cut off at a zero byte: not in its text */
        if (bly_graph_from_text(BLY_META_GRAPH_DEF, "f", bly_buf_text(&text), text.len, &again,
                                NULL) != BELAY_OK ||
            bly_graph_to_text(BLY_META_GRAPH_DEF, "f", bly_buf_text(&again), again.len, &second,
                              NULL) != BELAY_OK ||
            text.len != second.len ||
            memcmp(bly_buf_text(&text), bly_buf_text(&second), text.len) != 0)
            abort();
    }
    bly_buf_free(&text);
    bly_buf_free(&again);
    bly_buf_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bly_buf bytes = BLY_BUF_INIT;
    if (size == 0)
        return 0;
    if (data[0] != 't')
        bly_buf_append(&bytes, data + 1, size - 1);
    else if (bly_graph_from_text(BLY_META_GRAPH_DEF, "f", (const char *)data + 1, size - 1, &bytes,
                                 NULL) != BELAY_OK)
        bly_buf_clear(&bytes);
    check_again(&bytes);
    bly_buf_free(&bytes);
    return 0;
}
