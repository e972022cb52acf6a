/* Is a shared library whole? A file that was cut (a full disk, a download that broke off) can be
 * mapped all the same, and then the first look behind its end kills the process with SIGBUS. */
#ifndef BLY_RUNTIME_ELF_H
#define BLY_RUNTIME_ELF_H

#include <stddef.h>

/* 1 where all that the headers of an ELF file speak of lies within the file; else `why` says what
 * is wrong ("is damaged: ..."). What is inside is not looked at. */
int bly_elf_is_whole(const char *path, char *why, size_t room);

#endif
