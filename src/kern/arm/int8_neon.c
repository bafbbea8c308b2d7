/* kern/arm/int8_neon.c: products of the int8 class on NEON: widened to 16 bits. */
#define VEC_ISA neon
#include "kern/body/vec_neon.h"
#include "kern/set.h"
#include "kern/body/int8.h"

void VEC_NAME(assay_kern_set_int8)(assay_kern *k) { set_int8(k); }
