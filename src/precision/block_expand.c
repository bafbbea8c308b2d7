/* block_expand.c: what the bytes of ggml's blocks mean: signed codes with a scale (and a minimum) per
 * group.
 *
 * Layouts, fields in order; d and m are float16, [n] counts bytes, i is an element, g a group:
 *
 *   Q4_0    d qs[16]             q = nibble - 8; byte j has elements j (low) and j + 16 (high)
 *   Q4_1    d m qs[16]           q = nibble, w = q d + m
 *   Q5_0    d qh[4] qs[16]       as Q4_0, bit i of qh is element i's fifth; q - 16
 *   Q5_1    d m qh[4] qs[16]
 *   Q8_0    d qs[32]             q = int8
 *   Q2_K    scales[16] qs[64] d m
 *           scale d (s & 15), minimum m (s >> 4); within 128 elements byte l has elements l, l + 32, l + 64,
 *           l + 96 from its low bits up
 *   Q3_K    hmask[32] qs[64] scales[12] d
 *           qs as Q2_K's; bit i / 32 of hmask[i % 32] is the third bit; q - 4; scales are six bits, four in
 *           scales[0..7] and two in scales[8..11], less 32
 *   Q4_K    d m scales[12] qs[128]
 *           within 64 elements byte l has l (low) and l + 32 (high); scales and minima are six bits each
 *           (unpack_six)
 *   Q5_K    d m scales[12] qh[32] qs[128]
 *           as Q4_K, bit i / 32 of qh[i % 32] is the fifth bit
 *   Q6_K    ql[128] qh[64] scales[16] d
 *           within 128 elements ql[l] has l and l + 64, ql[l + 32] has l + 32 and l + 96, qh[l] the upper two
 *           bits of all four; q - 32; scales are int8
 *   TQ1_0   qs[48] qh[4] d
 *           five trits a byte as a fraction: byte / 256 = 0.t0 t1 t2 t3 t4 in base 3, rounded up; 32 bytes hold
 *           elements j + 32 n, 16 bytes 160 + j + 16 n, qh four each, 240 + j + 4 n
 *   TQ2_0   qs[64] d             two bits each, as Q2_K's, less 1
 *   IQ4_NL  d qs[16]             as Q4_0, the nibble indexes a table
 *   IQ4_XS  d scales_h[2] scales_l[4] qs[128]
 *           groups like IQ4_NL's blocks, scales of four and two bits less 32
 *   IQ2_XXS d (index[4] signs28 scale4)[8]
 *           signs: seven bits for eight elements, the eighth makes their number even
 *   IQ2_XS  d (index9 signs7)[32] scales[8]
 *   IQ2_S   d index[32] signs[32] qh[8] scales[8]        qh: two more bits for each of four indices
 *   IQ3_XXS d index[64] (signs28 scale4)[8]
 *   IQ3_S   d index[64] qh[8] signs[32] scales[4]        qh: one more bit for each of eight indices
 *   IQ1_S   d index[32] (qh3 x 4, scale3, shift)[8]
 *           three more bits per index; shift: all points less an eighth, else more
 *   IQ1_M   index[32] (qh3 shift)[32 nibbles] (scale3 x 4, four bits of d)[4]
 *
 * IQ2 and IQ3 scales are d (s + 1/2) / 4 (IQ3_XXS: / 2), IQ3_S and IQ1 d (2 s + 1); points are in
 * iq_points.def. A table of 16 entries and the grids' indices are masked by their very widths, so that any
 * bytes are valid. */
#include <pthread.h>
#include <string.h>

#include "precision/block_impl.h"
#include "precision/iq_points.h"

/* One scale, and one minimum. */
static inline void put_one(assay_block_parts *p, float scale, float min) {
    *p = (assay_block_parts){.scale = scale, .min = min, .scales = {1}, .mins = {1}};
}

