/* round.c: values to codes on given grids: the one place where any encoder or method rounds.
 *
 * Sixteen values at a time, each with parameters of its own, so that one body serves both a group on one grid
 * (its parameters spread over the sixteen, once) and a column whose rows have theirs. What is derived from
 * scale and zero point alone (a, b) is prepared apart from the rounding:
 *
 *   INT, compressed-tensors   x = clamp(R(R(w / scale) + z), -2^(b-1), 2^(b-1) - 1), rounded, ties to even;
 *                             z the signed zero point, R to the spec's type of quotients
 *   INT, LLM.int8()           x = f16(w) * (1 / absmax * top), rounded;
 *                             absmax = f16(scale * top), top = 2^(b-1) - 1
 *   CODEBOOK                  rank of w * (1 / scale) among the midpoints; the last, short block divides
 *   FLOAT                     R(w / scale), clamped, narrowed (num/narrow.h), ties to even
 *
 * A float32 quotient or sum rounded once more to a type of at most 11 bits is that operation's correctly
 * rounded result in the type, which is what torch computes.
 *
 * Loops have constant trip counts and no branches that data decides: gcc vectorizes them at -O2 with plain
 * SSE2. A rest of less than sixteen goes through a padded copy. */
#include <string.h>

#include "num/narrow.h"
#include "precision/encode.h"
#include "precision/grid.h"

enum { LANES = 16, N_BOUNDS = 15 };

/* After clamping to +-256, adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even,
 * without SSE4.1. */
#define ROUNDER 12582912.0f

/* What is the same for all values of a call. */
typedef struct rounder {
    float q_min, q_max; /* of signed codes; of the value for FLOAT */
    float middle;       /* INT: what makes signed codes unsigned; the zero point where none is given */
    float bounds[N_BOUNDS];
    uint8_t pattern[16]; /* CODEBOOK: rank -> code */
    const float *table;
    bool whole; /* CODEBOOK: a block of full size */
} rounder;

/* Sixteen values: scale and zero point to what the rounding needs, and the rounding; values NULL = not
 * wanted. */

static inline void prepare_int(float *restrict a, float *restrict b, const float *restrict scale,
                               const float *restrict zero, const rounder *r) {
    for (int k = 0; k < LANES; k++) a[k] = scale[k];
    for (int k = 0; k < LANES; k++) b[k] = zero[k] - r->middle;
}

/* x as the type of quotients has it. Float16's infinities stay finite: they are clamped next. */
static inline float quotient_f32(float x) {
    return x;
}
static inline float quotient_f16(float x) {
    uint32_t u = assay_float_bits(x), sign = u & 0x80000000u;
    uint32_t normal = (u + 0xfffu + (u >> 13 & 1)) & 0xffffe000u;
    uint32_t tiny = assay_float_bits((x + 0.75f) - 0.75f) | sign; /* below 2^-14: steps of 2^-24 */
    return assay_float_of_bits(assay_pick((u ^ sign) < 0x38800000u, tiny, normal));
}
static inline float quotient_bf16(float x) {
    uint32_t u = assay_float_bits(x);
    return assay_float_of_bits((u + 0x7fffu + (u >> 16 & 1)) & 0xffff0000u);
}

/* The signed zero point is added whatever it is: adding 0 rounds nothing. */
#define PIECE_INT(name, R)                                                                                   \
    static inline void piece_##name(                                                                         \
        uint8_t *restrict codes, float *restrict values, const float *restrict w, const float *restrict a,   \
        const float *restrict b, const float *restrict scale, const rounder *r) {                            \
        float q[LANES], lo = r->q_min, hi = r->q_max, middle = r->middle;                                    \
        for (int k = 0; k < LANES; k++) {                                                                    \
            float x = R(R(w[k] / a[k]) + b[k]);                                                              \
            x = x < lo ? lo : x;                                                                             \
            x = x > hi ? hi : x;                                                                             \
            q[k] = (x + ROUNDER) - ROUNDER;                                                                  \
        }                                                                                                    \
        for (int k = 0; k < LANES; k++) codes[k] = (uint8_t)(int)(q[k] + middle);                            \
        if (values)                                                                                          \
            for (int k = 0; k < LANES; k++) values[k] = (q[k] - b[k]) * scale[k];                            \
    }
PIECE_INT(int, quotient_f32)
PIECE_INT(int_f16, quotient_f16)
PIECE_INT(int_bf16, quotient_bf16)

static inline void prepare_absmax(float *restrict a, float *restrict b, const float *restrict scale,
                                  const float *restrict zero, const rounder *r) {
    float top = r->q_max;
    (void)zero;
    for (int k = 0; k < LANES; k++) {
        float absmax = assay_widen_f16(assay_narrow_f16(scale[k] * top));
        /* torch divides a number by a tensor as reciprocal and product; an all-zero row has zero for a factor
         */
        uint32_t some = assay_pick(absmax > 0, UINT32_MAX, 0);
        a[k] = assay_float_of_bits(assay_float_bits(1.0f / absmax * top) & some);
        b[k] = 0;
    }
}

