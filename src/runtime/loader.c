/* Finds TensorFlow, loads it, and fills the table. The order of the places is in belay/runtime.h.
 */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/thread.h"
#include "runtime/elf.h"

#include <belay/runtime.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY   "libtensorflow_cc.so.2"
#define FRAMEWORK "libtensorflow_framework.so.2"

static bly_mutex lock = PTHREAD_MUTEX_INITIALIZER;
static bly_runtime real;             /* guarded by lock until `in_use` points at it */
static const bly_runtime *in_use;    /* guarded by lock */
static const bly_runtime *installed; /* tests only */
static char *library_path;           /* guarded by lock */

/* What was looked at, for the message of the one who finds nothing. */
struct search {
    bly_buf places;
    void *library;
    void *framework;
};

static void note(struct search *search, const char *what, const char *path, const char *why) {
    bly_buf_puts(&search->places, search->places.len ? "; " : "");
    bly_buf_puts(&search->places, what);
    if (path)
        bly_buf_printf(&search->places, " (%s: %s)", path, why);
    else
        bly_buf_printf(&search->places, " (%s)", why);
}

static int is_whole(struct search *search, const char *what, const char *path) {
    char why[256];
    if (!path || bly_elf_is_whole(path, why, sizeof why))
        return 1;
    note(search, what, path, why);
    return 0;
}

/* Loads the library, and before it the framework, which it needs by name. `framework` NULL: the
 * system finds it. */
static int load(struct search *search, const char *what, const char *framework,
                const char *library) {
    if (!is_whole(search, what, framework) || !is_whole(search, what, library))
        return 0;
    if (framework)
        search->framework = dlopen(framework, RTLD_NOW | RTLD_LOCAL);
    search->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!search->library)
        note(search, what, library, dlerror());
    return search->library != NULL;
}

static const char *if_there(const char *path) {
    return path && bly_file_exists(path) ? path : NULL;
}

/* Loads the two libraries of one folder. */
static int try_folder(struct search *search, const char *what, const char *folder) {
    char *library = bly_path_join(folder, LIBRARY);
    char *framework = bly_path_join(folder, FRAMEWORK);
    int found = 0;
    if (!library || !framework) {
        note(search, what, folder, "out of memory");
    } else if (!bly_file_exists(library)) {
        note(search, what, folder, "no " LIBRARY " there");
    } else {
        found = load(search, what, if_there(framework), library);
    }
    if (found) {
        library_path = library;
        library = NULL;
    }
    bly_free(library);
    bly_free(framework);
    return found;
}

/* BELAY_TENSORFLOW: a folder, or the library itself. */
static int try_environment(struct search *search, const char *value) {
    if (bly_is_directory(value))
        return try_folder(search, "BELAY_TENSORFLOW", value);
    if (!bly_file_exists(value)) {
        note(search, "BELAY_TENSORFLOW", value, "no such file or folder");
        return 0;
    }
    char *folder = bly_path_directory(value);
    char *framework = folder ? bly_path_join(folder, FRAMEWORK) : NULL;
    int found = load(search, "BELAY_TENSORFLOW", if_there(framework), value);
    if (found)
        library_path = bly_strdup(value);
    bly_free(framework);
    bly_free(folder);
    return found;
}

struct packages {
    struct search *search;
    const char *lib;
    int tried;
    int found;
};

static belay_code try_python_version(void *self, const char *name, belay_error *err) {
    struct packages *packages = self;
    (void)err;
    if (packages->found || !bly_starts_with(name, "python3"))
        return BELAY_OK;
    bly_buf folder = BLY_BUF_INIT;
    bly_buf_printf(&folder, "%s/%s/site-packages/tensorflow", packages->lib, name);
    if (!folder.failed && bly_is_directory(folder.data)) {
        packages->tried = 1;
        packages->found =
            try_folder(packages->search, "the active Python environment", folder.data);
    }
    bly_buf_free(&folder);
    return BELAY_OK;
}

static int try_python_prefix(struct packages *packages, const char *prefix) {
    bly_buf lib = BLY_BUF_INIT;
    bly_buf_printf(&lib, "%s/lib", prefix);
    packages->lib = bly_buf_text(&lib);
    if (!lib.failed && bly_is_directory(packages->lib))
        bly_directory_list(packages->lib, try_python_version, packages, NULL);
    bly_buf_free(&lib);
    return packages->found;
}

/* The prefix of the python3 that a shell would start, found without starting it. */
static char *python_on_path(void) {
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t len = strcspn(path, ":");
        bly_buf candidate = BLY_BUF_INIT;
        bly_buf_append(&candidate, path, len);
        bly_buf_puts(&candidate, "/python3");
        int there = !candidate.failed && bly_file_exists(candidate.data);
        bly_buf_free(&candidate);
        if (there) {
            char *bin = bly_strndup(path, len);
            char *prefix = bin ? bly_path_directory(bin) : NULL;
            bly_free(bin);
            return prefix;
        }
        path += len + (path[len] == ':');
    }
    return NULL;
}

static int try_python(struct search *search) {
    struct packages packages = {search, NULL, 0, 0};
    static const char *const variables[] = {"VIRTUAL_ENV", "CONDA_PREFIX"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *prefix = getenv(variables[i]);
        if (prefix && *prefix && try_python_prefix(&packages, prefix))
            return 1;
    }
    char *prefix = python_on_path();
    int found = prefix && try_python_prefix(&packages, prefix);
    bly_free(prefix);
    if (!found && !packages.tried)
        note(search, "the active Python environment", NULL, "no tensorflow package");
    return found;
}

