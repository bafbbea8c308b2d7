/* convert.c: which convention can hold which matrix, and the matrix as it is held there.
 *
 * Three things may change without a code or a decoded value changing:
 *
 *   form       a ggml block type and integers in groups of 32 (precision/block.h); a trivial g_idx, zero points that are all 2^(b-1)
 *   groups     a group of 128 is four of 32 with the same scale, and back where they are the same
 *   scale type F16, BF16 or F32, where every scale is a value of the new type
 *
 * The compute mode (how activations are rounded) belongs to a convention's home, not to the codes: it is set to what the target's home
 * does, and assay_convert_note says so. */
#include "format/convert.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "format/convention.h"
#include "num/convert.h"
#include "precision/block.h"

bool assay_convention_parse(assay_convention *out, const char *name) {
    for (int c = 0; c < ASSAY_CONVENTION_COUNT; c++) {
        if (strcmp(assay_convention_name((assay_convention)c), name) != 0) continue;
        *out = (assay_convention)c;
        return true;
    }
    return false;
}

static bool is_kind(const assay_matrix *m, assay_precision_kind kind) {
    return assay_precision_get_kind(m->precision) == kind;
}

/* --- blocks and integers --- */

/* Block types that are integers with a scale (and a minimum) per 32 columns. */
static const struct {
    assay_precision block, integer;
    bool asymmetric;
} PAIRS[] = {{ASSAY_PRECISION_Q4_0, ASSAY_PRECISION_INT4, false},
             {ASSAY_PRECISION_Q4_1, ASSAY_PRECISION_INT4, true},
             {ASSAY_PRECISION_Q5_0, ASSAY_PRECISION_INT5, false},
             {ASSAY_PRECISION_Q5_1, ASSAY_PRECISION_INT5, true},
             {ASSAY_PRECISION_Q8_0, ASSAY_PRECISION_INT8, false}};

static assay_status no_integers(const char *name, const assay_matrix *m, assay_err *err) {
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s is %s, whose codes no integers with a scale per group are: only gguf holds it", name,
                      assay_precision_name(m->precision));
}

/* What a block matrix is as integers, but for data and scales. */
static assay_status outline_blocks(assay_matrix *out, const char *name, const assay_matrix *m, assay_err *err) {
    static uint8_t some_zeros;
    for (size_t i = 0; i < ASSAY_LEN(PAIRS); i++) {
        if (PAIRS[i].block != m->precision) continue;
        *out = (assay_matrix){.precision = PAIRS[i].integer,
                              .rows = m->rows,
                              .cols = m->cols,
                              .group_size = 32,
                              .zeros = PAIRS[i].asymmetric ? &some_zeros : NULL,
                              .scale_dtype = ASSAY_DTYPE_F16,
                              .act_bits = 16,
                              .act_dtype = m->act_dtype};
        return ASSAY_OK;
    }
    return no_integers(name, m, err);
}

static bool is_half(float x) {
    return assay_f16_to_f32(assay_f32_to_f16(x)) == x;
}

/* Whether minima -zero * scale are float16 values. */
static bool minima_fit(const assay_matrix *m) {
    float middle = (float)(1 << (assay_precision_bits(m->precision) - 1));
    for (int64_t i = 0; i < m->n_scales; i++)
        if (!is_half((m->zeros ? (float)m->zeros[i] : middle) * m->scales[i])) return false;
    return true;
}

/* Whether a block type has room for every code less its zero point: Q4_0, Q5_0 and Q8_0 as a signed integer, Q4_1 and Q5_1 as the code
 * with the minimum beside it. So 4 bits with zero points always find room in Q5_0. */
static bool block_covers(assay_precision block, const assay_matrix *m) {
    int have = assay_precision_bits(block), bits = assay_precision_bits(m->precision), top = (1 << bits) - 1;
    if (block == ASSAY_PRECISION_Q4_1 || block == ASSAY_PRECISION_Q5_1) return bits <= have && minima_fit(m);
    int least = m->zeros ? top : 1 << (bits - 1), most = least;
    for (int64_t i = 0; m->zeros && i < m->n_scales; i++) {
        if (i == 0) least = most = m->zeros[0];
        least = ASSAY_MIN(least, m->zeros[i]);
        most = ASSAY_MAX(most, m->zeros[i]);
    }
    return most <= 1 << (have - 1) && top - least < 1 << (have - 1);
}

/* The smallest block type that has room; COUNT when there is none. */
static assay_precision block_for(const assay_matrix *m) {
    for (size_t i = 0; i < ASSAY_LEN(PAIRS); i++)
        if (block_covers(PAIRS[i].block, m)) return PAIRS[i].block;
    return ASSAY_PRECISION_COUNT;
}

