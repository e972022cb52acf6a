#include "base/text.h"

#include <stdint.h>
#include <string.h>

#define NEAR_LENGTH_MOST 200

size_t bly_count_names(const char *const *names) {
    size_t count = 0;
    while (names && names[count])
        count++;
    return count;
}

int bly_is_among(const char *text, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, list[i]) == 0)
            return 1;
    return 0;
}

int bly_starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

int bly_ends_with(const char *text, const char *suffix) {
    size_t len = strlen(text), tail = strlen(suffix);
    return len >= tail && strcmp(text + len - tail, suffix) == 0;
}

size_t bly_utf8_length(const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 ? 2 : 0;
    if (s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return len;
}

void bly_one_line(char *text) {
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == ' ')
        text[--len] = '\0';
}

void bly_make_utf8(char *text) {
    while (*text) {
        size_t len = bly_utf8_length(text);
        if (len == 0)
            *text = '?';
        text += len ? len : 1;
    }
}

int bly_is_utf8(const char *text) {
    while (*text) {
        size_t len = bly_utf8_length(text);
        if (len == 0)
            return 0;
        text += len;
    }
    return 1;
}

static size_t least(size_t a, size_t b, size_t c) {
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein's distance, one row at a time. Both strings are at most NEAR_LENGTH_MOST long. */
static size_t distance(const char *a, const char *b) {
    size_t row[NEAR_LENGTH_MOST + 1];
    size_t columns = strlen(b);
    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < columns; j++) {
            size_t change = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = least(change, row[j] + 1, row[j + 1] + 1);
        }
    }
    return row[columns];
}

const char *bly_nearest(const char *wanted, const char *const *names, size_t count) {
    const char *nearest = NULL;
    size_t len = strlen(wanted);
    size_t best = len / 3 + 2; /* farther than this is another word */
    if (len > NEAR_LENGTH_MOST)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t other = strlen(names[i]);
        if (other > NEAR_LENGTH_MOST || (other > len ? other - len : len - other) >= best)
            continue;
        size_t d = distance(wanted, names[i]);
        if (d < best) {
            best = d;
            nearest = names[i];
        }
    }
    return nearest;
}
