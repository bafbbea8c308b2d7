/* kern/body/f8.h: 8-bit floats by moving bits. A byte's exponent and fraction, put where a float32 has its
 * own, are the value times 2^(bias - 127), subnormal codes included; one multiplication, which a scale may be
 * part of, gives the value. Included by the vocabularies, after v16i. Codes that are no numbers are not
 * handled (kern.h). */
#ifndef ASSAY_KERN_F8_H
#define ASSAY_KERN_F8_H

VEC_FN float f8_factor(assay_form form) {
    return form == ASSAY_FORM_E4M3 ? 0x1p120f : 0x1p112f;
}
/* Byte `at`/8 of each lane, divided by the factor. */
VEC_FN v16 f8_lanes(v16i w, int at, assay_form form) {
    v16i top = v16i_sll(w, 24 - at); /* sign, then exponent and fraction */
    return v16_of_bits(form == ASSAY_FORM_E4M3 ? v16i_and(v16i_sra(top, 4), v16i_set1((int)0x87f00000))
                                               : v16i_and(v16i_sra(top, 3), v16i_set1((int)0x8fe00000)));
}

#endif
