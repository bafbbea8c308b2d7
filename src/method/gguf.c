/* gguf.c: ggml's blocks as llama.cpp's quantizer makes them, into a GGUF file: a mix ("q4_k_m": gguf_mix.def says which tensor gets which
 * type), or one type for all (pure), or a type for what an override matches. Embedding and head are quantized too; vectors, routers
 * and what lies transposed in GGUF (DeepSeek's kv_b_proj) stay as they are.
 *
 * Importance: with calibration, or from a file (llama.cpp's imatrix), each column's squared error weighs by the mean square of its
 * input. As llama.cpp computes it on the unquantized model, the inputs are the original ones: a run of this method calibrates as with
 * --original-inputs. Embedding and head have none, as there. Rows whose length a type's blocks do not divide get another type, or
 * float16 (assay_mix_fallback). */
#include "method/gguf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "format/gguf.h"
#include "method/methods.h"
#include "num/convert.h"
#include "precision/block.h"

/* --- the choice --- */

static void complete(assay_choice *c, unsigned set) {
    if (!(set & ASSAY_OPT_PRECISION)) {
        c->mix = ASSAY_MIX_Q4_K_M;
        c->precision = ASSAY_PRECISION_Q4_K;
    }
    if (c->pure) c->mix = ASSAY_MIX_PURE;
    if (c->mix != ASSAY_MIX_PURE) c->precision = assay_mix_type(c->mix);
    c->pure = c->mix == ASSAY_MIX_PURE;
}

static const char *check(const assay_choice *c) {
    if (assay_block_get(c->precision) || assay_precision_get_kind(c->precision) == ASSAY_KIND_DENSE) return NULL;
    return "precision must be a mix or a type of ggml's (q4_k_m, q8_0, iq4_xs ...), f16, bf16 or f32";
}

/* --- encoding --- */

static assay_status encode_dense(assay_matrix *out, const assay_item *item, const float *w, int64_t rows, int64_t cols, assay_err *err) {
    assay_precision p = item->choice->precision;
    assay_dtype type = p == ASSAY_PRECISION_F16 ? ASSAY_DTYPE_F16 : p == ASSAY_PRECISION_BF16 ? ASSAY_DTYPE_BF16 : ASSAY_DTYPE_F32;
    size_t n = (size_t)(rows * cols);
    void *data = assay_mallocn(n, assay_dtype_size(type));
    if (!data) return assay_nomem(err);
    *out = (assay_matrix){.precision = p, .rows = rows, .cols = cols, .data = data, .owns_data = true};
    assay_from_f32(data, type, w, n);
    if (assay_find_nonfinite(data, type, n) < 0) return ASSAY_OK;
    return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor '%s': a weight is too large for %s", item->weight->name, assay_precision_name(p));
}

static assay_status encode(assay_matrix *out, const assay_item *item, const float *w, int64_t rows, int64_t cols, assay_err *err) {
    if (!assay_block_get(item->choice->precision)) return encode_dense(out, item, w, rows, cols, err);
    assay_err why = {0};
    assay_status s = assay_encode_block(out, w, rows, cols, item->choice->precision, item->importance, &why);
    return s == ASSAY_OK ? s : assay_fail(err, s, "tensor '%s': %s", item->weight->name, why.message);
}

static assay_status quantize(assay_layer *layer, assay_item *const *items, size_t n_items, assay_err *err) {
    for (size_t i = 0; i < n_items; i++) {
        ASSAY_TRY(assay_item_begin(layer, items, i, n_items, err));
        ASSAY_TRY(assay_encode_blocks(items[i], 1, encode, layer->n_threads, err));
        if (items[i]->importance) snprintf(items[i]->chosen, sizeof items[i]->chosen, "\"importance\": true");
        assay_item_set_activations(items[i]);
    }
    return ASSAY_OK;
}

const assay_method assay_method_gguf = {
    .options = ASSAY_OPT_PRECISION | ASSAY_OPT_PURE,
    .wants = ASSAY_WANT_IMPORTANCE,
    .is_gguf = true,
    .complete = complete,
    .check = check,
    .quantize = quantize,
};

/* --- which type for which tensor --- */

static assay_precision type_now(const assay_step *s) {
    if (s->choice.method != ASSAY_METHOD_NONE) return s->choice.precision;
    return assay_precision_of_dtype(s->tensor->dtype);
}

