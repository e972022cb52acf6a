#ifndef BLY_BASE_LOG_H
#define BLY_BASE_LOG_H

#include <belay/log.h>

void bly_log(belay_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define bly_debug(...) bly_log(BELAY_LOG_DEBUG, __VA_ARGS__)
#define bly_info(...)  bly_log(BELAY_LOG_INFO, __VA_ARGS__)
#define bly_warn(...)  bly_log(BELAY_LOG_WARNING, __VA_ARGS__)
#define bly_error(...) bly_log(BELAY_LOG_ERROR, __VA_ARGS__)

#endif
