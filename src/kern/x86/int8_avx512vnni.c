/* kern/x86/int8_avx512vnni.c: products of the int8 class with VPDPBUSD. */
#define VEC_ISA avx512vnni
#include "kern/body/vec_avx512.h"
#include "kern/set.h"
#include "kern/body/int8.h"

void VEC_NAME(assay_kern_set_int8)(assay_kern *k) { set_int8(k); }
