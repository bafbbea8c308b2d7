/* block_encode.c: quantizing to ggml's block types: what can be refused is refused here, then the type's
 * own encoder takes the rows. */
#include <math.h>

#include "base/mem.h"
#include "precision/block_encode.h"
#include "precision/iq_lattice.h"

typedef void (*encode_fn)(uint8_t *out, const float *w, int64_t cols, const float *importance);

static encode_fn encoder_of(assay_precision p) {
    static const encode_fn ENCODE[] = {
#define B(NAME, name, bits, type, elements, bytes, group, mins) assay_encode_##NAME,
#include "precision/blocks.def"
#undef B
    };
    return ENCODE[p - ASSAY_PRECISION_Q4_0];
}

static assay_status check_importance(const float *importance, int64_t cols, const assay_block_info *b,
                                     assay_err *err) {
    if (!importance && b->needs_importance)
        return assay_fail(err, ASSAY_EUSAGE, "%s needs an importance matrix", b->name);
    for (int64_t c = 0; importance && c < cols; c++)
        if (!isfinite(importance[c]) || importance[c] < 0)
            return assay_fail(err, ASSAY_EINPUT, "importance %g of column %lld is no weight",
                              (double)importance[c], (long long)c);
    return ASSAY_OK;
}

/* Beyond this no float16 scale reaches, whatever the type, and the searches' fourth powers would overflow. */
#define LARGEST 0x1p28f

static assay_status check_weights(const float *w, int64_t row, int64_t cols, assay_err *err) {
    uint32_t top = assay_float_bits(LARGEST), any = 0;
    for (int64_t c = 0; c < cols; c += 32) /* every block has at least so many */
        for (int k = 0; k < 32; k++) any |= (assay_float_bits(w[c + k]) & 0x7fffffffu) > top;
    if (!any) return ASSAY_OK;
    int64_t c = 0;
    while (fabsf(w[c]) <= LARGEST) c++;
    if (isfinite(w[c]))
        return assay_fail(err, ASSAY_EINPUT,
                          "weight at row %lld column %lld is %g, beyond the reach of float16 scales",
                          (long long)row, (long long)c, (double)w[c]);
    return assay_fail(err, ASSAY_EINPUT, "weight at row %lld column %lld is %s", (long long)row, (long long)c,
                      isnan(w[c]) ? "NaN" : "infinite");
}

assay_status assay_encode_block(assay_matrix *out, const float *w, int64_t rows, int64_t cols,
                                assay_precision p, const float *importance, assay_err *err) {
    *out = (assay_matrix){.precision = p, .rows = rows, .cols = cols, .act_bits = 16};
    const assay_block_info *b = assay_block_get(p);
    const assay_lattice *grid;
    assay_status s;
    if (!b) return assay_fail(err, ASSAY_EUSAGE, "%s is no block type", assay_precision_name(p));
    size_t row_bytes = assay_block_row_bytes(p, cols);
    if (row_bytes == 0)
        return assay_fail(err, ASSAY_EUSAGE, "rows of %lld are no whole %s blocks of %d", (long long)cols,
                          b->name, b->elements);
    if (rows < 1)
        return assay_fail(err, ASSAY_EINPUT, "a matrix of %lld rows cannot be encoded", (long long)rows);
    ASSAY_TRY(check_importance(importance, cols, b, err));
    ASSAY_TRY(assay_lattice_get(&grid, p, err));
    uint8_t *blocks = assay_mallocn((size_t)rows, row_bytes);
    if (!blocks) return assay_nomem(err);
    out->data = blocks;
    out->owns_data = true;
    for (int64_t r = 0; r < rows; r++) {
        ASSAY_GO(check_weights(w + r * cols, r, cols, err));
        encoder_of(p)(blocks + (size_t)r * row_bytes, w + r * cols, cols, importance);
    }
    s = assay_block_check(out, b->name, err);
out:
    if (s != ASSAY_OK) assay_matrix_deinit(out);
    return s;
}
