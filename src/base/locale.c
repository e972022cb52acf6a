#include "base/locale.h"

#include <pthread.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static locale_t plain;

static void make_plain(void) {
    plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

bly_locale bly_locale_plain(void) {
    pthread_once(&once, make_plain);
    return plain ? uselocale(plain) : (locale_t)0;
}

void bly_locale_restore(bly_locale was) {
    if (was)
        uselocale(was);
}
