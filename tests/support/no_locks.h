/* A file system without locks: while armed, F_OFD_SETLK fails as it does there. The link option
 * --wrap=fcntl (tests/CMakeLists.txt) leads the library's calls through here. */
#ifndef NO_LOCKS_H
#define NO_LOCKS_H

void no_locks_arm(int error_number); /* ENOLCK, ENOSYS, ...; 0: locks work again */

#endif
