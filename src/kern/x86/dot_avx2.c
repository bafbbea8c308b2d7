/* kern/x86/dot_avx2.c: products of the f32 and bf16 classes on AVX2 (bf16 pairs as two fmas). */
#define VEC_ISA avx2
#include "kern/body/vec_avx2.h"
#include "kern/set.h"
#include "kern/body/dot_f32.h"
#include "kern/body/dot_bf16.h"

void VEC_NAME(assay_kern_set_dot)(assay_kern *k) {
    set_dot_f32(k);
    set_dot_bf16(k);
}
