#include "runtime/elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_at(int fd, void *to, size_t len, uint64_t at) {
    return at <= INT64_MAX && pread(fd, to, len, (off_t)at) == (ssize_t)len;
}

/* The end of `count` things of `size` bytes from `start` on; more than any file where it
 * overflows. */
static uint64_t end_of(uint64_t start, uint64_t count, uint64_t size) {
    uint64_t length, end;
    if (__builtin_mul_overflow(count, size, &length) || __builtin_add_overflow(start, length, &end))
        return UINT64_MAX;
    return end;
}

/* How long the file has to be; 0 where its headers cannot be read or make no sense. */
static uint64_t wanted_size(int fd) {
    Elf64_Ehdr header;
    if (!read_at(fd, &header, sizeof header, 0) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr) ||
        header.e_phnum == 0)
        return 0;
    uint64_t most = end_of(header.e_phoff, header.e_phnum, header.e_phentsize);
    uint64_t sections = end_of(header.e_shoff, header.e_shnum, header.e_shentsize);
    if (sections > most)
        most = sections;
    for (uint64_t i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment;
        if (!read_at(fd, &segment, sizeof segment, end_of(header.e_phoff, i, sizeof segment)))
            return most;
        uint64_t end = end_of(segment.p_offset, 1, segment.p_filesz);
        if (end > most)
            most = end;
    }
    return most;
}

int bly_elf_is_whole(const char *path, char *why, size_t room) {
    struct stat info;
    uint64_t wanted = 0;
    int problem = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info))
        problem = errno;
    else
        wanted = wanted_size(fd);
    if (fd >= 0)
        close(fd);
    if (problem)
        snprintf(why, room, "cannot be read: %s", strerror(problem));
    else if (!wanted)
        snprintf(why, room, "is damaged, or no shared library for this machine");
    else if ((uint64_t)info.st_size < wanted)
        snprintf(why, room,
                 "is damaged: it has %lld bytes, and %llu by its own headers; put a whole copy in "
                 "its place",
                 (long long)info.st_size, (unsigned long long)wanted);
    return !problem && wanted && (uint64_t)info.st_size >= wanted;
}
