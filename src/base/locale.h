/* Numbers in files have a point, whatever language the host speaks. What turns such text into
 * numbers, or numbers into it, begins with `bly_locale was = bly_locale_plain();` and ends with
 * `bly_locale_restore(was);`. */
#ifndef BLY_BASE_LOCALE_H
#define BLY_BASE_LOCALE_H

#include <locale.h>

typedef locale_t bly_locale;

/* Puts the calling thread into the C locale and returns what it was in. */
bly_locale bly_locale_plain(void);
void bly_locale_restore(bly_locale was);

#endif