static assay_status to_integers(const char *name, assay_matrix *m, assay_err *err) {
    assay_matrix out;
    char why[160];
    if (!assay_block_to_int(&out, m, why)) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s %s", name, why);
    assay_matrix_deinit(m);
    *m = out;
    return ASSAY_OK;
}

/* --- groups --- */

static int64_t group_of(const assay_matrix *m) {
    return m->group_size > 0 ? m->group_size : m->cols;
}

/* Whether scales and zero points of `factor` neighbouring groups are always the same. */
static bool groups_agree(const assay_matrix *m, int64_t factor) {
    int64_t groups = assay_matrix_n_groups(m);
    for (int64_t i = 0; i < m->n_scales; i++) {
        int64_t first = i / groups * groups + i % groups / factor * factor;
        if (m->scales[i] != m->scales[first] || (m->zeros && m->zeros[i] != m->zeros[first])) return false;
    }
    return true;
}

static assay_status check_groups(const char *name, const assay_matrix *m, int64_t want, assay_err *err) {
    int64_t have = group_of(m);
    if (want == have) return ASSAY_OK;
    const char *what = m->real_zeros ? "real zero points" : m->g_idx ? "an activation order (g_idx)" : NULL;
    if (what) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has %s: its groups of %lld stay as they are", name, what, (long long)have);
    if (m->cols % want != 0 || m->cols % have != 0 || (have % want != 0 && want % have != 0))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has groups of %lld in %lld columns: groups of %lld are neither parts nor wholes of them", name,
                          (long long)have, (long long)m->cols, (long long)want);
    if (want > have && m->n_scales && !groups_agree(m, want / have))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has groups of %lld with different scales: they cannot be joined to groups of %lld", name,
                          (long long)have, (long long)want);
    return ASSAY_OK;
}

/* Cuts or joins groups; what check_groups has found to fit. */
static assay_status regroup(assay_matrix *m, int64_t want, assay_err *err) {
    int64_t have = group_of(m), from = m->cols / have, to = m->cols / want;
    if (want == have) return ASSAY_OK;
    float *scales = assay_mallocn((size_t)(m->rows * to), sizeof *scales);
    uint8_t *zeros = m->zeros ? assay_malloc((size_t)(m->rows * to)) : NULL;
    if (!scales || (m->zeros && !zeros)) {
        assay_free(scales);
        assay_free(zeros);
        return assay_nomem(err);
    }
    for (int64_t r = 0; r < m->rows; r++)
        for (int64_t g = 0; g < to; g++) {
            int64_t source = r * from + g * want / have;
            scales[r * to + g] = m->scales[source];
            if (zeros) zeros[r * to + g] = m->zeros[source];
        }
    assay_free(m->scales);
    assay_free(m->zeros);
    m->scales = scales;
    m->zeros = zeros;
    m->n_scales = m->rows * to;
    m->group_size = want;
    return ASSAY_OK;
}

/* --- modes --- */

/* The compute mode that the target's home has for such a matrix. */
static void set_mode(assay_matrix *m, assay_convention c) {
    bool integer = is_kind(m, ASSAY_KIND_INT);
    if (c == ASSAY_CONVENTION_BNB && integer) {
        m->act_bits = 8;
        m->outlier_threshold = 6.0;
        m->input_scale = 0;
        m->act_group = 0;
    } else if (integer && (c != ASSAY_CONVENTION_CT || m->outlier_threshold > 0)) {
        m->act_bits = 16;
        m->outlier_threshold = 0;
        m->input_scale = 0;
        m->act_group = 0;
    }
    if (is_kind(m, ASSAY_KIND_FLOAT) && assay_precision_bits(m->precision) == 4) m->act_bits = 16;
    /* fp8 scales dynamic activations as wide as the weights' blocks */
    if (c == ASSAY_CONVENTION_FP8 && m->act_bits == 8 && m->input_scale == 0)
        m->act_group = assay_matrix_sharing(m) == ASSAY_SHARING_BLOCK ? m->group_size : 0;
}

const char *assay_convert_note(const assay_matrix *m, const assay_convert_target *t) {
    assay_matrix to = *m;
    if (t->convention == ASSAY_CONVENTION_HF || t->convention == ASSAY_CONVENTION_GGUF || is_kind(m, ASSAY_KIND_BLOCK)) {
        if (m->outlier_threshold > 0) return "outlier columns of activations are no longer told apart";
        return m->act_bits == 8 ? "8-bit activations become those of the runtime" : NULL;
    }
    set_mode(&to, t->convention);
    if (m->outlier_threshold > 0 && to.outlier_threshold == 0) return "outlier columns of activations are no longer told apart: all are 16-bit";
    if (m->act_bits == 8 && to.act_bits == 16) return "8-bit activations become 16-bit ones";
    if (m->act_bits == 16 && to.act_bits == 8) return "16-bit activations become 8-bit ones";
    if (m->input_scale > 0 && to.input_scale == 0) return "static scales of activations become dynamic ones";
    if (m->act_group != to.act_group) return "activations are scaled per token instead of per group, or the other way round";
    return NULL;
}

