/* gguf_put.c: what becomes of a Hugging Face tensor in a GGUF file (the inverse of gguf_read.c and gguf_matrix.c): its name, its place
 * in a stack of experts, the order of its rows, the type that llama.cpp wants.
 *
 *   vectors                float32
 *   queries and keys       rows of a head in pairs, where the architecture has that
 *   norms                  one added, where the architecture has that
 *   routers, positions     float32
 *   kv_b_proj              two tensors, the keys' transposed by head
 *   integers               Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0, when one of them holds the same values (assay_block_from_int)
 *   MXFP4, NVFP4           ggml's blocks of them */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format/checkpoint.h"
#include "format/convention.h"
#include "format/gguf_write.h"
#include "format/passage.h"
#include "format/writer_plan.h"
#include "num/convert.h"
#include "precision/block.h"

/* --- forms --- */

/* `count` matrices of [rows][cols] turned to [cols][rows], from elements at `from` with `stride` elements from matrix to matrix. */
static void turn_elements(uint8_t *to, const uint8_t *from, int64_t count, int64_t stride, int64_t rows, int64_t cols, size_t size) {
    for (int64_t k = 0; k < count; k++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < cols; c++)
                memcpy(to + (size_t)((k * cols + c) * rows + r) * size, from + (size_t)(k * stride + r * cols + c) * size, size);
}

static assay_status turn(assay_passage *p, bool planning, assay_err *err) {
    size_t size = assay_dtype_size(p->from);
    int64_t rows = p->t.dims[0], cols = p->t.dims[1];
    if (p->t.block) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: a matrix of blocks cannot be transposed", p->t.name);
    if (!planning) {
        ASSAY_TRY(assay_passage_check(p, err));
        void *to = assay_mallocn((size_t)(rows * cols), size);
        if (!to) return assay_nomem(err);
        turn_elements(to, p->data, 1, 0, rows, cols, size);
        assay_passage_take(p, to);
    }
    p->t.dims[0] = cols;
    p->t.dims[1] = rows;
    return ASSAY_OK;
}

/* --- DeepSeek's kv_b_proj --- */

static int64_t config_int(const assay_gguf_output *o, const char *key) {
    return json_integer_value(json_object_get(o->config, key));
}

/* One of the two, [heads, a, b], from a buffer. */
static assay_status add_half(assay_ckpt_writer *w, const assay_passage *p, const char *end, const char *to, int64_t a, int64_t b,
                             const uint8_t *buffer, assay_err *err) {
    char name[192];
    snprintf(name, sizeof name, "%s.%s", p->t.name, end);
    assay_tensor half = {.name = name, .dtype = p->t.dtype, .n_dims = 3, .dims = {w->gguf->n_heads, a, b}, .data = buffer};
    return assay_spool_add(w, &half, to, -1, err);
}

/* [heads * (key + value), latent] -> [heads, latent, key] and [heads, value, latent]. */
static assay_status add_joined(assay_ckpt_writer *w, assay_passage *p, const char *to, assay_err *err) {
    const assay_tensor *t = &p->t;
    int64_t heads = w->gguf->n_heads, key = config_int(w->gguf, "qk_nope_head_dim"), value = config_int(w->gguf, "v_head_dim");
    int64_t latent = t->dims[1];
    size_t size = assay_dtype_size(t->dtype);
    bool planning = assay_ckpt_writer_is_planning(w);
    char values[160];
    uint8_t *buffer = NULL;
    if (t->block) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: GGUF has its keys transposed, so that it cannot be quantized", t->name);
    if (t->n_dims != 2 || heads < 1 || key < 1 || value < 1 || t->dims[0] != heads * (key + value))
        return assay_fail(err, ASSAY_EINPUT, "%s: %lld rows are not those of %lld heads", t->name, (long long)t->dims[0], (long long)heads);
    const char *at = strstr(to, "attn_k_b");
    snprintf(values, sizeof values, "%.*sattn_v_b%s", (int)(at - to), to, at + 8);
    if (!planning) {
        ASSAY_TRY(assay_passage_check(p, err));
        buffer = assay_malloc((size_t)(heads * ASSAY_MAX(key, value) * latent) * size);
        if (!buffer) return assay_nomem(err);
        turn_elements(buffer, p->data, heads, (key + value) * latent, key, latent, size);
    }
    assay_status s = add_half(w, p, "keys", to, latent, key, buffer, err);
    for (int64_t h = 0; h < heads && !planning; h++)
        memcpy(buffer + (size_t)(h * value * latent) * size, p->data + (size_t)((h * (key + value) + key) * latent) * size,
               (size_t)(value * latent) * size);
    if (s == ASSAY_OK) s = add_half(w, p, "values", values, value, latent, buffer, err);
    assay_free(buffer);
    return s;
}

