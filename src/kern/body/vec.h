/* kern/body/vec.h: what every vector vocabulary shares. A vocabulary (vec_avx2.h, vec_avx512.h, vec_neon.h)
 * gives sixteen float lanes (v16), sixteen 32-bit integer lanes (v16i) and about forty words on them; the
 * loops in kern/body are written with those words alone, once for all instruction sets, and so add up in the
 * same order everywhere.
 *
 * The words that are not plain arithmetic:
 *   v16_sum(v)             lanes folded 8, 4, 2, 1 apart
 *   v16_sum4(out, a..d)    four such sums at once
 *   v16_lookup(t, i)       t[i & 15] per lane; v16_lookup2(t, u, i): u's in lanes 8..15
 *   v16_halves(a, b)       a's lanes 0..7, b's lanes 8..15
 *   v16_pow2(v)            2^n, n the integer in the low mantissa bits of v = n + 1.5*2^23
 *   v16i_dot4(acc, w, x)   acc += sum over the lane's four bytes of unsigned w * signed x, exactly; x from
 *                          vx_bcast4
 *   v16_f16(h)             the value of that float16, in all lanes
 *   v64                    64 signed bytes
 *   v64_points(t, at)      eight of t's vectors of eight bytes, side by side
 *   v64_minus_if(v, m)     the negative of the bytes whose bit of m is set
 *   vb                     32 bf16 values as 16 pairs; vb_dot is two fmas per lane, odd element first */
#ifndef ASSAY_KERN_VEC_H
#define ASSAY_KERN_VEC_H

#include <math.h>
#include <string.h>
#include "kern/kern.h"
#include "num/convert.h"

#define VEC_FN static inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define VEC_UNROLL _Pragma("unroll")
#else
#define VEC_UNROLL _Pragma("GCC unroll 16")
#endif
/* What the bytes of a row are, a constant of the loops over them (dot.h). */
enum {
    BYTES_PLAIN, /* Q8: code less one zero for all, a power of two */
    BYTES_ZEROS, /* Q8: each group has its own */
    BYTES_SIGNED,  /* S8 */
    BYTES_OFFSETS, /* S8 with offsets */
    BYTES_SIGNED16 /* S8 in groups of 16 */
};
/* Asks for a line that will be read a few thousand instructions later; any address will do. */
#define VEC_PREFETCH(p) __builtin_prefetch((const void *)(p), 0, 2)
#define VEC_PASTE2(a, b) a##_##b
#define VEC_PASTE(a, b) VEC_PASTE2(a, b)
#define VEC_NAME(a) VEC_PASTE(a, VEC_ISA) /* assay_kern_set_dot -> assay_kern_set_dot_avx2 */

#endif
