/* Elements of tensors as text, JSON and numbers. */
#ifndef CLI_VALUES_H
#define CLI_VALUES_H

#include <belay/dtype.h>

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* One element as text that reads back as the same value. Types that are not known come out as
 * bytes. */
const char *cli_element_text(belay_dtype dtype, const void *data, int64_t index, char *text,
                             size_t room);

/* One element as a number; NaN where the type has none. Complex: the real part. */
double cli_element_number(belay_dtype dtype, const void *data, int64_t index);

json_t *cli_element_json(belay_dtype dtype, const void *data, int64_t index);

/* Bytes as a JSON string in quotes, on standard output. */
void cli_print_quoted(const char *bytes, size_t size);

#endif
