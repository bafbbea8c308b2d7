/* kern/x86/peak_avx512vnni.c: the limit of VPDPBUSD. */
#define VEC_ISA avx512vnni
#include "kern/body/vec_avx512.h"
#include "kern/set.h"
#include "kern/body/peak.h"

void VEC_NAME(assay_kern_set_peak)(assay_kern *k) { k->peak_i8 = peak_i8; }