/* --- scales --- */

static bool all_values_of(const assay_matrix *m, assay_dtype t) {
    for (int64_t i = 0; i < m->n_scales; i++) {
        float v = m->scales[i], back = t == ASSAY_DTYPE_F16    ? assay_f16_to_f32(assay_f32_to_f16(v))
                                       : t == ASSAY_DTYPE_BF16 ? assay_bf16_to_f32(assay_f32_to_bf16(v))
                                                               : v;
        if (back != v) return false;
    }
    return true;
}

/* Zero points of HQQ have the scales' type. */
static bool zeros_are_values_of(const assay_matrix *m, assay_dtype t) {
    assay_matrix zeros = {.scales = m->real_zeros, .n_scales = m->real_zeros ? m->n_scales : 0};
    return all_values_of(&zeros, t);
}

static void choose_scale_dtype(assay_matrix *m, assay_dtype wanted) {
    assay_dtype old = m->scale_dtype;
    if (!is_kind(m, ASSAY_KIND_INT) && m->precision != ASSAY_PRECISION_FP8_E4M3) return;
    if (old == wanted || (all_values_of(m, wanted) && zeros_are_values_of(m, wanted))) m->scale_dtype = wanted;
}

/* --- GGUF --- */

static assay_status refuse_block(const char *name, const assay_matrix *m, assay_precision block, const char *why, assay_err *err) {
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s is %s%s, and %s: %s does not hold it", name, assay_precision_name(m->precision),
                      m->zeros ? " with zero points" : "", why, block < ASSAY_PRECISION_COUNT ? assay_precision_name(block) : "gguf");
}

static assay_status check_gguf(const char *name, const assay_matrix *m, const assay_convert_target *t, assay_err *err) {
    assay_precision block = t->block ? t->block : is_kind(m, ASSAY_KIND_INT) ? block_for(m) : ASSAY_PRECISION_COUNT;
    if (is_kind(m, ASSAY_KIND_BLOCK)) {
        assay_matrix integers;
        if (!t->block || t->block == m->precision) return ASSAY_OK;
        ASSAY_TRY(outline_blocks(&integers, name, m, err));
        return check_gguf(name, &integers, t, err); /* a wider type has room, but for minima */
    }
    if (m->precision == ASSAY_PRECISION_MXFP4 || m->precision == ASSAY_PRECISION_NVFP4) {
        if (t->block && t->block != m->precision) return refuse_block(name, m, t->block, "another type was asked for", err);
        if (m->cols % (m->precision == ASSAY_PRECISION_MXFP4 ? 32 : 64) == 0) return ASSAY_OK;
        return refuse_block(name, m, m->precision, "its columns are no whole blocks", err);
    }
    if (!is_kind(m, ASSAY_KIND_INT)) return refuse_block(name, m, ASSAY_PRECISION_COUNT, "ggml has no such codes", err);
    if (m->real_zeros) return refuse_block(name, m, ASSAY_PRECISION_COUNT, "its zero points are real numbers", err);
    if (m->g_idx) return refuse_block(name, m, ASSAY_PRECISION_COUNT, "it has an activation order (g_idx)", err);
    if (block == ASSAY_PRECISION_COUNT) return refuse_block(name, m, block, "ggml has no blocks of integers with room for it", err);
    if (t->block && (t->block > ASSAY_PRECISION_Q8_0 || !block_covers(block, m)))
        return refuse_block(name, m, block, "has codes or minima that the type that was asked for has no room for", err);
    if (!all_values_of(m, ASSAY_DTYPE_F16)) return refuse_block(name, m, block, "its scales are no float16 values", err);
    return check_groups(name, m, 32, err);
}

static assay_status to_block(const char *name, assay_matrix *m, const assay_convert_target *t, assay_err *err) {
    assay_matrix out;
    char why[160];
    if (t->block && t->block != m->precision && is_kind(m, ASSAY_KIND_BLOCK)) ASSAY_TRY(to_integers(name, m, err));
    if (!is_kind(m, ASSAY_KIND_INT)) return ASSAY_OK;
    if (m->group_size == 0) ASSAY_TRY(regroup(m, 32, err));
    assay_precision block = t->block ? t->block : block_for(m);
    if (!assay_block_from_int(&out, m, block, why)) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s %s", name, why);
    assay_matrix_deinit(m);
    *m = out;
    return ASSAY_OK;
}

