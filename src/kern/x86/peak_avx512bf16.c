/* kern/x86/peak_avx512bf16.c: the limit of VDPBF16PS. */
#define VEC_ISA avx512bf16
#include "kern/body/vec_avx512.h"
#include "kern/set.h"
#include "kern/body/peak.h"

void VEC_NAME(assay_kern_set_peak)(assay_kern *k) { k->peak_bf16 = peak_bf16; }