/* --- adding --- */

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Buffers that old checkpoints carry along, and a head that is the embedding. */
static bool is_left_out(const assay_gguf_output *o, const char *name) {
    static const char *const BUFFERS[] = {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"};
    for (size_t i = 0; i < ASSAY_LEN(BUFFERS); i++)
        if (ends_with(name, BUFFERS[i])) return true;
    return strcmp(name, "lm_head.weight") == 0 && json_is_true(json_object_get(o->config, "tie_word_embeddings"));
}

static assay_status change(assay_passage *p, const assay_gguf_output *o, const assay_gguf_name *name, bool planning, assay_err *err) {
    bool vector = p->t.n_dims <= 1;
    switch (name->form) {
    case ASSAY_GGUF_QUERY: ASSAY_TRY(assay_passage_reorder(p, ASSAY_ORDER_PAIRS, o->n_heads, 2, err)); break;
    case ASSAY_GGUF_KEY: ASSAY_TRY(assay_passage_reorder(p, ASSAY_ORDER_PAIRS, o->n_kv_heads, 2, err)); break;
    case ASSAY_GGUF_QKV: ASSAY_TRY(assay_passage_reorder(p, ASSAY_ORDER_PARTS, o->n_heads, 3, err)); break;
    case ASSAY_GGUF_TURNED:
        if (!vector) ASSAY_TRY(turn(p, planning, err));
        break;
    case ASSAY_GGUF_NORM:
        if (vector) return assay_passage_widen(p, 1, err);
        break;
    case ASSAY_GGUF_ROW:
    case ASSAY_GGUF_WIDE: return assay_passage_widen(p, 0, err);
    default: break;
    }
    return vector && p->t.dtype != ASSAY_DTYPE_F32 ? assay_passage_widen(p, 0, err) : ASSAY_OK;
}

/* A tensor of a plain order goes where GGUF has it. */
static assay_status add(assay_ckpt_writer *w, assay_passage *p, assay_err *err) {
    const assay_gguf_output *o = w->gguf;
    const assay_tensor *t = &p->t;
    assay_gguf_name name;
    uint32_t type;
    if (is_left_out(o, t->name)) return ASSAY_OK;
    if (!assay_gguf_name_find(&name, o->arch, t->name))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: llama.cpp has no tensor for it in a model of architecture %s", t->name, o->arch->name);
    if (t->n_dims < 1 || t->n_dims > 2 || t->dims[0] < 1)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: %d dimensions are neither a vector nor a matrix", t->name, t->n_dims);
    if (name.form == ASSAY_GGUF_KEYS && ends_with(t->name, ".weight")) return add_joined(w, p, name.text, err);
    ASSAY_TRY(change(p, o, &name, assay_ckpt_writer_is_planning(w), err));
    if (!assay_gguf_type_of(&type, t->dtype, t->block))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: GGUF has no tensors of type %s", t->name, assay_dtype_name(t->dtype));
    return assay_passage_write(w, p, name.text, name.expert, err);
}

assay_status assay_gguf_add(assay_ckpt_writer *w, const assay_tensor *t, assay_err *err) {
    assay_passage p;
    assay_passage_init(&p, t);
    p.is_checked = true;
    assay_status s = add(w, &p, err);
    assay_passage_deinit(&p);
    return s;
}

/* --- copying --- */

/* A tensor that lies transposed or in two, whole, in the order of its name's owner. */
static assay_status assemble(assay_passage *p, const assay_checkpoint *c, bool planning, assay_err *err) {
    assay_matrix m = {0};
    ASSAY_TRY((planning ? assay_checkpoint_outline(&m, c, NULL, p->t.name, ASSAY_DTYPE_F32, err)
                        : assay_checkpoint_matrix(&m, c, NULL, p->t.name, 0, 0, ASSAY_DTYPE_F32, err)));
    p->t.order = ASSAY_ORDER_PLAIN;
    p->t.block = 0;
    p->t.dtype = p->from = m.precision == ASSAY_PRECISION_F32   ? ASSAY_DTYPE_F32
                           : m.precision == ASSAY_PRECISION_F16 ? ASSAY_DTYPE_F16
                                                                : ASSAY_DTYPE_BF16;
    if (!planning) {
        assay_passage_take(p, (void *)(uintptr_t)m.data);
        m.data = NULL;
        m.owns_data = false;
    }
    assay_matrix_deinit(&m);
    return ASSAY_OK;
}

assay_status assay_gguf_copy(assay_ckpt_writer *w, const assay_checkpoint *c, const assay_tensor *t, assay_err *err) {
    assay_passage p;
    assay_status s;
    bool planning = assay_ckpt_writer_is_planning(w);
    assay_passage_init(&p, t);
    p.c = c;
    if (t->block && !w->gguf) {
        s = assay_fail(err, ASSAY_EUNSUPPORTED, "tensor %s: blocks of %s cannot be copied out of a GGUF file as they are", t->name,
                       assay_precision_name((assay_precision)t->block));
        goto out;
    }
    if (t->order == ASSAY_ORDER_JOINED || t->order == ASSAY_ORDER_TURNED)
        s = assemble(&p, c, planning, err);
    else
        s = assay_passage_flatten(&p, err);
    if (s == ASSAY_OK) s = w->gguf ? add(w, &p, err) : assay_passage_write(w, &p, NULL, -1, err);
    if (s == ASSAY_OK) s = assay_ckpt_writer_record(w, t->name, err);
out:
    if (s != ASSAY_OK) assay_ckpt_writer_drop(w);
    assay_passage_deinit(&p);
    return s;
}

/* --- quantized matrices --- */

static bool is_float4(const assay_matrix *m) {
    return m->precision == ASSAY_PRECISION_MXFP4 || m->precision == ASSAY_PRECISION_NVFP4;
}

/* MXFP4 and NVFP4: scales of a block, and weights of a scale. */
static int scales_of(const assay_matrix *m) {
    return m->precision == ASSAY_PRECISION_NVFP4 ? 4 : 1;
}
static int group_of(const assay_matrix *m) {
    return m->precision == ASSAY_PRECISION_NVFP4 ? 16 : 32;
}

assay_status assay_gguf_check(const char *module, const assay_matrix *m, assay_err *err) {
    int bits = assay_precision_bits(m->precision);
    if (is_float4(m)) {
        int span = scales_of(m) * group_of(m);
        if (m->group_size == group_of(m) && m->cols % span == 0 && m->row_block <= 1) return ASSAY_OK;
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: GGUF's %s has groups of %d in rows of a multiple of %d columns", module,
                          assay_precision_name(m->precision), group_of(m), span);
    }
    switch (assay_precision_get_kind(m->precision)) {
    case ASSAY_KIND_DENSE:
    case ASSAY_KIND_BLOCK: return ASSAY_OK;
    case ASSAY_KIND_INT: break;
    default: return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: GGUF has no %s", module, assay_precision_name(m->precision));
    }
    if (m->act_bits == 8) return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has 8-bit activations: GGUF does not say so", module);
    if (bits != 4 && bits != 5 && bits != 8)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: GGUF has no blocks of %d-bit integers with a scale of their own", module, bits);
    if (m->real_zeros || m->g_idx)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has %s: GGUF's blocks have neither", module,
                          m->g_idx ? "an order of columns" : "real zero points");
    if (m->group_size != 32 || m->cols % 32)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has a group size of %lld: GGUF's blocks of %d-bit integers have 32", module,
                          (long long)m->group_size, bits);
    return ASSAY_OK;
}