/* n bytes have n low nibbles, then n high ones. */
static inline void split_nibbles(int8_t *restrict q, const uint8_t *restrict qs, int n, int offset) {
    for (int j = 0; j < n; j++) q[j] = (int8_t)((qs[j] & 15) - offset);
    for (int j = 0; j < n; j++) q[j + n] = (int8_t)((qs[j] >> 4) - offset);
}

/* Adds 16 to the elements whose bit is set. */
static inline void add_fifth_bits(int8_t *restrict q, uint32_t bits) {
    for (int i = 0; i < 32; i++) q[i] = (int8_t)(q[i] + (int8_t)((bits >> i & 1) << 4));
}

static void expand_Q4_0(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    put_one(p, assay_load_half(b), 0);
    split_nibbles(q, b + 2, 16, 8);
}

static void expand_Q4_1(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    put_one(p, assay_load_half(b), -assay_load_half(b + 2));
    split_nibbles(q, b + 4, 16, 0);
}

static void expand_Q5_0(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    put_one(p, assay_load_half(b), 0);
    split_nibbles(q, b + 6, 16, 16);
    add_fifth_bits(q, assay_load32(b + 2));
}

static void expand_Q5_1(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    put_one(p, assay_load_half(b), -assay_load_half(b + 2));
    split_nibbles(q, b + 8, 16, 0);
    add_fifth_bits(q, assay_load32(b + 4));
}

static void expand_Q8_0(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    put_one(p, assay_load_half(b), 0);
    memcpy(q, b + 2, 32);
}

/* --- super-blocks of 256 --- */

/* Two bits each: 64 bytes, in halves of 32. */
static inline void split_pairs(int8_t *restrict q, const uint8_t *restrict qs, int offset) {
    for (int half = 0; half < 2; half++, q += 128, qs += 32)
        for (int l = 0; l < 32; l++) {
            q[l] = (int8_t)((qs[l] & 3) - offset);
            q[l + 32] = (int8_t)((qs[l] >> 2 & 3) - offset);
            q[l + 64] = (int8_t)((qs[l] >> 4 & 3) - offset);
            q[l + 96] = (int8_t)((qs[l] >> 6) - offset);
        }
}

/* Four bits each: 128 bytes, in quarters of 32. */
static inline void split_quarters(int8_t *restrict q, const uint8_t *restrict qs) {
    for (int k = 0; k < 4; k++) split_nibbles(q + 64 * k, qs + 32 * k, 32, 0);
}

/* One more bit for each: bit k of byte l is element 32 k + l's, worth `value`. */
static inline void add_bit_planes(int8_t *restrict q, const uint8_t *restrict planes, int value) {
    for (int k = 0; k < 8; k++)
        for (int l = 0; l < 32; l++) q[32 * k + l] = (int8_t)(q[32 * k + l] + (planes[l] >> k & 1) * value);
}

static void expand_Q2_K(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    p->scale = assay_load_half(b + 80);
    p->min = assay_load_half(b + 82);
    for (int g = 0; g < 16; g++) p->scales[g] = (int8_t)(b[g] & 15);
    for (int g = 0; g < 16; g++) p->mins[g] = (int8_t)(b[g] >> 4);
    split_pairs(q, b + 16, 0);
}

static void expand_Q3_K(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    const uint8_t *s = b + 96;
    p->scale = assay_load_half(b + 108);
    for (int g = 0; g < 16; g++) {
        int low = s[g & 7] >> (g & 8 ? 4 : 0) & 15, high = s[8 + (g & 3)] >> (g >> 2) * 2 & 3;
        p->scales[g] = (int8_t)((low | high << 4) - 32);
    }
    split_pairs(q, b + 32, 4);
    add_bit_planes(q, b, 4);
}

/* Eight scales and eight minima of six bits in twelve bytes: the first four of each have a byte's low six
 * bits; the last four their low four bits in bytes 8 to 11 and their upper two at the top of bytes 0 to 3
 * and 4 to 7. */
