/* Tensors as text for a log line, as numpy prints them (HK-LOG-11). */
#ifndef BLY_HOOKS_PRINT_TENSOR_H
#define BLY_HOOKS_PRINT_TENSOR_H

#include "base/buf.h"

#include <belay/tensor.h>

/* Appends the values: a scalar as its shortest text that reads back as the same number; an array in
 * brackets, columns aligned, small floats not in scientific notation, and above 1000 elements only
 * the ends of each dimension. Where numpy breaks a line there is a space: a log line is one line.
 */
void bly_print_tensor(bly_buf *out, const belay_tensor *tensor);

#endif
