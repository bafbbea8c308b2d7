/* pack.c: operands into rows. Transposing takes a cache line of each of four source rows at a time, 4 x 4 elements in registers. */
#include "linalg/pack.h"

#include <string.h>

enum { LINE = 16, QUAD = 4 };

typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));

static void zero_tail(float *row, size_t k) {
    memset(row + k, 0, (assay_pack_up(k) - k) * sizeof *row);
}

void assay_pack_rows(float *dst, size_t ld, const float *src, size_t lds, size_t rows, size_t k) {
    for (size_t r = 0; r < rows; r++) {
        memcpy(dst + r * ld, src + r * lds, k * sizeof *dst);
        zero_tail(dst + r * ld, k);
    }
}

static void transpose_quad(float *dst, size_t ld, const float *src, size_t lds) {
    v4 a = *(const v4 *)src, b = *(const v4 *)(src + lds), c = *(const v4 *)(src + 2 * lds), d = *(const v4 *)(src + 3 * lds);
    v4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    v4 ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(v4 *)dst = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(v4 *)(dst + ld) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(v4 *)(dst + 2 * ld) = __builtin_shufflevector(ef, gh, 0, 1, 4, 5);
    *(v4 *)(dst + 3 * ld) = __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
}

static void transpose_any(float *dst, size_t ld, const float *src, size_t lds, size_t rows, size_t k) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < k; j++) dst[i * ld + j] = src[j * lds + i];
}

void assay_transpose(float *dst, size_t ld, const float *src, size_t lds, size_t rows, size_t k) {
    size_t whole_k = k / QUAD * QUAD, r = 0;
    for (; r + LINE <= rows; r += LINE) {
        for (size_t c = 0; c < whole_k; c += QUAD)
            for (size_t i = r; i < r + LINE; i += QUAD) transpose_quad(dst + i * ld + c, ld, src + c * lds + i, lds);
        transpose_any(dst + r * ld + whole_k, ld, src + whole_k * lds + r, lds, LINE, k - whole_k);
    }
    transpose_any(dst + r * ld, ld, src + r, lds, rows - r, k);
}

void assay_pack_columns(float *dst, size_t ld, const float *src, size_t lds, size_t rows, size_t k) {
    assay_transpose(dst, ld, src, lds, rows, k);
    for (size_t i = 0; i < rows; i++) zero_tail(dst + i * ld, k);
}