static inline void piece_absmax(uint8_t *restrict codes, float *restrict values, const float *restrict w,
                                const float *restrict a, const float *restrict b, const float *restrict scale,
                                const rounder *r) {
    float q[LANES], lo = r->q_min, hi = r->q_max, middle = r->middle;
    (void)b;
    for (int k = 0; k < LANES; k++) {
        float x = assay_widen_f16(assay_narrow_f16(w[k])) * a[k];
        x = x < lo ? lo : x;
        x = x > hi ? hi : x;
        q[k] = (x + ROUNDER) - ROUNDER;
    }
    for (int k = 0; k < LANES; k++) codes[k] = (uint8_t)(int)(q[k] + middle);
    if (values)
        for (int k = 0; k < LANES; k++) values[k] = q[k] * scale[k];
}

static inline void prepare_codebook(float *restrict a, float *restrict b, const float *restrict scale,
                                    const float *restrict zero, const rounder *r) {
    (void)zero;
    (void)r;
    for (int k = 0; k < LANES; k++) {
        float divisor = scale[k] < ASSAY_CODEBOOK_FLOOR ? ASSAY_CODEBOOK_FLOOR : scale[k];
        a[k] = 1.0f / divisor;
        b[k] = divisor;
    }
}

static inline void piece_codebook(uint8_t *restrict codes, float *restrict values, const float *restrict w,
                                  const float *restrict a, const float *restrict b,
                                  const float *restrict scale, const rounder *r) {
    float v[LANES];
    int32_t rank[LANES] = {0};
    if (r->whole)
        for (int k = 0; k < LANES; k++) v[k] = w[k] * a[k];
    else
        for (int k = 0; k < LANES; k++) v[k] = w[k] / b[k];
    for (int i = 0; i < N_BOUNDS; i++)
        for (int k = 0; k < LANES; k++) rank[k] += v[k] > r->bounds[i];
    for (int k = 0; k < LANES; k++) codes[k] = r->pattern[rank[k]];
    if (values)
        for (int k = 0; k < LANES; k++) values[k] = r->table[codes[k]] * scale[k];
}

/* One body per small float; saturation is done first because a quotient can be infinite. */
#define PIECE_FLOAT(name, R, narrow, widen)                                                                  \
    static inline void piece_##name(                                                                         \
        uint8_t *restrict codes, float *restrict values, const float *restrict w, const float *restrict a,   \
        const float *restrict b, const float *restrict scale, const rounder *r) {                            \
        float x[LANES], lo = r->q_min, hi = r->q_max;                                                        \
        (void)b;                                                                                             \
        for (int k = 0; k < LANES; k++) {                                                                    \
            float v = R(w[k] / a[k]);                                                                        \
            v = v < lo ? lo : v;                                                                             \
            x[k] = v > hi ? hi : v;                                                                          \
        }                                                                                                    \
        for (int k = 0; k < LANES; k++) codes[k] = narrow(x[k]);                                             \
        if (values)                                                                                          \
            for (int k = 0; k < LANES; k++) values[k] = widen(codes[k]) * scale[k];                          \
    }
PIECE_FLOAT(e4m3, quotient_f32, assay_narrow_e4m3, assay_widen_e4m3)
PIECE_FLOAT(e4m3_f16, quotient_f16, assay_narrow_e4m3, assay_widen_e4m3)
PIECE_FLOAT(e4m3_bf16, quotient_bf16, assay_narrow_e4m3, assay_widen_e4m3)
PIECE_FLOAT(e5m2, quotient_f32, assay_narrow_e5m2, assay_widen_e5m2)
PIECE_FLOAT(e5m2_f16, quotient_f16, assay_narrow_e5m2, assay_widen_e5m2)
PIECE_FLOAT(e5m2_bf16, quotient_bf16, assay_narrow_e5m2, assay_widen_e5m2)
PIECE_FLOAT(e2m1, quotient_f32, assay_narrow_e2m1, assay_widen_e2m1)

/* The parameters of the values: LANES of each for all (step 0) or one of each per value (step 1). */
typedef struct params {
    const float *scale, *zero;
    size_t step;
} params;

/* n values, a multiple of LANES. */
typedef void (*run_fn)(uint8_t *codes, float *values, const float *w, const params *p, size_t n,
                       const rounder *r);

#define RUN(name, prepare)                                                                                   \
    static void run_##name(uint8_t *codes, float *values, const float *w, const params *p, size_t n,         \
                           const rounder *r) {                                                               \
        float a[LANES], b[LANES];                                                                            \
        uint8_t unwanted[LANES];                                                                             \
        for (size_t i = 0; i < n; i += LANES) {                                                              \
            const float *scale = p->scale + i * p->step;                                                     \
            if (i == 0 || p->step) prepare(a, b, scale, p->zero + i * p->step, r);                           \
            piece_##name(codes ? codes + i : unwanted, values ? values + i : NULL, w + i, a, b, scale, r);   \
        }                                                                                                    \
    }