static void unpack_six(assay_block_parts *p, const uint8_t *s) {
    for (int g = 0; g < 4; g++) {
        p->scales[g] = (int8_t)(s[g] & 63);
        p->mins[g] = (int8_t)(s[g + 4] & 63);
        p->scales[g + 4] = (int8_t)((s[g + 8] & 15) | s[g] >> 6 << 4);
        p->mins[g + 4] = (int8_t)(s[g + 8] >> 4 | s[g + 4] >> 6 << 4);
    }
}
/* d, m and those, which Q4_K and Q5_K begin with. */
static void take_head(assay_block_parts *p, const uint8_t *b) {
    p->scale = assay_load_half(b);
    p->min = assay_load_half(b + 2);
    unpack_six(p, b + 4);
}

static void expand_Q4_K(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    take_head(p, b);
    split_quarters(q, b + 16);
}

static void expand_Q5_K(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    take_head(p, b);
    split_quarters(q, b + 48);
    add_bit_planes(q, b + 16, 16);
}

static void expand_Q6_K(int8_t *restrict q, assay_block_parts *p, const uint8_t *restrict b) {
    p->scale = assay_load_half(b + 208);
    memcpy(p->scales, b + 192, 16);
    const uint8_t *low = b, *high = b + 128;
    for (int half = 0; half < 2; half++, q += 128, low += 64, high += 32)
        for (int l = 0; l < 32; l++) {
            q[l] = (int8_t)(((low[l] & 15) | (high[l] & 3) << 4) - 32);
            q[l + 32] = (int8_t)(((low[l + 32] & 15) | (high[l] >> 2 & 3) << 4) - 32);
            q[l + 64] = (int8_t)((low[l] >> 4 | (high[l] >> 4 & 3) << 4) - 32);
            q[l + 96] = (int8_t)((low[l + 32] >> 4 | (high[l] >> 6) << 4) - 32);
        }
}

/* --- ternary --- */

/* n trits of each of `count` bytes: multiplying the fraction by 3^k brings trit k to the point. */
static inline void split_trits(int8_t *restrict q, const uint8_t *restrict qs, int count, int n) {
    unsigned power = 1;
    for (int k = 0; k < n; k++, power *= 3)
        for (int j = 0; j < count; j++) q[k * count + j] = (int8_t)(((qs[j] * power & 255) * 3 >> 8) - 1);
}

static void expand_TQ1_0(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    put_one(p, assay_load_half(b + 52), 0);
    split_trits(q, b, 32, 5);
    split_trits(q + 160, b + 32, 16, 5);
    split_trits(q + 240, b + 48, 4, 4);
}

static void expand_TQ2_0(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    put_one(p, assay_load_half(b + 64), 0);
    split_pairs(q, b, 1);
}

/* --- four bits by table --- */

static inline void look_up_nibbles(int8_t *restrict q, const uint8_t *restrict qs) {
    for (int j = 0; j < 16; j++) {
        q[j] = assay_iq4_values[qs[j] & 15];
        q[j + 16] = assay_iq4_values[qs[j] >> 4];
    }
}

static void expand_IQ4_NL(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    put_one(p, assay_load_half(b), 0);
    look_up_nibbles(q, b + 2);
}

static void expand_IQ4_XS(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    uint32_t high = assay_load16(b + 2);
    p->scale = assay_load_half(b);
    for (int g = 0; g < 8; g++) {
        int s = (b[4 + g / 2] >> 4 * (g & 1) & 15) | (int)(high >> 2 * g & 3) << 4;
        p->scales[g] = (int8_t)(s - 32);
        look_up_nibbles(q + 32 * g, b + 8 + 16 * g);
    }
}

/* --- grids --- */

/* What IQ types scale by: an odd number of eighths, fourths or wholes of d. */
static inline int8_t odd(uint32_t s) {
    return (int8_t)(2 * s + 1);
}

