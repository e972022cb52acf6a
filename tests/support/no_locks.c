#define _GNU_SOURCE
#include "no_locks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);

static int armed; /* set while no other thread runs */

void no_locks_arm(int error_number) {
    armed = error_number;
}

int __wrap_fcntl(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (command == F_OFD_SETLK && armed) {
        errno = armed;
        return -1;
    }
    return __real_fcntl(fd, command, argument);
}