RUN(int, prepare_int)
RUN(int_f16, prepare_int)
RUN(int_bf16, prepare_int)
RUN(absmax, prepare_absmax)
RUN(codebook, prepare_codebook)
RUN(e4m3, prepare_int)
RUN(e4m3_f16, prepare_int)
RUN(e4m3_bf16, prepare_int)
RUN(e5m2, prepare_int)
RUN(e5m2_f16, prepare_int)
RUN(e5m2_bf16, prepare_int)
RUN(e2m1, prepare_int)

/* FP4's bit patterns by ascending value; equal values (the two zeros) in ascending order of pattern, as
 * torch.argsort has them. */
static const uint8_t FP4_ORDER[16] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};

static run_fn init_codebook(rounder *r, assay_precision p) {
    r->table = assay_precision_table(p);
    for (int i = 0; i < 16; i++) r->pattern[i] = p == ASSAY_PRECISION_FP4 ? FP4_ORDER[i] : (uint8_t)i;
    for (int i = 0; i < N_BOUNDS; i++)
        r->bounds[i] = (r->table[r->pattern[i]] + r->table[r->pattern[i + 1]]) / 2;
    return run_codebook;
}

/* One of three by the type of quotients. */
static run_fn by_quotient(const assay_grid_spec *s, run_fn plain, run_fn f16, run_fn bf16) {
    return s->quotient == ASSAY_DTYPE_F16 ? f16 : s->quotient == ASSAY_DTYPE_BF16 ? bf16 : plain;
}

static run_fn rounder_init(rounder *r, const assay_grid_spec *s, bool whole) {
    int bits = assay_precision_bits(s->precision);
    r->whole = whole;
    switch (assay_precision_get_kind(s->precision)) {
    case ASSAY_KIND_CODEBOOK: return init_codebook(r, s->precision);
    case ASSAY_KIND_FLOAT:
        r->q_max = assay_float_largest(s->precision);
        r->q_min = -r->q_max;
        if (s->precision == ASSAY_PRECISION_FP8_E4M3) return by_quotient(s, run_e4m3, run_e4m3_f16, run_e4m3_bf16);
        if (s->precision == ASSAY_PRECISION_FP8_E5M2) return by_quotient(s, run_e5m2, run_e5m2_f16, run_e5m2_bf16);
        return run_e2m1;
    default:
        r->middle = (float)(1 << (bits - 1));
        r->q_max = r->middle - 1;
        r->q_min = s->rule == ASSAY_SCALE_ABSMAX ? -r->q_max : -r->middle;
        return s->rule == ASSAY_SCALE_ABSMAX ? run_absmax : by_quotient(s, run_int, run_int_f16, run_int_bf16);
    }
}

/* n < LANES values by way of a padded copy. */
static void round_rest(uint8_t *codes, float *values, const float *w, const params *p, size_t n, run_fn run,
                       const rounder *r) {
    float x[LANES] = {0}, scale[LANES], zero[LANES], v[LANES];
    uint8_t c[LANES];
    memcpy(x, w, n * sizeof *w);
    for (size_t k = 0; k < LANES; k++) {
        size_t at = (k < n ? k : 0) * p->step;
        scale[k] = p->scale[at];
        zero[k] = p->zero[at];
    }
    run(c, values ? v : NULL, x, &(params){scale, zero, 0}, LANES, r);
    if (codes) memcpy(codes, c, n);
    if (values) memcpy(values, v, n * sizeof *v);
}

static void round_all(uint8_t *codes, float *values, const float *w, const params *p, size_t n, run_fn run,
                      const rounder *r) {
    size_t whole = n / LANES * LANES;
    params rest = {p->scale + whole * p->step, p->zero + whole * p->step, p->step};
    if (whole) run(codes, values, w, p, whole, r);
    if (whole == n) return;
    round_rest(codes ? codes + whole : NULL, values ? values + whole : NULL, w + whole, &rest, n - whole, run,
               r);
}

void assay_grid_round(uint8_t *codes, float *values, const assay_grid_spec *s, const assay_grid *g,
                      const float *w, size_t n) {
    rounder r = {0};
    float scale[LANES], zero[LANES];
    run_fn run = rounder_init(&r, s, s->group_size < 1 || n >= (size_t)s->group_size);
    for (int k = 0; k < LANES; k++) scale[k] = g->scale;
    for (int k = 0; k < LANES; k++) zero[k] = g->zero;
    round_all(codes, values, w, &(params){scale, zero, 0}, n, run, &r);
}

void assay_grid_round_each(uint8_t *codes, float *values, const assay_grid_spec *s, const float *scale,
                           const float *zero, const float *w, size_t n) {
    enum { PIECE = 256 };
    rounder r = {0};
    float middle[PIECE];
    run_fn run = rounder_init(&r, s, true);
    if (zero) {
        round_all(codes, values, w, &(params){scale, zero, 1}, n, run, &r);
        return;
    }
    for (int k = 0; k < PIECE; k++) middle[k] = r.middle;
    for (size_t i = 0; i < n; i += PIECE)
        round_all(codes ? codes + i : NULL, values ? values + i : NULL, w + i,
                  &(params){scale + i, middle, 1}, ASSAY_MIN((size_t)PIECE, n - i), run, &r);
}
