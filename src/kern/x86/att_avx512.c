/* kern/x86/att_avx512.c: attention on AVX-512. */
#define VEC_ISA avx512
#include "kern/body/vec_avx512.h"
#include "kern/set.h"
#include "kern/body/att.h"

void VEC_NAME(assay_kern_set_att)(assay_kern *k) { set_att(k); }
