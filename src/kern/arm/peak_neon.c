/* kern/arm/peak_neon.c: the machine's limits on NEON. */
#define VEC_ISA neon
#include "kern/body/vec_neon.h"
#include "kern/set.h"
#include "kern/body/peak.h"

void VEC_NAME(assay_kern_set_peak)(assay_kern *k) {
    k->peak_f32 = peak_f32;
    k->peak_bf16 = peak_bf16;
    k->peak_i8 = peak_i8;
    k->read = read_bytes;
}
