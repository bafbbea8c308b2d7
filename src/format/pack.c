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
 * and back by the same steps in reverse. The width is a constant in each of the loops below, so that the compiler sees plain shifts.
 *
 * Matrices whose words lie across the codes go by tiles: where rows are 4096 bytes apart, as they like to be, all of a column's cache lines
 * want the same place, so each line is touched once, for all that is in it, and words are put together in a small array first. */
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

typedef struct part part;
/* Rows [begin, end) of a part. */
typedef void rows_fn(const part *t, int64_t begin, int64_t end);

/* Of a packed matrix some columns of all rows (ACROSS, TURNED) or some rows (ROWS). */
struct part {
    const assay_packing *p;
    rows_fn *fn;
    uint8_t *codes; /* of the first row, with all its columns */
    uint8_t *words; /* of the first line */
    int64_t n_rows, first_col, end_col;
    int64_t strip; /* rows that are a task */
    void (*also)(void *ctx);
    void *also_ctx;
};

enum { AHEAD = 16 };
enum { STRIP_CODES = 1 << 18, STRIP_UNIT = 128, TILE_COLS = 256 };

static void pack_streams(const part *t, int64_t begin, int64_t end) {
    size_t words = assay_packed_words((size_t)t->p->cols, t->p->bits), cols = (size_t)t->p->cols;
    for (size_t r = (size_t)begin; r < (size_t)end; r++)
        assay_pack((uint32_t *)(void *)t->words + r * words, 1, t->codes + r * cols, 1, cols, t->p->bits);
}

static void unpack_streams(const part *t, int64_t begin, int64_t end) {
    size_t words = assay_packed_words((size_t)t->p->cols, t->p->bits), cols = (size_t)t->p->cols;
    for (size_t r = (size_t)begin; r < (size_t)end; r++)
        assay_unpack(t->codes + r * cols, 1, t->words + r * words * 4, 1, cols, t->p->bits);
}

/* Lines that will soon be read, or written: they are too far apart for the processor to guess. */
INLINE void fetch(const uint8_t *at, int64_t step, int64_t n_lines, int64_t bytes, bool write) {
    for (int64_t i = 0; i < n_lines; i++)
        for (int64_t k = 0; k < bytes; k += 64)
            if (write)
                __builtin_prefetch(at + i * step + k, 1);
            else
                __builtin_prefetch(at + i * step + k);
}

static void copy_lines(void *dst, int64_t dst_step, const void *src, int64_t src_step, int64_t n_lines, int64_t bytes) {
    for (int64_t i = 0; i < n_lines; i++) memcpy((uint8_t *)dst + i * dst_step, (const uint8_t *)src + i * src_step, (size_t)bytes);
}

/* --- words across: tiles of 32 rows and 8 blocks of 32 columns --- */

enum { ACROSS_ROWS = 32, BLOCK = 32 };

/* A row's words side by side; the one that is too many keeps rows out of each other's cache lines. */
typedef uint32_t across_tile[ACROSS_ROWS][TILE_COLS / BLOCK * 8 + 1];

static void store_across(uint8_t *lines, int64_t line, across_tile tile, int64_t n_lines, int64_t n) {
    for (int64_t k = 0; k < n_lines; k++)
        for (int64_t i = 0; i < n; i++) memcpy(lines + k * line + i * 4, &tile[i][k], 4);
}

static void load_across(across_tile tile, const uint8_t *lines, int64_t line, int64_t n_lines, int64_t n) {
    for (int64_t k = 0; k < n_lines; k++)
        for (int64_t i = 0; i < n; i++) memcpy(&tile[i][k], lines + k * line + i * 4, 4);
}

INLINE void across(const part *t, int64_t begin, int64_t end, int b, bool pack) {
    across_tile tile;
    int64_t line = t->p->rows * 4, step = t->p->cols;
    for (int64_t c = t->first_col; c < t->end_col; c += TILE_COLS)
        for (int64_t r = begin; r < end; r += ACROSS_ROWS) {
            int64_t cols = ASSAY_MIN(TILE_COLS, t->end_col - c), n_lines = cols / BLOCK * b, n = ASSAY_MIN(ACROSS_ROWS, end - r);
            uint8_t *lines = t->words + (c - t->first_col) / BLOCK * b * line + r * 4, *codes = t->codes + r * step + c;
            if (!pack) load_across(tile, lines, line, n_lines, n);
            if (!pack && r + n < end) fetch(lines + n * 4, line, n_lines, n * 4, false);
            for (int64_t i = 0; i < n; i++, codes += step) {
                if (r + i + AHEAD < end) fetch(codes + AHEAD * step, 0, 1, cols, !pack);
                if (pack)
                    pack_units((uint8_t *)tile[i], codes, (size_t)cols / 8, b);
                else
                    unpack_units(codes, (const uint8_t *)tile[i], (size_t)cols / 8, b);
            }
            if (pack) store_across(lines, line, tile, n_lines, n);
        }
}

