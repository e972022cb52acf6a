/* Loads the library, uses it, lets it go, and does so again: a plugin of a host that reloads its
 * plugins. */
#include <belay/belay.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* ISO C has no cast from void * to a function; POSIX promises that the bytes are the same. */
#define FIND(variable, name)                                                                       \
    do {                                                                                           \
        void *symbol = dlsym(library, name);                                                       \
        if (!symbol) {                                                                             \
            fprintf(stderr, "%s\n", dlerror());                                                    \
            return 1;                                                                              \
        }                                                                                          \
        memcpy(&(variable), &symbol, sizeof symbol);                                               \
    } while (0)

static belay_code once(void *self, belay_error *err) {
    (void)err;
    ++*(int *)self;
    return BELAY_OK;
}

static int use(const char *path) {
    const char *(*version)(void);
    belay_coordinator *(*new_coordinator)(const belay_code *, size_t, belay_error *);
    belay_code (*start)(belay_coordinator *, const char *, belay_code (*)(void *, belay_error *),
                        void *, const belay_loop_options *, belay_error *);
    belay_code (*join)(belay_coordinator *, const belay_join_options *, belay_error *);
    void (*free_coordinator)(belay_coordinator *);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    int calls = 0;
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    FIND(version, "belay_version");
    FIND(new_coordinator, "belay_coordinator_new");
    FIND(start, "belay_coordinator_start_loop");
    FIND(join, "belay_coordinator_join");
    FIND(free_coordinator, "belay_coordinator_free");
    belay_loop_options options = BELAY_LOOP_OPTIONS_INIT;
    options.flags = BELAY_LOOP_ONCE;
    belay_coordinator *coordinator = new_coordinator(NULL, 0, NULL);
    int bad = strcmp(version(), BELAY_VERSION) != 0 ||
              start(coordinator, "once", once, &calls, &options, NULL) != BELAY_OK ||
              join(coordinator, NULL, NULL) != BELAY_OK || calls != 1;
    free_coordinator(coordinator);
    dlclose(library);
    return bad;
}

int main(int argc, char **argv) {
    for (int round = 0; round < 2; round++)
        if (argc != 2 || use(argv[1]) != 0) {
            fprintf(stderr, "round %d failed\n", round + 1);
            return 1;
        }
    return 0;
}