static inline uint64_t point_iq2(uint32_t levels) {
    uint64_t v;
    memcpy(&v, assay_levels_iq2[levels & 255], 4);
    memcpy((char *)&v + 4, assay_levels_iq2[levels >> 8], 4);
    return v;
}

static inline uint64_t point_iq1(uint32_t levels) {
    uint64_t v;
    memcpy(&v, assay_levels_iq1[levels & 255], 4);
    memcpy((char *)&v + 4, assay_levels_iq1[levels >> 8], 4);
    return v;
}

/* Two points of four elements each. */
static inline uint64_t points_iq3(const uint8_t levels[64][2], uint32_t first, uint32_t second) {
    uint64_t v;
    memcpy(&v, levels[first & 63], 2);
    memcpy((char *)&v + 2, levels[first >> 6], 2);
    memcpy((char *)&v + 4, levels[second & 63], 2);
    memcpy((char *)&v + 6, levels[second >> 6], 2);
    return v;
}

static void expand_IQ2_XXS(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    p->scale = assay_load_half(b) * 0.125f;
    b += 2;
    for (int g = 0; g < 8; g++, b += 8) {
        uint32_t word = assay_load32(b + 4);
        p->scales[g] = odd(word >> 28);
        for (int k = 0; k < 4; k++, q += 8)
            assay_apply_signs(q, point_iq2(assay_points_IQ2_XXS[b[k]]),
                              assay_even_signs(word >> 7 * k & 127));
    }
}

/* n scales of four bits: d (s + 1/2) / 4 in IQ2, d (2 s + 1) in IQ3. */
static void unpack_four(assay_block_parts *p, const uint8_t *s, int n) {
    for (int g = 0; g < n; g++) p->scales[g] = odd(s[g / 2] >> 4 * (g & 1) & 15u);
}

static void expand_IQ2_XS(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    p->scale = assay_load_half(b) * 0.125f;
    unpack_four(p, b + 66, 16);
    for (int k = 0; k < 32; k++, q += 8) {
        uint32_t word = assay_load16(b + 2 + 2 * k);
        assay_apply_signs(q, point_iq2(assay_points_IQ2_XS[word & 511]), assay_even_signs(word >> 9));
    }
}

static void expand_IQ2_S(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    const uint8_t *index = b + 2, *signs = b + 34, *high = b + 66;
    p->scale = assay_load_half(b) * 0.125f;
    unpack_four(p, b + 74, 16);
    for (int k = 0; k < 32; k++, q += 8) {
        uint32_t at = index[k] | (uint32_t)(high[k / 4] >> 2 * (k & 3) & 3) << 8;
        assay_apply_signs(q, point_iq2(assay_points_IQ2_S[at]), signs[k]);
    }
}

static void expand_IQ3_XXS(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    p->scale = assay_load_half(b) * 0.25f;
    const uint8_t *index = b + 2, *words = b + 66;
    for (int g = 0; g < 8; g++) {
        uint32_t word = assay_load32(words + 4 * g);
        p->scales[g] = odd(word >> 28);
        for (int k = 0; k < 4; k++, q += 8, index += 2) {
            uint64_t v = points_iq3(assay_levels_iq3_xxs, assay_points_IQ3_XXS[index[0]],
                                    assay_points_IQ3_XXS[index[1]]);
            assay_apply_signs(q, v, assay_even_signs(word >> 7 * k & 127));
        }
    }
}

static void expand_IQ3_S(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    p->scale = assay_load_half(b);
    const uint8_t *index = b + 2, *high = b + 66, *signs = b + 74;
    unpack_four(p, b + 106, 8);
    for (int k = 0; k < 32; k++, q += 8, index += 2) {
        uint32_t bits = high[k / 4] >> 2 * (k & 3);
        uint64_t v = points_iq3(assay_levels_iq3_s, assay_points_IQ3_S[index[0] | (bits & 1) << 8],
                                assay_points_IQ3_S[index[1] | (bits >> 1 & 1) << 8]);
        assay_apply_signs(q, v, signs[k]);
    }
}

