/* The floating-point mode in which TensorFlow computes.
 *
 * TensorFlow's own threads flush denormals to zero, round to nearest and trap nothing. A run in the
 * calling thread computes in the caller's mode instead: then the last bits of a slowly vanishing
 * moment of Adam depend on the way a step is run, denormals are slow, and a host that traps
 * floating-point exceptions dies in a kernel. So such a run gets TensorFlow's mode, and the caller
 * gets his back. */
#ifndef BLY_RUNTIME_FPU_H
#define BLY_RUNTIME_FPU_H

#ifdef __SSE2__

#include <xmmintrin.h>

/* All exceptions masked, to nearest; flush to zero; denormals are zero. */
#define BLY_FPU_TENSORFLOW (0x1f80u | 0x8000u | 0x0040u)

typedef unsigned int bly_fpu_mode;

static inline bly_fpu_mode bly_fpu_enter(void) {
    bly_fpu_mode callers = _mm_getcsr();
    _mm_setcsr(BLY_FPU_TENSORFLOW);
    return callers;
}

static inline void bly_fpu_leave(bly_fpu_mode callers) {
    _mm_setcsr(callers);
}

#else
#error "how TensorFlow's threads treat denormals on this processor is not known to belay"
#endif

#endif
