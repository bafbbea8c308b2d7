/* kern/x86/point_avx2.c: elementwise operations on AVX2. */
#define VEC_ISA avx2
#include "kern/body/vec_avx2.h"
#include "kern/set.h"
#include "kern/body/point.h"

void VEC_NAME(assay_kern_set_point)(assay_kern *k) { set_point(k); }
