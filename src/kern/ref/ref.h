/* kern/ref/ref.h: the reference's own words: sixteen lanes as an array. Everything in kern/ref is plain
 * scalar code that says what an operation means, in the order that kern.h fixes; it shares nothing with
 * kern/body, so that each can find the other's mistakes. */
#ifndef ASSAY_KERN_REF_H
#define ASSAY_KERN_REF_H

#include <math.h>
#include <string.h>
#include "kern/set.h"
#include "num/convert.h"

/* Lanes folded 8, 4, 2, 1 apart. */
static inline float ref_fold(const float lane[16]) {
    float t[16];
    memcpy(t, lane, sizeof t);
    for (int apart = 8; apart > 0; apart /= 2)
        for (int i = 0; i < apart; i++) t[i] += t[i + apart];
    return t[0];
}
float assay_ref_exp(float x);
float assay_ref_tanh(float x);

#endif
