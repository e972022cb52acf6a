#include "base/options.h"

#include "base/error.h"

#include <string.h>

#define SIZE_MOST ((size_t)4096)

belay_code bly_options_read(void *mine, size_t size, const void *given, const char *what,
                            belay_error *err) {
    size_t theirs = size;
    memset(mine, 0, size);
    if (given) {
        memcpy(&theirs, given, sizeof theirs);
        if (theirs < sizeof theirs || theirs > SIZE_MOST)
            return bly_fail(err, BELAY_INVALID_ARGUMENT,
                            "%s.struct_size is %zu: start from the type's _INIT macro", what,
                            theirs);
        for (size_t i = size; i < theirs; i++)
            if (((const unsigned char *)given)[i] != 0)
                return bly_fail(err, BELAY_INVALID_ARGUMENT,
                                "%s has an option set that this belay (%s) does not know", what,
                                BELAY_VERSION);
        memcpy(mine, given, theirs < size ? theirs : size);
    }
    memcpy(mine, &size, sizeof size);
    return BELAY_OK;
}
