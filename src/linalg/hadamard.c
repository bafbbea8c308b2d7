/* hadamard.c: rows times orthonormal Hadamard matrices. A block of m * 2^a elements is seen as x[m][2^a]:
 *
 *   H = P x W,  W the Walsh-Hadamard matrix of order 2^a: a * 2^a additions along each of the m parts,
 *               P Paley's matrix of the least order m that divides so: m additions per element across the parts
 *
 * which is the order of factors that QuaRot's tables have. Both are +-1; the scaling by 1/sqrt(block) comes last. */
#include "linalg/hadamard.h"

#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "linalg/paley.h"

enum { LANES = 8, STRIP = 16 };

/* n's factor that is a power of two. */
static size_t even_part(size_t n) {
    return n & (~n + 1);
}

/* The least order d * 2^j that Paley gives and that divides n = d * 2^k; 1 for d = 1; 0 when there is none. */
static size_t paley_part(size_t n) {
    size_t odd = n / even_part(n);
    if (odd == 1) return 1;
    for (size_t m = 4 * odd; m <= ASSAY_PALEY_MAX && n % m == 0; m *= 2)
        if (assay_paley_exists(m)) return m;
    return 0;
}

size_t assay_hadamard_block(size_t n) {
    if (n == 0) return 1;
    size_t two = even_part(n), odd = n / two;
    for (size_t d = ASSAY_PALEY_MAX / 4 - 1; d > 1; d -= 2)
        if (odd % d == 0 && paley_part(d * two)) return d * two;
    return two;
}

static void butterflies(float *restrict a, float *restrict b) {
    for (size_t i = 0; i < LANES; i++) {
        float x = a[i], y = b[i];
        a[i] = x + y;
        b[i] = x - y;
    }
}

static void walsh(float *x, size_t n) {
    for (size_t h = 1; h < n; h *= 2)
        for (size_t i = 0; i < n; i += 2 * h) {
            if (h >= LANES) {
                for (size_t j = i; j < i + h; j += LANES) butterflies(x + j, x + j + h);
                continue;
            }
            for (size_t j = i; j < i + h; j++) {
                float a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
        }
}

/* y[c] = sum_j s[j] x[j][c], z[c] likewise with t, for STRIP columns. */
static void combine_strip(float *restrict y, float *restrict z, const float *restrict x, size_t n, const float *s, const float *t,
                          size_t m) {
    float a[STRIP] = {0}, b[STRIP] = {0};
    for (size_t j = 0; j < m; j++)
        for (size_t c = 0; c < STRIP; c++) {
            float v = x[j * n + c];
            a[c] += s[j] * v;
            b[c] += t[j] * v;
        }
    memcpy(y, a, sizeof a);
    memcpy(z, b, sizeof b);
}
static float combine_one(const float *x, size_t n, const float *s, size_t m) {
    float a = 0;
    for (size_t j = 0; j < m; j++) a += s[j] * x[j * n];
    return a;
}

/* y[m][n] = P x[m][n], two rows at a time (m is even). */
static void combine(float *y, const float *x, size_t n, const assay_paley *p, bool transpose) {
    float s[ASSAY_PALEY_MAX], t[ASSAY_PALEY_MAX];
    size_t m = p->order;
    for (size_t i = 0; i < m; i += 2) {
        size_t c = 0;
        assay_paley_row(s, p, i, transpose);
        assay_paley_row(t, p, i + 1, transpose);
        for (; c + STRIP <= n; c += STRIP) combine_strip(y + i * n + c, y + (i + 1) * n + c, x + c, n, s, t, m);
        for (; c < n; c++) {
            y[i * n + c] = combine_one(x + c, n, s, m);
            y[(i + 1) * n + c] = combine_one(x + c, n, t, m);
        }
    }
}

void assay_hadamard_rows(float *x, size_t rows, size_t n, size_t block, bool transpose, float *scratch) {
    assay_paley p = {.order = 1};
    size_t m = paley_part(block), part = block / m;
    float scale = (float)(1 / sqrt((double)block));
    if (m > 1) assay_paley_init(&p, m);
    for (size_t b = 0; b < rows * n; b += block) {
        for (size_t j = 0; j < m; j++) walsh(x + b + j * part, part);
        float *y = x + b;
        if (m > 1) combine(y = scratch, x + b, part, &p, transpose);
        for (size_t i = 0; i < block; i++) x[b + i] = y[i] * scale;
    }
}

void assay_hadamard_signs(float *signs, size_t n, uint64_t seed) {
    assay_rng r;
    uint64_t bits = 0;
    assay_rng_init(&r, seed);
    for (size_t i = 0; i < n; i++, bits >>= 1) {
        if (i % 64 == 0) bits = assay_rng_next(&r);
        signs[i] = bits & 1 ? -1 : 1;
    }
}
