#include "base/clock.h"

#include <time.h>

static bly_clock installed;

void bly_clock_install(const bly_clock *clock) {
    installed = clock ? *clock : (bly_clock){NULL, NULL, NULL};
}

static int64_t system_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t bly_now_us(void) {
    return installed.now_us ? installed.now_us(installed.self) : system_now_us();
}

int64_t bly_now_ms(void) {
    return bly_now_us() / 1000;
}

double bly_unix_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int64_t bly_deadline_after_secs(double seconds) {
    int64_t now = bly_now_us();
    if (!(seconds > 0))
        return now;
    double most = (double)(BLY_NEVER - now) / 2e6;
    return seconds >= most ? BLY_NEVER : now + (int64_t)(seconds * 1e6);
}

int bly_wait_until(bly_cond *cond, bly_mutex *mutex, int64_t deadline_us) {
    if (deadline_us != BLY_NEVER && bly_now_us() >= deadline_us)
        return 0;
    if (installed.wait)
        installed.wait(installed.self, cond, mutex, deadline_us);
    else
        bly_cond_wait(cond, mutex, deadline_us);
    return deadline_us == BLY_NEVER || bly_now_us() < deadline_us;
}
