#include "session/feed_list.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"

void bly_feed_list_free(bly_feed_list *list) {
    for (size_t i = 0; list->names && list->names[i]; i++)
        bly_free(list->names[i]);
    bly_free(list->names);
    bly_free(list->inputs);
    *list = (bly_feed_list){NULL, NULL};
}

belay_code bly_feed_list_copy(bly_feed_list *list, const char *const *names,
                              belay_tensor *const *inputs, belay_error *err) {
    size_t count = bly_count_names(names);
    if (count == 0)
        return BELAY_OK;
    list->names = bly_calloc(count + 1, sizeof *list->names);
    list->inputs = bly_calloc(count, sizeof(belay_tensor *));
    if (!list->names || !list->inputs)
        return bly_fail_memory(err);
    for (size_t i = 0; i < count; i++) {
        list->names[i] = bly_strdup(names[i]);
        list->inputs[i] = inputs ? inputs[i] : NULL;
        if (!list->names[i])
            return bly_fail_memory(err);
    }
    return BELAY_OK;
}
