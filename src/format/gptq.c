/* gptq.c: the GPTQ convention (GPTQModel 7.7: nn_modules/qlinear/__init__.py, utils/model.py; AutoGPTQ before it). For module X of
 * shape [o, i] with g groups a row and codes of b = 2, 3, 4 or 8 bits; everything lies [in][out]:
 *
 *   X.qweight  I32 [i*b/32, o]   column n is the stream of row n's codes, LSB first: 32 codes in b words (3 bits cross words)
 *   X.qzeros   I32 [g, o*b/32]   the zero points of group k as a stream along the outputs, less one in version 1
 *   X.scales   F16 [g, o]        w = (q - zero) * scale
 *   X.g_idx    I32 [i]           the group of each column: column / group_size unless there is an activation order
 *
 * checkpoint_format "gptq" (version 1) stores zero - 1, "gptq_v2" the zero. GPTQModel goes between them by adding to whole words at 2,
 * 4 and 8 bits, so that a zero point of 0 borrows from its neighbour, and field by field at 3 bits: reading here does the same. Other
 * readers add field by field and do not wrap (exllama, vLLM: the field 15 means 16), so a zero point of 0 is never written in version 1.
 *
 * `dynamic` in the configuration has other widths and groups for modules by pattern, the first that matches; "-:" leaves modules alone.
 * Widths of 5, 6 and 7 bits and the planar packing are GPTQModel's own and not read here. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "format/convention.h"

bool assay_gptq_has(const assay_want *w) {
    return assay_want_find(w, ".qweight") != NULL;
}

typedef struct scheme {
    int64_t bits, group_size;
    bool v2;
} scheme;

/* --- the configuration --- */

/* What `dynamic` has for the module; NULL when nothing matches. */
static assay_status find_dynamic(const json_t **out, const json_t *config, const char *module, assay_err *err) {
    const char *pattern;
    json_t *value, *dynamic = json_object_get(config, "dynamic");
    *out = NULL;
    json_object_foreach(dynamic, pattern, value) {
        char target[600];
        bool match;
        const char *p = strncmp(pattern, "+:", 2) == 0 || strncmp(pattern, "-:", 2) == 0 ? pattern + 2 : pattern;
        if (snprintf(target, sizeof target, "re:%s", p) >= (int)sizeof target)
            return assay_fail(err, ASSAY_EUNSUPPORTED, "quantization_config: the pattern '%.60s...' in dynamic is too long", p);
        ASSAY_TRY(assay_ct_match(&match, target, module, err));
        if (!match) continue;
        *out = value;
        return ASSAY_OK;
    }
    return ASSAY_OK;
}

static assay_status read_version(scheme *s, const json_t *config, assay_err *err) {
    const char *format = NULL;
    ASSAY_TRY(assay_json_get_str(&format, config, "checkpoint_format", "quantization_config", err));
    if (!format) ASSAY_TRY(assay_json_get_str(&format, config, "format", "quantization_config", err));
    if (json_is_true(json_object_get(config, "is_marlin_format"))) format = "marlin";
    s->v2 = format && strcmp(format, "gptq_v2") == 0;
    if (!format || s->v2 || strcmp(format, "gptq") == 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EUNSUPPORTED, "quantization_config: checkpoint_format '%.40s' is not supported: gptq and gptq_v2 are", format);
}

static assay_status read_scheme(scheme *s, const assay_want *w, assay_err *err) {
    const json_t *own;
    const char *pack = NULL;
    *s = (scheme){.bits = 4, .group_size = -1};
    ASSAY_TRY(read_version(s, w->config, err));
    ASSAY_TRY(find_dynamic(&own, w->config, w->module, err));
    ASSAY_TRY(assay_json_get_str(&pack, w->config, "pack_dtype", "quantization_config", err));
    if (pack && strcmp(pack, "int32") != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "quantization_config: pack_dtype '%.40s' is not supported: int32 is", pack);
    ASSAY_TRY(assay_json_get_int(&s->bits, w->config, "bits", "quantization_config", err));
    ASSAY_TRY(assay_json_get_int(&s->group_size, w->config, "group_size", "quantization_config", err));
    if (json_is_object(own)) {
        ASSAY_TRY(assay_json_get_int(&s->bits, own, "bits", "quantization_config.dynamic", err));
        ASSAY_TRY(assay_json_get_int(&s->group_size, own, "group_size", "quantization_config.dynamic", err));
    }
    if (s->group_size < 0) s->group_size = 0; /* -1: the whole row */
    if (s->bits == 2 || s->bits == 3 || s->bits == 4 || s->bits == 8) return ASSAY_OK;
    return assay_fail(err, ASSAY_EUNSUPPORTED, "quantization_config: %s has %lld bits: gptq has 2, 3, 4 and 8 here", w->module,
                      (long long)s->bits);
}

