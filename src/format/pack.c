/* pack.c: codes to bit streams and back. Written for machines that store words little-endian, as the files
 * do.
 *
 * Eight codes are a unit of b bytes. A unit becomes eight bytes by three halvings, all in one 64-bit word:
 *
 *     ........ hgfedcba      fields of b bits, a first
 *     hgfe.... dcba....      the upper four go to bit 32
 *     hg..fe.. dc..ba..      of each half the upper two 16 bits up
 *     h.g.f.e. d.c.b.a.      of each quarter the upper one 8 bits up
 *
 * and back by the same steps in reverse. The width is a constant in each of the loops below, so that the compiler sees plain shifts. */
#include "format/pack.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/thread.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed words are stored as the machine has them");

#define INLINE static inline __attribute__((always_inline))

size_t assay_packed_words(size_t n, int bits) {
    return (n * (size_t)bits + 31) / 32;
}

INLINE uint64_t field(int bits, uint64_t places) {
    return ((1ull << bits) - 1) * places;
}

INLINE uint64_t spread(uint64_t x, int b) {
    x = (x & field(4 * b, 1)) | (x >> (4 * b) & field(4 * b, 1)) << 32;
    x = (x & field(2 * b, 0x0000000100000001)) | (x >> (2 * b) & field(2 * b, 0x0000000100000001)) << 16;
    return (x & field(b, 0x0001000100010001)) | (x >> b & field(b, 0x0001000100010001)) << 8;
}

INLINE uint64_t gather(uint64_t x, int b) {
    x = (x & field(b, 0x0001000100010001)) | (x >> 8 & field(b, 0x0001000100010001)) << b;
    x = (x & field(2 * b, 0x0000000100000001)) | (x >> 16 & field(2 * b, 0x0000000100000001)) << (2 * b);
    return (x & field(4 * b, 1)) | (x >> 32 & field(4 * b, 1)) << (4 * b);
}

INLINE void unpack_units(uint8_t *codes, const uint8_t *src, size_t units, int b) {
    for (size_t i = 0; i < units; i++) {
        uint64_t x = 0;
        memcpy(&x, src + i * (size_t)b, (size_t)b);
        x = spread(x, b);
        memcpy(codes + 8 * i, &x, 8);
    }
}

INLINE void pack_units(uint8_t *dst, const uint8_t *codes, size_t units, int b) {
    for (size_t i = 0; i < units; i++) {
        uint64_t x;
        memcpy(&x, codes + 8 * i, 8);
        x = gather(x, b);
        memcpy(dst + i * (size_t)b, &x, (size_t)b);
    }
}

/* One function for each width. */
#define FOR_WIDTHS(X) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
typedef void units_fn(uint8_t *dst, const uint8_t *src, size_t units);
#define DEFINE(B)                                                                      \
    static void unpack_units_##B(uint8_t *codes, const uint8_t *src, size_t units) {   \
        unpack_units(codes, src, units, B);                                            \
    }                                                                                  \
    static void pack_units_##B(uint8_t *dst, const uint8_t *codes, size_t units) {     \
        pack_units(dst, codes, units, B);                                              \
    }
FOR_WIDTHS(DEFINE)
#define UNPACK(B) [B] = unpack_units_##B,
static units_fn *const UNPACK_UNITS[9] = {FOR_WIDTHS(UNPACK)};
#define PACK(B) [B] = pack_units_##B,
static units_fn *const PACK_UNITS[9] = {FOR_WIDTHS(PACK)};

/* --- one stream --- */

static void pack_strided(uint32_t *dst, size_t stride, const uint8_t *codes, size_t code_stride, size_t n, int bits) {
    uint64_t pending = 0;
    int have = 0;
    for (size_t i = 0; i < n; i++) {
        pending |= (uint64_t)codes[i * code_stride] << have;
        have += bits;
        if (have < 32) continue;
        *dst = (uint32_t)pending;
        dst += stride;
        pending >>= 32;
        have -= 32;
    }
    if (have) *dst = (uint32_t)pending;
}

static void unpack_strided(uint8_t *codes, size_t code_stride, const void *src, size_t stride, size_t n, int bits) {
    const unsigned char *p = src;
    uint64_t pending = 0;
    int have = 0;
    uint8_t mask = (uint8_t)((1u << bits) - 1);
    for (size_t i = 0; i < n; i++) {
        if (have < bits) {
            uint32_t word;
            memcpy(&word, p, 4);
            p += 4 * stride;
            pending |= (uint64_t)word << have;
            have += 32;
        }
        codes[i * code_stride] = (uint8_t)pending & mask;
        pending >>= bits;
        have -= bits;
    }
}

/* Of n codes those that fill whole words together, in units. */
static size_t whole_units(size_t n) {
    return n / 32 * 4;
}

void assay_pack(uint32_t *dst, size_t stride, const uint8_t *codes, size_t code_stride, size_t n, int bits) {
    size_t units = stride == 1 && code_stride == 1 && PACK_UNITS[bits] ? whole_units(n) : 0;
    if (units) PACK_UNITS[bits]((uint8_t *)dst, codes, units);
    pack_strided(dst + units / 4 * (size_t)bits, stride, codes + 8 * units, code_stride, n - 8 * units, bits);
}