static int try_system(struct search *search) {
    search->framework = dlopen(FRAMEWORK, RTLD_NOW | RTLD_LOCAL);
    search->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (search->library) {
        library_path = bly_strdup(LIBRARY);
        return 1;
    }
    note(search, "the system's library path", NULL, "no " LIBRARY);
    return 0;
}

/* A host that has TensorFlow already: two copies would register every kernel twice. */
static int already_loaded(struct search *search) {
    search->library = dlopen(LIBRARY, RTLD_NOW | RTLD_NOLOAD);
    if (!search->library)
        return 0;
    search->framework = dlopen(FRAMEWORK, RTLD_NOW | RTLD_NOLOAD);
    Dl_info info;
    void *symbol = dlsym(search->library, "TF_Version");
    library_path = bly_strdup(symbol && dladdr(symbol, &info) ? info.dli_fname : LIBRARY);
    return 1;
}

static int find_library(struct search *search) {
    const char *chosen = getenv("BELAY_TENSORFLOW");
    if (already_loaded(search))
        return 1;
    if (chosen && *chosen) {
        if (try_environment(search, chosen))
            return 1;
        /* Somebody chose a TensorFlow: another one in its place would be a surprise. */
        note(search, "the prefix of the build", BLY_TENSORFLOW_PREFIX, "not tried");
        note(search, "the active Python environment", NULL, "not tried");
        note(search, "the system's library path", NULL, "not tried, since BELAY_TENSORFLOW is set");
        return 0;
    }
    note(search, "BELAY_TENSORFLOW", NULL, "not set");
    return try_folder(search, "the prefix of the build", BLY_TENSORFLOW_PREFIX) ||
           try_python(search) || try_system(search);
}

static void *find_symbol(const struct search *search, const char *name) {
    void *symbol = dlsym(search->library, name);
    return symbol || !search->framework ? symbol : dlsym(search->framework, name);
}

/* ISO C has no cast from void * to a function; POSIX promises that the bytes are the same. */
#define FILL(name)                                                                                 \
    do {                                                                                           \
        void *symbol = find_symbol(search, "TF_" #name);                                           \
        if (!symbol)                                                                               \
            return bly_fail(err, BELAY_FAILED_PRECONDITION,                                        \
                            "%s has no symbol TF_" #name                                           \
                            ": belay needs the libraries of tensorflow-cpu 2.21",                  \
                            library_path ? library_path : LIBRARY);                                \
        memcpy(&table->name, &symbol, sizeof symbol);                                              \
    } while (0);

static belay_code fill(bly_runtime *table, const struct search *search, belay_error *err) {
    BLY_RUNTIME_CALLS(FILL)
    return BELAY_OK;
}

static belay_code load_locked(belay_error *err) {
    struct search search = {BLY_BUF_INIT, NULL, NULL};
    belay_code code;
    if (find_library(&search))
        code = fill(&real, &search, err);
    else
        code = bly_fail(err, BELAY_NOT_FOUND,
                        "TensorFlow not found; looked in: %s. Set BELAY_TENSORFLOW to the folder "
                        "that holds " LIBRARY " (the package tensorflow-cpu has it)",
                        bly_buf_text(&search.places));
    if (code == BELAY_OK) {
        in_use = &real;
    } else {
        bly_free(library_path);
        library_path = NULL;
    }
    bly_buf_free(&search.places);
    return code;
}

const bly_runtime *bly_runtime_get(belay_error *err) {
    if (installed)
        return installed;
    bly_mutex_lock(&lock);
    if (!in_use)
        load_locked(err);
    const bly_runtime *table = in_use;
    bly_mutex_unlock(&lock);
    return table;
}

void bly_runtime_install(const bly_runtime *table) {
    installed = table;
}

belay_code bly_runtime_code(const bly_runtime *rt, const TF_Status *status) {
    belay_code code = (belay_code)rt->GetCode(status);
    if (code >= 0 && code <= BELAY_UNAUTHENTICATED)
        return code;
    bly_warn("TensorFlow returned the unknown status code %d", (int)code);
    return BELAY_UNKNOWN;
}

belay_code bly_runtime_finish(const bly_runtime *rt, TF_Status *status, belay_error *err) {
    belay_code code = bly_runtime_code(rt, status);
    if (code != BELAY_OK)
        bly_fail_tensorflow(err, code, rt->Message(status));
    rt->DeleteStatus(status);
    return code;
}

belay_code belay_runtime_load(belay_error *err) {
    BLY_LOCAL_ERROR(mine);
    if (bly_runtime_get(&mine))
        return BELAY_OK;
    bly_error_copy(err, &mine);
    return mine.code;
}

const char *belay_runtime_version(void) {
    if (installed)
        return installed->Version();
    bly_mutex_lock(&lock);
    const char *version = in_use ? in_use->Version() : "";
    bly_mutex_unlock(&lock);
    return version;
}

const char *belay_runtime_path(void) {
    bly_mutex_lock(&lock);
    const char *path = library_path ? library_path : "";
    bly_mutex_unlock(&lock);
    return path;
}
