#include <belay/export.h>

/* belay.h declares it among everything else; this layer knows only the number. */
BELAY_API const char *belay_version(void);

const char *belay_version(void) {
    return BELAY_VERSION;
}