/* Eight codes in eighths: the point's, and one more or less. */
static inline void put_iq1(int8_t *q, uint32_t at, bool less) {
    int8_t v[8], shift = less ? -1 : 1;
    uint64_t point = point_iq1(assay_points_IQ1[at]);
    memcpy(v, &point, 8);
    for (int i = 0; i < 8; i++) q[i] = (int8_t)(v[i] + shift);
}

static void expand_IQ1_S(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    p->scale = assay_load_half(b) * 0.125f;
    const uint8_t *index = b + 2;
    for (int g = 0; g < 8; g++, index += 4) {
        uint32_t word = assay_load16(b + 34 + 2 * g);
        p->scales[g] = odd(word >> 12 & 7);
        for (int k = 0; k < 4; k++, q += 8) put_iq1(q, index[k] | (word >> 3 * k & 7) << 8, word >> 15);
    }
}

static void expand_IQ1_M(int8_t *q, assay_block_parts *p, const uint8_t *b) {
    p->scale = assay_widen_f16((uint16_t)assay_iq1_m_scale(b)) * 0.125f;
    for (int g = 0; g < 16; g++) p->scales[g] = odd(assay_load16(b + 48 + g / 4 * 2) >> 3 * (g & 3) & 7);
    for (int k = 0; k < 32; k++, q += 8) {
        uint32_t nibble = b[32 + k / 2] >> 4 * (k & 1) & 15;
        put_iq1(q, b[k] | (nibble & 7) << 8, nibble & 8);
    }
}

/* --- grids as tables of codes --- */

static uint64_t points_iq1[2048], points_iq2_xxs[256], points_iq2_xs[512], points_iq2_s[1024];

static void make_points(void) {
    for (int i = 0; i < 2048; i++) points_iq1[i] = point_iq1(assay_points_IQ1[i]);
    for (int i = 0; i < 256; i++) points_iq2_xxs[i] = point_iq2(assay_points_IQ2_XXS[i]);
    for (int i = 0; i < 512; i++) points_iq2_xs[i] = point_iq2(assay_points_IQ2_XS[i]);
    for (int i = 0; i < 1024; i++) points_iq2_s[i] = point_iq2(assay_points_IQ2_S[i]);
}

const uint64_t *assay_block_points(assay_precision p) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_points);
    return p == ASSAY_PRECISION_IQ1_S || p == ASSAY_PRECISION_IQ1_M ? points_iq1
           : p == ASSAY_PRECISION_IQ2_XXS                           ? points_iq2_xxs
           : p == ASSAY_PRECISION_IQ2_XS                            ? points_iq2_xs
           : p == ASSAY_PRECISION_IQ2_S                             ? points_iq2_s
                                                                    : NULL;
}

typedef void (*expand_fn)(int8_t *q, assay_block_parts *p, const uint8_t *block);

void assay_block_take_apart(int8_t *q, assay_block_parts *parts, assay_precision p, const void *block) {
    static const expand_fn EXPAND[] = {
#define B(NAME, name, bits, type, elements, bytes, group, has_mins) expand_##NAME,
#include "precision/blocks.def"
#undef B
    };
    EXPAND[p - ASSAY_PRECISION_Q4_0](q, parts, block);
}

void assay_block_expand(int8_t *q, float *scales, float *mins, assay_precision p, const void *block) {
    const assay_block_info *info = assay_block_get(p);
    assay_block_parts parts;
    assay_block_take_apart(q, &parts, p, block);
    int n = info->elements / info->group;
    for (int g = 0; g < n; g++) scales[g] = parts.scale * (float)parts.scales[g];
    for (int g = 0; info->has_mins && g < n; g++) mins[g] = parts.min * (float)parts.mins[g];
}
