/* kern/x86/int8_avx512.c: products of the int8 class on AVX-512 without VNNI: widened to 16 bits. */
#define VEC_ISA avx512
#include "kern/body/vec_avx512.h"
#include "kern/set.h"
#include "kern/body/int8.h"

void VEC_NAME(assay_kern_set_int8)(assay_kern *k) { set_int8(k); }
