/* Gives a target the files that are named, and every beginning of each: damage that a disk makes.
 */
#include "target.h"

#include <stdio.h>

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        static uint8_t bytes[1 << 20];
        FILE *file = fopen(argv[i], "rb");
        if (!file) {
            perror(argv[i]);
            return 1;
        }
        size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        for (size_t len = 0; len < size; len += 1 + len / 50)
            LLVMFuzzerTestOneInput(bytes, len);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    return 0;
}
