/* kern/arm/dot_neon.c: products of the f32 and bf16 classes on NEON (bf16 pairs as two fmas). */
#define VEC_ISA neon
#include "kern/body/vec_neon.h"
#include "kern/set.h"
#include "kern/body/dot_f32.h"
#include "kern/body/dot_bf16.h"

void VEC_NAME(assay_kern_set_dot)(assay_kern *k) {
    set_dot_f32(k);
    set_dot_bf16(k);
}