/* The block type that holds an integer matrix as it is. */
static assay_status from_int(assay_matrix *out, const char *module, const assay_matrix *m, assay_err *err) {
    static const struct {
        int bits;
        assay_precision precision;
    } CHOICES[] = {{4, ASSAY_PRECISION_Q4_0}, {4, ASSAY_PRECISION_Q4_1}, {5, ASSAY_PRECISION_Q5_0}, {5, ASSAY_PRECISION_Q5_1}, {8, ASSAY_PRECISION_Q8_0}};
    char why[160] = "no type of blocks has codes of that width";
    for (size_t i = 0; i < ASSAY_LEN(CHOICES); i++)
        if (CHOICES[i].bits == assay_precision_bits(m->precision) && assay_block_from_int(out, m, CHOICES[i].precision, why)) return ASSAY_OK;
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: GGUF cannot hold this %s matrix as it is: %s", module, assay_precision_name(m->precision), why);
}

/* One block; false when a scale is no value of its type. */
static bool pack_block(uint8_t *block, const uint8_t *codes, const float *scales, int n_scales, int size, assay_dtype type) {
    uint8_t *q = block + n_scales;
    float back[4];
    assay_from_f32(block, type, scales, (size_t)n_scales);
    assay_to_f32(back, block, type, (size_t)n_scales);
    for (int g = 0; g < n_scales; g++, codes += size, q += size / 2) {
        if (back[g] != scales[g] || (type == ASSAY_DTYPE_F8_E4M3 && block[g] > 0x7e)) return false;
        for (int j = 0; j < size / 2; j++) q[j] = (uint8_t)(codes[j] | codes[j + size / 2] << 4);
    }
    return true;
}