void assay_unpack(uint8_t *codes, size_t code_stride, const void *src, size_t stride, size_t n, int bits) {
    size_t units = stride == 1 && code_stride == 1 && UNPACK_UNITS[bits] ? whole_units(n) : 0;
    if (units) UNPACK_UNITS[bits](codes, src, units);
    unpack_strided(codes + 8 * units, code_stride, (const uint8_t *)src + units * (size_t)bits, stride, n - 8 * units, bits);
}

/* --- matrices --- */

typedef struct job {
    uint8_t *codes;
    uint8_t *words;
    int64_t rows, cols;
    int bits;
} job;

enum { GRAIN = 1 << 18 }; /* codes that are worth a task */

static void for_rows(job j, int64_t step, assay_range_fn fn) {
    int64_t grain = ASSAY_MAX(GRAIN / ASSAY_MAX(j.cols, 1) / step, 1) * step;
    assay_parallel_range(j.rows * j.cols > GRAIN ? assay_n_cores() : 1, (size_t)j.rows, (size_t)grain, fn, &j);
}

static void pack_row_range(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    size_t words = assay_packed_words((size_t)j->cols, j->bits), cols = (size_t)j->cols;
    (void)thread;
    for (size_t r = begin; r < end; r++)
        assay_pack((uint32_t *)(void *)j->words + r * words, 1, j->codes + r * cols, 1, cols, j->bits);
}

static void unpack_row_range(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    size_t words = assay_packed_words((size_t)j->cols, j->bits), cols = (size_t)j->cols;
    (void)thread;
    for (size_t r = begin; r < end; r++)
        assay_unpack(j->codes + r * cols, 1, j->words + r * words * 4, 1, cols, j->bits);
}

void assay_pack_codes(uint32_t *dst, const uint8_t *codes, int64_t rows, int64_t cols, int bits) {
    for_rows((job){(uint8_t *)(uintptr_t)codes, (uint8_t *)dst, rows, cols, bits}, 1, pack_row_range);
}

void assay_unpack_rows(uint8_t *codes, const void *src, int64_t rows, int64_t cols, int bits) {
    for_rows((job){codes, (uint8_t *)(uintptr_t)src, rows, cols, bits}, 1, unpack_row_range);
}

/* --- words across: tiles of 32 rows and 64 columns, so that cache lines are used up on both sides --- */

enum { TILE_ROWS = 32, TILE_BLOCKS = 2 };

/* 32 codes of one row at column 32*block. */
INLINE void unpack_block(const job *j, int64_t r, int64_t block, int b) {
    uint32_t w[8];
    const uint8_t *src = j->words + ((block * b) * j->rows + r) * 4;
    for (int i = 0; i < b; i++)
        memcpy(&w[i], src + (int64_t)i * j->rows * 4, 4);
    unpack_units(j->codes + r * j->cols + 32 * block, (const uint8_t *)w, 4, b);
}

INLINE void pack_block(const job *j, int64_t r, int64_t block, int b) {
    uint32_t w[8];
    uint8_t *dst = j->words + ((block * b) * j->rows + r) * 4;
    pack_units((uint8_t *)w, j->codes + r * j->cols + 32 * block, 4, b);
    for (int i = 0; i < b; i++)
        memcpy(dst + (int64_t)i * j->rows * 4, &w[i], 4);
}

INLINE void walk_tiles(const job *j, size_t begin, size_t end, int b, bool pack) {
    int64_t blocks = j->cols / 32;
    for (int64_t r0 = (int64_t)begin; r0 < (int64_t)end; r0 += TILE_ROWS)
        for (int64_t k0 = 0; k0 < blocks; k0 += TILE_BLOCKS)
            for (int64_t k = k0; k < ASSAY_MIN(k0 + TILE_BLOCKS, blocks); k++)
                for (int64_t r = r0; r < ASSAY_MIN(r0 + TILE_ROWS, (int64_t)end); r++)
                    if (pack)
                        pack_block(j, r, k, b);
                    else
                        unpack_block(j, r, k, b);
}

#define TILES(B)                                                                               \
    static void unpack_tiles_##B(void *ctx, size_t begin, size_t end, int thread) {            \
        (void)thread;                                                                          \
        walk_tiles(ctx, begin, end, B, false);                                                 \
    }                                                                                          \
    static void pack_tiles_##B(void *ctx, size_t begin, size_t end, int thread) {              \
        (void)thread;                                                                          \
        walk_tiles(ctx, begin, end, B, true);                                                  \
    }
FOR_WIDTHS(TILES)
#define UNPACK_TILE(B) [B] = unpack_tiles_##B,
static const assay_range_fn UNPACK_TILES[9] = {FOR_WIDTHS(UNPACK_TILE)};
#define PACK_TILE(B) [B] = pack_tiles_##B,
static const assay_range_fn PACK_TILES[9] = {FOR_WIDTHS(PACK_TILE)};

void assay_pack_across(uint32_t *dst, const uint8_t *codes, int64_t rows, int64_t cols, int bits) {
    for_rows((job){(uint8_t *)(uintptr_t)codes, (uint8_t *)dst, rows, cols, bits}, TILE_ROWS, PACK_TILES[bits]);
}

void assay_unpack_across(uint8_t *codes, const void *src, int64_t rows, int64_t cols, int bits) {
    for_rows((job){codes, (uint8_t *)(uintptr_t)src, rows, cols, bits}, TILE_ROWS, UNPACK_TILES[bits]);
}