#define ACROSS(B)                                                                \
    static void unpack_across_##B(const part *t, int64_t begin, int64_t end) {   \
        across(t, begin, end, B, false);                                         \
    }                                                                            \
    static void pack_across_##B(const part *t, int64_t begin, int64_t end) {     \
        across(t, begin, end, B, true);                                          \
    }
FOR_WIDTHS(ACROSS)
#define UNPACK_ACROSS_OF(B) [B] = unpack_across_##B,
static rows_fn *const UNPACK_ACROSS[9] = {FOR_WIDTHS(UNPACK_ACROSS_OF)};
#define PACK_ACROSS_OF(B) [B] = pack_across_##B,
static rows_fn *const PACK_ACROSS[9] = {FOR_WIDTHS(PACK_ACROSS_OF)};

/* --- turned: tiles of 128 rows (a cache line of words) and 256 columns, in squares of 8 rows and 64 columns --- */

enum { TURNED_ROWS = 128, SQUARE = 64 };

typedef uint32_t turned_tile[TILE_COLS][TURNED_ROWS / 8];

/* Which of its eight rows each nibble of a word has. */
static const int ROW_OF_NIBBLE[8] = {0, 2, 4, 6, 1, 3, 5, 7};

/* Eight rows of codes in the nibbles' order, by eights. */
typedef uint64_t square[8][SQUARE / 8];

/* Bytes i of four rows to word i, and back; the loops' lengths are constant, so that gcc vectorizes them at -O2. */
static void join_bytes(uint32_t words[restrict SQUARE], const uint8_t bytes[restrict 4][SQUARE]) {
    for (int k = 0; k < SQUARE; k++)
        words[k] = (uint32_t)bytes[0][k] | (uint32_t)bytes[1][k] << 8 | (uint32_t)bytes[2][k] << 16 | (uint32_t)bytes[3][k] << 24;
}

static void split_bytes(uint8_t bytes[restrict 4][SQUARE], const uint32_t words[restrict SQUARE]) {
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < SQUARE; k++) bytes[i][k] = (uint8_t)(words[k] >> 8 * i);
}

/* Word `word` of n lines from `first` on: eight rows of codes that are `step` apart. */
INLINE void pack_square(turned_tile tile, int64_t word, int64_t first, const uint8_t *codes, int64_t step, int64_t n) {
    square rows;
    uint64_t pairs[4][SQUARE / 8];
    uint32_t words[SQUARE];
    if (n < SQUARE) memset(rows, 0, sizeof rows);
    for (int i = 0; i < 8; i++) memcpy(rows[i], codes + ROW_OF_NIBBLE[i] * step, (size_t)n);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < SQUARE / 8; k++) pairs[i][k] = rows[2 * i][k] | rows[2 * i + 1][k] << 4;
    join_bytes(words, (const uint8_t(*)[SQUARE])pairs);
    for (int64_t k = 0; k < n; k++) tile[first + k][word] = words[k];
}

INLINE void unpack_square(uint8_t *codes, int64_t step, turned_tile tile, int64_t word, int64_t first, int64_t n) {
    square rows;
    uint64_t pairs[4][SQUARE / 8];
    uint32_t words[SQUARE];
    if (n < SQUARE) memset(words, 0, sizeof words);
    for (int64_t k = 0; k < n; k++) words[k] = tile[first + k][word];
    split_bytes((uint8_t(*)[SQUARE])pairs, words);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < SQUARE / 8; k++) {
            rows[2 * i][k] = pairs[i][k] & 0x0f0f0f0f0f0f0f0f;
            rows[2 * i + 1][k] = pairs[i][k] >> 4 & 0x0f0f0f0f0f0f0f0f;
        }
    for (int i = 0; i < 8; i++) memcpy(codes + ROW_OF_NIBBLE[i] * step, rows[i], (size_t)n);
}