/* A float whose reciprocal is the global scale, if there is one among the nearest: what reads it takes the reciprocal again. */
static float reciprocal(float global) {
    float near = 1 / global, tried[] = {near, nextafterf(near, 0), nextafterf(near, INFINITY)};
    for (size_t i = 0; i < ASSAY_LEN(tried); i++)
        if (1 / tried[i] == global) return tried[i];
    return near;
}

static assay_status put_floats(assay_ckpt_writer *w, const assay_tensor *base, const char *module, const assay_matrix *m, assay_err *err) {
    bool nv = m->precision == ASSAY_PRECISION_NVFP4;
    int n_scales = scales_of(m), size = group_of(m);
    int64_t span = n_scales * size, n_blocks = m->rows * (m->cols / span);
    size_t bytes = (size_t)(n_scales + span / 2);
    char scale_name[256];
    bool planning = assay_ckpt_writer_is_planning(w);
    uint8_t *data = planning ? NULL : assay_malloc((size_t)n_blocks * bytes);
    if (!planning && !data) return assay_nomem(err);
    assay_status s = ASSAY_OK;
    for (int64_t b = 0; !planning && s == ASSAY_OK && b < n_blocks; b++)
        if (!pack_block(data + (size_t)b * bytes, m->codes + b * span, m->scales + b * n_scales, n_scales, size, nv ? ASSAY_DTYPE_F8_E4M3 : ASSAY_DTYPE_F8_E8M0))
            s = assay_fail(err, ASSAY_EUNSUPPORTED, "%s: a scale in row %lld is none of GGUF's", module, (long long)(b * span / m->cols));
    assay_tensor t = *base;
    t.data = data;
    if (s == ASSAY_OK) s = assay_gguf_add(w, &t, err);
    assay_free(data);
    if (s != ASSAY_OK || !nv) return s;
    float scale = reciprocal(m->global_scale > 0 ? m->global_scale : 1);
    snprintf(scale_name, sizeof scale_name, "%s.weight_global_scale", module);
    assay_tensor global = {.name = scale_name, .dtype = ASSAY_DTYPE_F32, .n_dims = 1, .dims = {1}, .data = &scale};
    return assay_gguf_add(w, &global, err);
}

assay_status assay_gguf_put(assay_ckpt_writer *w, const char *module, const assay_matrix *m, assay_dtype model_dtype, assay_err *err) {
    char name[256];
    assay_matrix blocks = {0};
    (void)model_dtype;
    if (!w->gguf) return assay_fail(err, ASSAY_EUSAGE, "%s: the writer does not write a GGUF file", module);
    snprintf(name, sizeof name, "%s.weight", module);
    assay_tensor t = {.name = name, .dtype = ASSAY_DTYPE_U8, .block = (int)m->precision, .n_dims = 2, .dims = {m->rows, m->cols}, .data = m->data};
    ASSAY_TRY(assay_gguf_check(module, m, err));
    if (is_float4(m)) return put_floats(w, &t, module, m, err);
    if (assay_precision_get_kind(m->precision) == ASSAY_KIND_BLOCK) return assay_gguf_add(w, &t, err);
    ASSAY_TRY(from_int(&blocks, module, m, err));
    t.block = (int)blocks.precision;
    t.data = blocks.data;
    assay_status s = assay_gguf_add(w, &t, err);
    assay_matrix_deinit(&blocks);
    return s;
}
