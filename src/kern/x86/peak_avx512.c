/* kern/x86/peak_avx512.c: the machine's limits on AVX-512. */
#define VEC_ISA avx512
#include "kern/body/vec_avx512.h"
#include "kern/set.h"
#include "kern/body/peak.h"

void VEC_NAME(assay_kern_set_peak)(assay_kern *k) {
    k->peak_f32 = peak_f32;
    k->peak_bf16 = peak_bf16;
    k->peak_i8 = peak_i8;
    k->read = read_bytes;
}
