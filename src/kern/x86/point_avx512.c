/* kern/x86/point_avx512.c: elementwise operations on AVX-512. */
#define VEC_ISA avx512
#include "kern/body/vec_avx512.h"
#include "kern/set.h"
#include "kern/body/point.h"

void VEC_NAME(assay_kern_set_point)(assay_kern *k) { set_point(k); }
