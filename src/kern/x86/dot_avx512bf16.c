/* kern/x86/dot_avx512bf16.c: products of the bf16 class with VDPBF16PS. */
#define VEC_ISA avx512bf16
#include "kern/body/vec_avx512.h"
#include "kern/set.h"
#include "kern/body/dot_bf16.h"

void VEC_NAME(assay_kern_set_dot)(assay_kern *k) { set_dot_bf16(k); }
