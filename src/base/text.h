/* Small things done to strings. */
#ifndef BLY_BASE_TEXT_H
#define BLY_BASE_TEXT_H

#include <stddef.h>

size_t bly_count_names(const char *const *names); /* of a list that ends in NULL; NULL: 0 */

/* Whether a text is one of a list, or of an array. */
int bly_is_among(const char *text, const char *const *list, size_t count);
#define BLY_AMONG(text, array) bly_is_among((text), (array), sizeof(array) / sizeof *(array))

int bly_starts_with(const char *text, const char *prefix);
int bly_ends_with(const char *text, const char *suffix);

/* Length of the UTF-8 sequence at `text`, which ends in a NUL somewhere; 0 where there is none. */
size_t bly_utf8_length(const char *text);
int bly_is_utf8(const char *text);

/* Makes text one line, whatever TensorFlow, a hook or a file name put into it: no control
 * characters, no spaces at the end. */
void bly_one_line(char *text);
/* Puts a '?' in the place of each byte that is not UTF-8. */
void bly_make_utf8(char *text);

/* The name among `count` names that is nearest to `wanted` (edit distance), or NULL where none is
 * near enough to be what somebody meant. For "no op 'trian'; did you mean 'train'?". */
const char *bly_nearest(const char *wanted, const char *const *names, size_t count);

#endif
