/* What somebody else's smallest program looks like: it needs the headers and the library, and no
 * TensorFlow. */
#include <belay/belay.h>

#include <stdio.h>
#include <string.h>

int main(void) {
    belay_error *err = belay_error_new();
    belay_error_set(err, BELAY_NOT_FOUND, "no such thing");
    int fine =
        strcmp(belay_version(), BELAY_VERSION) == 0 && belay_error_code(err) == BELAY_NOT_FOUND;
    belay_error_free(err);
    puts(belay_version());
    return fine ? 0 : 1;
}