INLINE void turn(const part *t, int64_t begin, int64_t end, bool pack) {
    turned_tile tile;
    int64_t line = t->p->rows / 2, step = t->p->cols;
    for (int64_t c = t->first_col; c < t->end_col; c += TILE_COLS)
        for (int64_t r = begin; r < end; r += TURNED_ROWS) {
            int64_t cols = ASSAY_MIN(TILE_COLS, t->end_col - c), whole = cols / SQUARE * SQUARE, n = ASSAY_MIN(TURNED_ROWS, end - r) / 8;
            uint8_t *lines = t->words + (c - t->first_col) * line + r / 2, *codes = t->codes + r * step + c;
            if (!pack) copy_lines(tile, sizeof tile[0], lines, line, cols, n * 4);
            if (!pack && r + TURNED_ROWS < end) fetch(lines + n * 4, line, cols, n * 4, false);
            for (int64_t i = 0; i < n; i++, codes += 8 * step) {
                if (r + 8 * i + AHEAD < end) fetch(codes + AHEAD * step, step, 8, cols, !pack);
                for (int64_t k = 0; k < whole; k += SQUARE)
                    if (pack)
                        pack_square(tile, i, k, codes + k, step, SQUARE);
                    else
                        unpack_square(codes + k, step, tile, i, k, SQUARE);
                if (pack && whole < cols) pack_square(tile, i, whole, codes + whole, step, cols - whole);
                if (!pack && whole < cols) unpack_square(codes + whole, step, tile, i, whole, cols - whole);
            }
            if (pack) copy_lines(lines, line, tile, sizeof tile[0], cols, n * 4);
        }
}

static void pack_turned(const part *t, int64_t begin, int64_t end) {
    turn(t, begin, end, true);
}

static void unpack_turned(const part *t, int64_t begin, int64_t end) {
    turn(t, begin, end, false);
}

/* --- lines --- */

void assay_packing_shape(int64_t shape[2], const assay_packing *p) {
    int64_t words = (int64_t)assay_packed_words((size_t)p->cols, p->bits);
    switch (p->layout) {
    case ASSAY_PACKING_ROWS:
        shape[0] = p->rows;
        shape[1] = words;
        break;
    case ASSAY_PACKING_ACROSS:
        shape[0] = words;
        shape[1] = p->rows;
        break;
    case ASSAY_PACKING_TURNED:
        shape[0] = p->cols;
        shape[1] = p->rows / 8;
        break;
    }
}

/* Lines that 64 columns, a cache line of codes, are. */
static int64_t lines_of_step(const assay_packing *p) {
    return p->layout == ASSAY_PACKING_ROWS ? 1 : p->layout == ASSAY_PACKING_ACROSS ? 2 * p->bits : 64;
}

int64_t assay_packing_piece(const assay_packing *p, size_t bytes) {
    int64_t shape[2], step = lines_of_step(p);
    assay_packing_shape(shape, p);
    int64_t n = (int64_t)bytes / 4 / ASSAY_MAX(shape[1], 1) / step;
    return ASSAY_MAX(n, 1) * step;
}

static void strip_task(void *ctx, size_t task, int thread) {
    const part *t = ctx;
    (void)thread;
    if (task > 0) {
        int64_t begin = ((int64_t)task - 1) * t->strip;
        t->fn(t, begin, ASSAY_MIN(begin + t->strip, t->n_rows));
    } else if (t->also) {
        t->also(t->also_ctx);
    }
}

/* By strips of rows, so that whatever the number of threads nobody writes what is another's. */
static void run_part(part *t) {
    int64_t cols = t->end_col - t->first_col, unit = t->p->layout == ASSAY_PACKING_ROWS ? 1 : STRIP_UNIT;
    t->strip = ASSAY_MAX(STRIP_CODES / ASSAY_MAX(cols, 1) / unit, 1) * unit;
    size_t strips = (size_t)((t->n_rows + t->strip - 1) / t->strip);
    assay_parallel(t->also || strips > 1 ? assay_n_cores() : 1, strips + 1, strip_task, t);
}

void assay_pack_lines(uint32_t *dst, const assay_packing *p, const uint8_t *codes, int64_t first, int64_t n, void (*also)(void *ctx),
                      void *ctx) {
    part t = {.p = p, .codes = (uint8_t *)(uintptr_t)codes, .words = (uint8_t *)dst, .n_rows = p->rows, .also = also, .also_ctx = ctx};
    t.fn = p->layout == ASSAY_PACKING_ROWS ? pack_streams : p->layout == ASSAY_PACKING_ACROSS ? PACK_ACROSS[p->bits] : pack_turned;
    if (p->layout == ASSAY_PACKING_ROWS) {
        t.codes += first * p->cols;
        t.n_rows = n;
        t.end_col = p->cols;
    } else {
        bool across = p->layout == ASSAY_PACKING_ACROSS;
        int64_t cols = across ? BLOCK : 1, lines = across ? p->bits : 1; /* that many columns are that many lines */
        t.first_col = first / lines * cols;
        t.end_col = t.first_col + n / lines * cols;
    }
    run_part(&t);
}

void assay_unpack_lines(uint8_t *codes, const assay_packing *p, const void *src) {
    part t = {.p = p, .codes = codes, .words = (uint8_t *)(uintptr_t)src, .n_rows = p->rows, .end_col = p->cols};
    t.fn = p->layout == ASSAY_PACKING_ROWS ? unpack_streams : p->layout == ASSAY_PACKING_ACROSS ? UNPACK_ACROSS[p->bits] : unpack_turned;
    run_part(&t);
}
