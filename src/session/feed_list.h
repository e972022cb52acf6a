/* Tensors to feed to an op that initialises, kept from a pair of lists of the caller's. */
#ifndef BLY_SESSION_FEED_LIST_H
#define BLY_SESSION_FEED_LIST_H

#include <belay/tensor.h>

/* Names and pointers are copied; the tensors themselves are borrowed. */
typedef struct bly_feed_list {
    char **names; /* ends in NULL; NULL: none */
    belay_tensor **inputs;
} bly_feed_list;

/* `list` must be empty. On error it holds what there was memory for: free it all the same. */
belay_code bly_feed_list_copy(bly_feed_list *list, const char *const *names,
                              belay_tensor *const *inputs, belay_error *err);
void bly_feed_list_free(bly_feed_list *list);

#endif
