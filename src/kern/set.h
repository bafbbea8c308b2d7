/* kern/set.h: the functions that overlay the table, one per operation family and instruction set. Included by
 * kern.c and by the files that define them; which exist depends on the architecture. */
#ifndef ASSAY_KERN_SET_H
#define ASSAY_KERN_SET_H

#include "kern/kern.h"

void assay_kern_set_dot_ref(assay_kern *k);
void assay_kern_set_int8_ref(assay_kern *k);
void assay_kern_set_att_ref(assay_kern *k);
void assay_kern_set_point_ref(assay_kern *k);
void assay_kern_set_peak_ref(assay_kern *k);
#if defined(__x86_64__)
void assay_kern_set_dot_avx2(assay_kern *k);
void assay_kern_set_int8_avx2(assay_kern *k);
void assay_kern_set_att_avx2(assay_kern *k);
void assay_kern_set_point_avx2(assay_kern *k);
void assay_kern_set_peak_avx2(assay_kern *k);
void assay_kern_set_dot_avx512(assay_kern *k);
void assay_kern_set_int8_avx512(assay_kern *k);
void assay_kern_set_att_avx512(assay_kern *k);
void assay_kern_set_point_avx512(assay_kern *k);
void assay_kern_set_peak_avx512(assay_kern *k);
void assay_kern_set_int8_avx512vnni(assay_kern *k);
void assay_kern_set_peak_avx512vnni(assay_kern *k);
void assay_kern_set_dot_avx512bf16(assay_kern *k);
void assay_kern_set_peak_avx512bf16(assay_kern *k);
#elif defined(__aarch64__)
void assay_kern_set_dot_neon(assay_kern *k);
void assay_kern_set_int8_neon(assay_kern *k);
void assay_kern_set_att_neon(assay_kern *k);
void assay_kern_set_point_neon(assay_kern *k);
void assay_kern_set_peak_neon(assay_kern *k);
#endif

#endif