/* --- reading --- */

static assay_status read_shape(assay_matrix *m, const assay_want *w, const assay_tensor *t, int64_t bits, assay_err *err) {
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I32, -1, err));
    if (t->n_dims != 2 || t->dims[0] > INT32_MAX || t->dims[0] % bits != 0)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s is not a matrix of columns of 32 codes in %lld words", t->name, (long long)bits);
    m->cols = t->dims[0] / bits * 32;
    m->rows = t->dims[1];
    if (m->rows % 32 != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor %s has %lld outputs: gptq packs them by 32", t->name, (long long)m->rows);
    return assay_want_shape(w, m->rows, m->cols, err);
}

/* One in every field of a word, for the widths whose fields do not cross words. */
static uint32_t ones(int64_t bits) {
    return UINT32_MAX / ((1u << bits) - 1);
}

static assay_status read_zeros(assay_matrix *m, const assay_want *w, const scheme *s, assay_err *err) {
    const assay_tensor *t;
    int64_t groups = assay_matrix_n_groups(m), words = m->rows / 32 * s->bits;
    ASSAY_TRY(assay_want_get(&t, w, ".qzeros", err));
    ASSAY_TRY(assay_want_tensor(t, ASSAY_DTYPE_I32, groups * words, err));
    uint32_t *row = assay_mallocn((size_t)words, sizeof *row), add = s->v2 || s->bits == 3 ? 0 : ones(s->bits);
    if (!row) return assay_nomem(err);
    for (int64_t g = 0; g < groups; g++) {
        memcpy(row, (const char *)t->data + g * words * 4, (size_t)words * 4);
        for (int64_t i = 0; i < words; i++) row[i] += add;
        assay_unpack(m->zeros + g, (size_t)groups, row, 1, (size_t)m->rows, (int)s->bits);
    }
    if (s->bits == 3 && !s->v2)
        for (int64_t i = 0; i < m->n_scales; i++) m->zeros[i] = (m->zeros[i] + 1) & 7;
    assay_free(row);
    return ASSAY_OK;
}

assay_status assay_gptq_get(assay_matrix *m, const assay_want *w, assay_err *err) {
    const assay_tensor *codes, *scales, *order = assay_want_find(w, ".g_idx");
    scheme s;
    *m = (assay_matrix){.act_bits = 16, .act_dtype = w->dense_act};
    ASSAY_TRY(read_scheme(&s, w, err));
    ASSAY_TRY(assay_want_get(&codes, w, ".qweight", err));
    ASSAY_TRY(assay_want_get(&scales, w, ".scales", err));
    ASSAY_TRY(read_shape(m, w, codes, s.bits, err));
    m->precision = (assay_precision)(ASSAY_PRECISION_INT2 + (int)s.bits - 2);
    m->group_size = s.group_size <= m->cols ? s.group_size : 0;
    m->scale_dtype = assay_scale_dtype(scales);
    ASSAY_TRY(assay_matrix_alloc(m, true, err));
    ASSAY_TRY(assay_want_scales_across(m, scales, err));
    ASSAY_TRY(read_zeros(m, w, &s, err));
    assay_matrix_drop_plain_zeros(m);
    if (order) ASSAY_TRY(assay_want_order(m, order, err));
    if (!w->outline) assay_unpack_lines(m->codes, &(assay_packing){ASSAY_PACKING_ACROSS, (int)s.bits, m->rows, m->cols}, codes->data);
    return ASSAY_OK;
}

