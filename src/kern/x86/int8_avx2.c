/* kern/x86/int8_avx2.c: products of the int8 class on AVX2 without VNNI: widened to 16 bits. */
#define VEC_ISA avx2
#include "kern/body/vec_avx2.h"
#include "kern/set.h"
#include "kern/body/int8.h"

void VEC_NAME(assay_kern_set_int8)(assay_kern *k) { set_int8(k); }