/* --- all of them --- */

/* What apply will make of it, but for data; scales are those before groups are joined. */
static assay_status outline(assay_matrix *to, const char *name, const assay_matrix *m, const assay_convert_target *t, assay_err *err) {
    *to = *m;
    if (is_kind(m, ASSAY_KIND_BLOCK)) ASSAY_TRY(outline_blocks(to, name, m, err));
    if (is_kind(to, ASSAY_KIND_INT) && t->group_size) {
        ASSAY_TRY(check_groups(name, to, t->group_size, err));
        to->group_size = t->group_size;
    }
    set_mode(to, t->convention);
    choose_scale_dtype(to, t->model_dtype);
    return ASSAY_OK;
}

assay_status assay_convert_check(const char *name, const assay_matrix *m, const assay_convert_target *t, assay_err *err) {
    assay_matrix to;
    if (t->convention == ASSAY_CONVENTION_GGUF) return check_gguf(name, m, t, err);
    ASSAY_TRY(outline(&to, name, m, t, err));
    return assay_convention_check(t->convention, name, &to, err);
}

static assay_status apply(const char *name, assay_matrix *m, const assay_convert_target *t, assay_err *err) {
    if (t->convention == ASSAY_CONVENTION_GGUF) return to_block(name, m, t, err);
    if (is_kind(m, ASSAY_KIND_BLOCK)) ASSAY_TRY(to_integers(name, m, err));
    if (is_kind(m, ASSAY_KIND_INT) && t->group_size) {
        ASSAY_TRY(check_groups(name, m, t->group_size, err));
        ASSAY_TRY(regroup(m, t->group_size, err));
    }
    set_mode(m, t->convention);
    choose_scale_dtype(m, t->model_dtype);
    return ASSAY_OK;
}

assay_status assay_convert_apply(const char *name, assay_matrix *m, const assay_convert_target *t, assay_err *err) {
    ASSAY_TRY(assay_convert_check(name, m, t, err));
    return apply(name, m, t, err);
}

/* Blocks without data, or what becomes blocks when it is written. */
static void sketch_gguf(assay_matrix *out, const assay_matrix *m, const assay_convert_target *t) {
    *out = (assay_matrix){.precision = m->precision, .rows = m->rows, .cols = m->cols, .group_size = m->group_size};
    if (is_kind(m, ASSAY_KIND_INT)) out->precision = t->block ? t->block : block_for(m);
    if (is_kind(m, ASSAY_KIND_BLOCK) && t->block) out->precision = t->block;
}

assay_status assay_convert_sketch(assay_matrix *out, const char *weight_name, assay_matrix *m, const assay_convert_target *t, assay_err *err) {
    assay_matrix to;
    if (t->convention == ASSAY_CONVENTION_GGUF) {
        sketch_gguf(out, m, t);
        return ASSAY_OK;
    }
    ASSAY_TRY(outline(&to, weight_name, m, t, err));
    *out = to;
    ASSAY_TRY(assay_matrix_alloc(out, to.zeros != NULL, err));
    for (int64_t i = 0; i < out->n_scales; i++) out->scales[i] = 1;
    if (out->zeros) memset(out->zeros, 1, (size_t)out->n_scales);
    out->g_idx = m->g_idx;
    out->nested = m->nested;
    out->real_zeros = m->real_zeros;
    m->g_idx = NULL;
    m->nested = NULL;
    m->real_zeros = NULL;
    return ASSAY_OK;
}

assay_quant_entry assay_convert_entry(const char *weight_name, const assay_matrix *m, const assay_convert_target *t) {
    assay_matrix to;
    if (outline(&to, weight_name, m, t, NULL) != ASSAY_OK) to = *m;
    return (assay_quant_entry){.weight_name = weight_name,
                               .precision = to.precision,
                               .group_size = to.group_size,
                               .asymmetric = to.zeros != NULL,
                               .nested = to.nested != NULL,
                               .act_bits = to.act_bits,
                               .outlier_threshold = to.outlier_threshold,
                               .row_block = is_kind(&to, ASSAY_KIND_FLOAT) ? to.row_block : 0,
                               .act_group = to.act_bits == 8 ? to.act_group : 0,
                               .static_input = to.act_bits == 8 && to.input_scale > 0,
                               .real_zeros = to.real_zeros != NULL,
                               .ordered = to.g_idx != NULL};
}
