/* kern/x86/peak_avx2.c: the machine's limits on AVX2. */
#define VEC_ISA avx2
#include "kern/body/vec_avx2.h"
#include "kern/set.h"
#include "kern/body/peak.h"

void VEC_NAME(assay_kern_set_peak)(assay_kern *k) {
    k->peak_f32 = peak_f32;
    k->peak_bf16 = peak_bf16;
    k->peak_i8 = peak_i8;
    k->read = read_bytes;
}