/* One entry per matrix that GGUF may have in blocks; the others are taken back from the recipe. */
static assay_status list_tensors(assay_mix_tensor *t, size_t *n, assay_steps *p, const json_t *config, assay_mix *mix, assay_err *err) {
    assay_gguf_place place;
    *n = 0;
    for (size_t i = 0; i < p->n; i++) {
        assay_step *s = &p->v[i];
        if (s->tensor->n_dims != 2 || s->role == ASSAY_ROLE_COUNT) continue;
        bool found = assay_gguf_place_of(&place, config, s->tensor->name);
        if (!found && s->choice.method != ASSAY_METHOD_NONE)
            return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor '%s' has no place in a GGUF file of this architecture", s->tensor->name);
        if (!found || place.is_plain) {
            s->choice = (assay_choice){.method = ASSAY_METHOD_NONE};
            continue;
        }
        assay_mix_tensor *e = &t[(*n)++];
        *e = (assay_mix_tensor){.cols = s->tensor->dims[1], .given = s->choice.mix == ASSAY_MIX_PURE, .type = type_now(s), .index = i};
        snprintf(e->name, sizeof e->name, "%s", place.name);
        if (s->choice.mix != ASSAY_MIX_PURE) *mix = s->choice.mix;
    }
    return ASSAY_OK;
}

static assay_status cannot_do_without(const assay_step *s, assay_precision type, assay_err *err) {
    return assay_fail(err, ASSAY_EUSAGE,
                      "%s for '%s' needs an importance matrix: give calibration data, or one from a file (--imatrix), or take a type that "
                      "does without (q2_k, q3_k_m, iq4_xs ...)",
                      assay_precision_name(type), s->tensor->name);
}

/* Has the matrix weights of its columns? A file is looked into here, so that one of another model is refused before anything begins. */
static assay_status find_weights(bool *out, const assay_steps *p, const assay_step *s, const json_t *config, const assay_imatrix *im, assay_err *err) {
    assay_gguf_place place;
    int64_t cols = s->tensor->dims[1];
    *out = p->has_importance && s->layer >= 0;
    if (!im || !assay_gguf_place_of(&place, config, s->tensor->name)) return ASSAY_OK;
    float *scratch = assay_mallocn((size_t)cols, sizeof *scratch);
    if (!scratch) return assay_nomem(err);
    assay_err why = {0};
    assay_status st = assay_imatrix_weights(scratch, im, place.name, cols, place.expert, p->config->n_experts, &why);
    assay_free(scratch);
    *out = st == ASSAY_OK;
    return st == ASSAY_OK || st == ASSAY_ENOTFOUND ? ASSAY_OK : assay_fail(err, st, "%s", why.message);
}

static assay_status take_types(assay_steps *p, const assay_mix_tensor *t, size_t n, const json_t *config, const assay_imatrix *im, assay_err *err) {
    for (size_t i = 0; i < n; i++) {
        assay_step *s = &p->v[t[i].index];
        const assay_block_info *b = assay_block_get(t[i].type);
        bool quantized = s->choice.method != ASSAY_METHOD_NONE, has_weights;
        if (i && !strcmp(t[i].name, t[i - 1].name)) {
            const assay_step *before = &p->v[t[i - 1].index];
            if (t[i].given != t[i - 1].given || t[i].type != t[i - 1].type || quantized != (before->choice.method != ASSAY_METHOD_NONE))
                return assay_fail(err, ASSAY_EUNSUPPORTED, "'%s' and '%s' are one tensor in GGUF (%s): give all experts of a layer one type",
                                  before->tensor->name, s->tensor->name, t[i].name);
        }
        if (!quantized) continue;
        bool needs = t[i].needs_importance || (b && b->needs_importance);
        ASSAY_TRY(find_weights(&has_weights, p, s, config, im, err));
        if (needs && !has_weights) return cannot_do_without(s, t[i].type, err);
        s->choice.precision = t[i].type;
        s->choice.mix = ASSAY_MIX_PURE;
        s->choice.pure = true;
    }
    return ASSAY_OK;
}

assay_status assay_gguf_plan(assay_steps *p, const assay_config *c, const json_t *config, const assay_imatrix *im, assay_err *err) {
    assay_mix_model model = {.arch = assay_gguf_arch_name(config),
                             .n_layers = c->n_layers,
                             .n_heads = c->n_heads,
                             .n_kv_heads = c->n_kv_heads,
                             .n_experts = c->n_experts,
                             .has_importance = p->has_importance};
    if (!model.arch) return assay_fail(err, ASSAY_EUNSUPPORTED, "architecture '%s' has no GGUF form here", c->architecture);
    for (int64_t l = 0; c->arch->experts == ASSAY_EXPERTS_SPARSE && l < c->n_layers; l++)
        if (c->n_experts && !(c->layer[l] & ASSAY_LAYER_EXPERTS))
            return assay_fail(err, ASSAY_EUNSUPPORTED, "layer %lld of %s has no experts, others have: GGUF cannot say so", (long long)l,
                              c->architecture);
    if (p->rotated_online)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "no runtime of GGUF files rotates activations: rotate without rotate_online");
    size_t n = 0;
    p->mix = ASSAY_MIX_PURE;
    assay_mix_tensor *t = assay_calloc(p->n + 1, sizeof *t);
    assay_status s = t ? list_tensors(t, &n, p, config, &p->mix, err) : assay_nomem(err);
    if (s == ASSAY_OK) assay_mix_assign(t, n, p->mix, &model);
    if (s == ASSAY_OK) s = take_types(p, t, n, config, im, err);
    assay_free(t);
    return s;
}
