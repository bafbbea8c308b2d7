/* kern/x86/att_avx2.c: attention on AVX2. */
#define VEC_ISA avx2
#include "kern/body/vec_avx2.h"
#include "kern/set.h"
#include "kern/body/att.h"

void VEC_NAME(assay_kern_set_att)(assay_kern *k) { set_att(k); }
