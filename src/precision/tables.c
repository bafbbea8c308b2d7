/* tables.c: names of the stored precisions (precisions.def) and the values of their codes, where a table
 * gives them.
 *
 *   nf4        16 quantiles of a normal distribution            fp4        bitsandbytes' own, scaled to [-1,
 * 1] mxfp4, nvfp4   e2m1: sign, two exponent bits, one fraction bit; +-{0, .5, 1, 1.5, 2, 3, 4, 6} fp8_e4m3
 * (1 + m/8) 2^(e-7), e = 0: m/8 2^-6, all ones NaN fp8_e5m2   (1 + m/4) 2^(e-15), e = 0: m/4 2^-14, e = 31:
 * infinity (m = 0) or NaN */
#include <math.h>
#include <string.h>

#include "precision/precision.h"

typedef struct precision_info {
    const char *name;
    int bits;
    assay_precision_kind kind;
} precision_info;

static const precision_info INFO[ASSAY_PRECISION_COUNT] = {
#define X(NAME, name, bits, kind) {name, bits, ASSAY_KIND_##kind},
#include "precision/precisions.def"
#undef X
};

/* NormalFloat (Dettmers et al. 2023): 16 quantiles of N(0,1) scaled to [-1, 1] with an exact zero;
 * bitsandbytes' values. */
static const float NF4_TABLE[16] = {-1.0f,
                                    -0.6961928009986877f,
                                    -0.5250730514526367f,
                                    -0.39491748809814453f,
                                    -0.28444138169288635f,
                                    -0.18477343022823334f,
                                    -0.09105003625154495f,
                                    0.0f,
                                    0.07958029955625534f,
                                    0.16093020141124725f,
                                    0.24611230194568634f,
                                    0.33791524171829224f,
                                    0.44070982933044434f,
                                    0.5626170039176941f,
                                    0.7229568362236023f,
                                    1.0f};

/* Sign, two exponent bits, one fraction bit, in bitsandbytes' order of bit patterns; divided by the
 * largest, 12, in float32. */
static const float FP4_TABLE[16] = {
    0.0f / 12, 0.0625f / 12,  8.0f / 12,  12.0f / 12,  4.0f / 12,  6.0f / 12,  2.0f / 12,  3.0f / 12,
    0.0f / 12, -0.0625f / 12, -8.0f / 12, -12.0f / 12, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12};

static const float E2M1_TABLE[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                     -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

/* Constant expressions: fractions over the smallest step, shifted up by the exponent. */
#define SIGN(v) ((v)&128 ? -1.0f : 1.0f)
#define SMALL(v, m)                                                                                          \
    ((v) >> (m) & (127 >> (m)) ? (float)(((v) & ((1 << (m)) - 1)) | 1 << (m))                                \
                               : 2.0f * (float)((v) & ((1 << (m)) - 1)))
#define E4M3(v) (((v)&127) == 127 ? NAN : SIGN(v) * SMALL(v, 3) * (float)(1 << ((v) >> 3 & 15)) / 1024.0f)
#define E5M2(v)                                                                                              \
    (((v)&127) > 124    ? NAN                                                                                \
     : ((v)&127) == 124 ? SIGN(v) * INFINITY                                                                 \
                        : SIGN(v) * SMALL(v, 2) * (float)(1u << ((v) >> 2 & 31)) / 131072.0f)
#define FOUR(F, v)    F((v)), F((v) + 1), F((v) + 2), F((v) + 3)
#define SIXTEEN(F, v) FOUR(F, (v)), FOUR(F, (v) + 4), FOUR(F, (v) + 8), FOUR(F, (v) + 12)
#define HALF(F, v)                                                                                           \
    SIXTEEN(F, v), SIXTEEN(F, (v) + 16), SIXTEEN(F, (v) + 32), SIXTEEN(F, (v) + 48), SIXTEEN(F, (v) + 64),   \
        SIXTEEN(F, (v) + 80), SIXTEEN(F, (v) + 96), SIXTEEN(F, (v) + 112)

static const float E4M3_TABLE[256] = {HALF(E4M3, 0), HALF(E4M3, 128)};
static const float E5M2_TABLE[256] = {HALF(E5M2, 0), HALF(E5M2, 128)};

const char *assay_precision_name(assay_precision p) {
    return (unsigned)p < ASSAY_PRECISION_COUNT ? INFO[p].name : "?";
}

int assay_precision_bits(assay_precision p) {
    return (unsigned)p < ASSAY_PRECISION_COUNT ? INFO[p].bits : 0;
}

assay_precision_kind assay_precision_get_kind(assay_precision p) {
    return (unsigned)p < ASSAY_PRECISION_COUNT ? INFO[p].kind : ASSAY_KIND_DENSE;
}

bool assay_precision_parse(assay_precision *out, const char *name) {
    for (int i = 0; i < ASSAY_PRECISION_COUNT; i++) {
        if (strcmp(INFO[i].name, name) == 0) {
            *out = (assay_precision)i;
            return true;
        }
    }
    return false;
}

assay_precision assay_precision_of_dtype(assay_dtype t) {
    return t == ASSAY_DTYPE_F32 ? ASSAY_PRECISION_F32 : t == ASSAY_DTYPE_F16 ? ASSAY_PRECISION_F16 : ASSAY_PRECISION_BF16;
}

const float *assay_precision_table(assay_precision p) {
    switch (p) {
    case ASSAY_PRECISION_NF4: return NF4_TABLE;
    case ASSAY_PRECISION_FP4: return FP4_TABLE;
    case ASSAY_PRECISION_FP8_E4M3: return E4M3_TABLE;
    case ASSAY_PRECISION_FP8_E5M2: return E5M2_TABLE;
    case ASSAY_PRECISION_MXFP4:
    case ASSAY_PRECISION_NVFP4: return E2M1_TABLE;
    default: return NULL;
    }
}