/* --- writing --- */

static assay_status put_zeros(assay_ckpt_writer *w, const char *module, const assay_matrix *m, int bits, bool v2, assay_err *err) {
    int64_t groups = assay_matrix_n_groups(m), words = m->rows / 32 * bits;
    uint32_t *packed = assay_mallocn((size_t)(groups * words), sizeof *packed);
    uint8_t *row = assay_malloc((size_t)m->rows);
    assay_status s = packed && row ? ASSAY_OK : assay_nomem(err);
    for (int64_t g = 0; s == ASSAY_OK && g < groups && !assay_ckpt_writer_is_planning(w); g++) {
        for (int64_t r = 0; r < m->rows; r++)
            row[r] = (uint8_t)((m->zeros ? m->zeros[r * groups + g] : 1 << (bits - 1)) - !v2);
        assay_pack(packed + g * words, 1, row, 1, (size_t)m->rows, bits);
    }
    if (s == ASSAY_OK) s = assay_put_part(w, module, ".qzeros", ASSAY_DTYPE_I32, 2, (int64_t[]){groups, words}, packed, err);
    assay_free(packed);
    assay_free(row);
    return s;
}

static assay_status put_order(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_err *err) {
    if (m->g_idx) return assay_put_part(w, module, ".g_idx", ASSAY_DTYPE_I32, 1, &m->cols, m->g_idx, err);
    int32_t *trivial = assay_mallocn((size_t)m->cols, sizeof *trivial);
    if (!trivial) return assay_nomem(err);
    for (int64_t c = 0; c < m->cols; c++) trivial[c] = m->group_size ? (int32_t)(c / m->group_size) : 0;
    assay_status s = assay_put_part(w, module, ".g_idx", ASSAY_DTYPE_I32, 1, &m->cols, trivial, err);
    assay_free(trivial);
    return s;
}

static assay_status check(const char *module, const assay_matrix *m, bool v2, assay_err *err) {
    int bits = assay_precision_bits(m->precision);
    int64_t groups = assay_matrix_n_groups(m);
    ASSAY_TRY(assay_check_plain_int(module, m, "gptq", err));
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has codes of %d bits: gptq has 2, 3, 4 and 8", module, bits);
    if (m->cols % 32 != 0 || m->rows % 32 != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s is %lld x %lld: gptq packs inputs and outputs by 32", module, (long long)m->rows,
                          (long long)m->cols);
    for (int64_t i = 0; m->zeros && !v2 && i < m->n_scales; i++)
        if (m->zeros[i] == 0)
            return assay_fail(err, ASSAY_EUNSUPPORTED,
                              "%s has a zero point of 0 (row %lld, group %lld): gptq's version 1 stores it as -1, which readers take for 0 or %d; "
                              "gptq_v2 holds it",
                              module, (long long)(i / groups), (long long)(i % groups), 1 << bits);
    return ASSAY_OK;
}

assay_status assay_gptq_check(const char *module, const assay_matrix *m, assay_err *err) {
    return check(module, m, false, err);
}

assay_status assay_gptq_v2_check(const char *module, const assay_matrix *m, assay_err *err) {
    return check(module, m, true, err);
}

static assay_status put(assay_ckpt_writer *w, const char *module, const assay_matrix *m, bool v2, assay_err *err) {
    int bits = assay_precision_bits(m->precision);
    ASSAY_TRY(check(module, m, v2, err));
    ASSAY_TRY(assay_put_packed(w, module, ".qweight", &(assay_packing){ASSAY_PACKING_ACROSS, bits, m->rows, m->cols}, m->codes, err));
    ASSAY_TRY(put_zeros(w, module, m, bits, v2, err));
    ASSAY_TRY(assay_put_scales_across(w, module, m, err));
    return put_order(w, module, m, err);
}

assay_status assay_gptq_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_dtype model_dtype, assay_err *err) {
    (void)model_dtype;
    return put(w, module, m, false, err);
}

assay_status assay_gptq_v2_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_dtype model_dtype, assay_err *err) {
    (void)model_dtype;
    return put(w, module, m, true, err);
}
