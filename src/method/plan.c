/* plan.c: everything that can be known before work begins: which tensor goes where, whether a convention
 * holds it, how large the output is, how much memory and time it takes. What fails here has touched nothing.
 */
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "method/choice.h"
#include "method/pipeline.h"

typedef struct planner {
    assay_steps *out;
    const assay_checkpoint *c;
    const assay_recipe *r;
} planner;

static assay_status add(assay_steps *p, const assay_step *s, assay_err *err) {
    ASSAY_TRY(assay_grow(&p->v, &p->cap, p->n + 1, sizeof *p->v, err));
    p->v[p->n++] = *s;
    return ASSAY_OK;
}

static bool is_plain_float(assay_dtype t) {
    return t == ASSAY_DTYPE_BF16 || t == ASSAY_DTYPE_F16 || t == ASSAY_DTYPE_F32;
}

/* A tensor that the architecture calls for. */
static assay_status add_spec(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec, assay_err *err) {
    planner *p = ctx;
    assay_step s = {.layer = spec->layer,
                    .role = role,
                    .expert = spec->expert,
                    .is_linear = spec->is_linear || spec->is_head || spec->is_router};
    if (spec->is_transposed)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "tensor '%s' lies transposed (GPT-2's Conv1D), which no convention of quantized checkpoints holds", spec->name);
    s.tensor = assay_checkpoint_find(p->c, spec->name);
    if (!s.tensor)
        return assay_fail(err, ASSAY_EINPUT, "the checkpoint has no tensor '%s', which config.json calls for",
                          spec->name);
    const assay_tensor *t = s.tensor;
    bool fits = spec->is_vector ? t->n_dims == 1 && t->dims[0] == spec->rows
                                : t->n_dims == 2 && t->dims[0] == spec->rows && t->dims[1] == spec->cols;
    if (!fits)
        return assay_fail(err, ASSAY_EINPUT,
                          "tensor '%s' has %d dimensions, the first %lld; config.json calls for %lld x %lld",
                          spec->name, t->n_dims, t->n_dims ? (long long)t->dims[0] : 0LL,
                          (long long)spec->rows, (long long)spec->cols);
    ASSAY_TRY(assay_recipe_choose(&s.choice, p->r, spec, err));
    if (s.choice.method == ASSAY_METHOD_NONE) return add(p->out, &s, err);
    if (t->order == ASSAY_ORDER_JOINED)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "tensor '%s' lies in two tensors of a GGUF file: convert the file to hf first", spec->name);
    if (!is_plain_float(t->dtype))
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "tensor '%s' is %s: only F32, F16 and BF16 weights are quantized", spec->name,
                          assay_dtype_name(t->dtype));
    const assay_method *m = assay_method_get(s.choice.method);
    const char *wrong = m->check_shape ? m->check_shape(&s.choice, spec->rows, spec->cols) : NULL;
    if (wrong)
        return assay_fail(err, ASSAY_EINPUT, "tensor '%s' [%lld, %lld], group size %lld: %s", spec->name,
                          (long long)spec->rows, (long long)spec->cols, (long long)s.choice.group_size,
                          wrong);
    return add(p->out, &s, err);
}

/* A tied head that the rotation unties: the embedding's elements under the head's own name, last of what the architecture knows. */
static assay_status add_untied_head(planner *p, const assay_config *config, assay_err *err) {
    const assay_tensor *embedding = NULL;
    for (size_t i = 0; i < p->out->n; i++)
        if (p->out->v[i].role == ASSAY_ROLE_EMBED) embedding = p->out->v[i].tensor;
    if (!embedding) return ASSAY_OK;
    assay_tensor_spec spec = {
        .name = "lm_head.weight", .layer = -1, .rows = config->vocab_size, .cols = config->hidden_size, .is_head = true};
    assay_step s = {.layer = -1, .role = ASSAY_ROLE_HEAD, .expert = -1, .is_linear = true};
    if (!(p->out->head = assay_malloc(sizeof *p->out->head))) return assay_nomem(err);
    *p->out->head = *embedding;
    p->out->head->name = "lm_head.weight";
    s.tensor = p->out->head;
    p->out->tied = false;
    ASSAY_TRY(assay_recipe_choose(&s.choice, p->r, &spec, err));
    return add(p->out, &s, err);
}

static int compare_steps(const void *a, const void *b) {
    const assay_step *const *x = a, *const *y = b;
    return strcmp((*x)->tensor->name, (*y)->tensor->name);
}

/* What the architecture does not know (buffers of older exporters, a tied head's copy) is copied too, in the
 * file's order. */
static assay_status add_rest(assay_steps *p, const assay_checkpoint *c, assay_err *err) {
    size_t known = p->n;
    const assay_step **sorted = assay_mallocn(known + 1, sizeof *sorted);
    if (!sorted) return assay_nomem(err);
    /* p->v may move while it grows: sort a copy of the known part. */
    assay_step *copy = assay_mallocn(known + 1, sizeof *copy);
    assay_status s = copy ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < known; i++) {
        copy[i] = p->v[i];
        sorted[i] = &copy[i];
    }
    if (s == ASSAY_OK) qsort(sorted, known, sizeof *sorted, compare_steps);
    for (size_t i = 0; s == ASSAY_OK && i < assay_checkpoint_n_tensors(c); i++) {
        assay_step one = {
            
            .tensor = assay_checkpoint_get(c, i), .layer = -1, .role = ASSAY_ROLE_COUNT, .expert = -1, .choice.method = ASSAY_METHOD_NONE};
        const assay_step *key = &one;
        if (!bsearch(&key, sorted, known, sizeof *sorted, compare_steps)) s = add(p, &one, err);
    }
    assay_free(sorted);
    assay_free(copy);
    return s;
}

/* --- conventions --- */

static assay_status cannot_mix(const assay_step *a, const assay_step *b, assay_err *err) {
    assay_str x = {0}, y = {0};
    assay_choice_describe(&x, &a->choice);
    assay_choice_describe(&y, &b->choice);
    assay_fail(
        err, ASSAY_EUNSUPPORTED,
        "no convention holds both %s ('%s') and %s ('%s') in one checkpoint: bitsandbytes and hqq have one choice for "
        "all, compressed-tensors holds integers, fp8, mxfp4 and nvfp4",
        assay_str_c(&x), a->tensor->name, assay_str_c(&y), b->tensor->name);
    assay_str_free(&x);
    assay_str_free(&y);
    return ASSAY_EUNSUPPORTED;
}

static assay_status choose_convention(assay_steps *p, assay_err *err) {
    const assay_step *first = NULL;
    p->convention = ASSAY_CONVENTION_HF;
    for (size_t i = 0; i < p->n; i++) {
        const assay_step *s = &p->v[i];
        if (s->choice.method == ASSAY_METHOD_NONE) continue;
        assay_convention c = assay_choice_convention(&s->choice);
        if (!first) {
            first = s;
            p->convention = c;
        }
        if (c != p->convention || ((c == ASSAY_CONVENTION_BNB || c == ASSAY_CONVENTION_HQQ) && !assay_choice_equal(&s->choice, &first->choice)))
            return cannot_mix(first, s, err);
        if (c == ASSAY_CONVENTION_BNB && !s->is_linear)
            return assay_fail(
                err, ASSAY_EUNSUPPORTED,
                "bitsandbytes checkpoints keep embeddings in 16 bits: '%s' cannot be %s; use rtn",
                s->tensor->name, assay_method_name(s->choice.method));
    }
    if (first) return ASSAY_OK;
    if (p->rotated) { /* a model of its own kind: the same function with other weights */
        p->convention = p->rotated_online ? ASSAY_CONVENTION_CT : ASSAY_CONVENTION_HF;
        return ASSAY_OK;
    }
    return assay_fail(err, ASSAY_EINPUT, "the recipe quantizes nothing: every tensor stays as it is");
}

assay_status assay_steps_plan(assay_steps *out, const assay_config *config, const assay_checkpoint *c,
                              const assay_recipe *r, assay_err *err) {
    *out = (assay_steps){.model_dtype = config->dtype, .tied = config->tie_word_embeddings};
    if (config->quantization_config)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "the checkpoint is quantized already (quantization_config in config.json): "
                          "quantize the original instead");
    planner p = {out, c, r};
    assay_status s;
    out->rotated = assay_recipe_rotation(r).on;
    out->rotated_online = assay_recipe_rotation(r).online;
    out->config = config;
    ASSAY_GO(assay_config_each_role(config, add_spec, &p, err));
    if (config->tie_word_embeddings && assay_recipe_rotation(r).on) ASSAY_GO(add_untied_head(&p, config, err));
    ASSAY_GO(add_rest(out, c, err));
    ASSAY_GO(choose_convention(out, err));
    return ASSAY_OK;
out:
    assay_steps_deinit(out);
    return s;
}

void assay_steps_deinit(assay_steps *p) {
    assay_free(p->v);
    assay_free(p->head);
    *p = (assay_steps){0};
}

/* --- estimates --- */

static double elements(const assay_step *s) {
    return (double)assay_tensor_n_elements(s->tensor);
}

/* Tensors that a quantized matrix becomes (format/bnb.c, ct.c, ct_float.c, fp8.c, hqq.c). */
static int n_parts(const assay_choice *c, assay_convention convention) {
    bool is_float = assay_precision_get_kind(c->precision) == ASSAY_KIND_FLOAT;
    int is_static = c->activations == ASSAY_ACTIVATIONS_STATIC;
    switch (convention) {
    case ASSAY_CONVENTION_HQQ: return 19;
    case ASSAY_CONVENTION_CT:
        if (is_float) return (c->precision == ASSAY_PRECISION_NVFP4 ? 3 : 2) + is_static;
        return 3 + c->asymmetric + is_static + (c->act_order == ASSAY_ACT_ORDER_GROUP);
    case ASSAY_CONVENTION_FP8: return 2 + is_static;
    case ASSAY_CONVENTION_GPTQ:
    case ASSAY_CONVENTION_GPTQ_V2: return 4;
    case ASSAY_CONVENTION_AWQ: return 3;
    default: break;
    }
    if (c->method == ASSAY_METHOD_LLM_INT8) return 3;
    return c->double_quant ? 6 : 4;
}

/* Codes as the file has them: compressed-tensors begins a row of packed integers at a word, hqq keeps 5 and 6 bits in bytes. */
static double stored_code_bytes(const assay_step *s, assay_convention convention, double code_bits) {
    int bits = assay_precision_bits(s->choice.precision);
    double rows = (double)s->tensor->dims[0];
    if (assay_precision_get_kind(s->choice.precision) != ASSAY_KIND_INT || bits == 8) return code_bits / 8;
    if (convention == ASSAY_CONVENTION_HQQ && (bits == 5 || bits == 6)) return rows * (double)s->tensor->dims[1];
    if (convention == ASSAY_CONVENTION_CT) return rows * 4 * (double)((s->tensor->dims[1] * bits + 31) / 32);
    return code_bits / 8;
}

#define HEADER_BYTES 85  /* of a tensor's entry in a safetensors header, besides its name */
#define META_BYTES   150 /* of what hqq says about a matrix in tensors */
#define STATE_BYTES  190 /* of the JSON that bitsandbytes keeps for a 4-bit matrix */

/* In a GGUF file: vectors are float32, an entry has no JSON, tensors begin at multiples of 32. */
static double gguf_bytes(const assay_step *s, const assay_steps *p) {
    const assay_tensor *t = s->tensor;
    double entry = 42 + 0.6 * (double)strlen(t->name) + 15;
    if (s->choice.method != ASSAY_METHOD_NONE) return entry + assay_choice_bits(&s->choice, t->dims[0], t->dims[1], p->model_dtype, NULL, NULL) / 8;
    return entry + (t->n_dims == 1 ? 4.0 * (double)t->dims[0] : (double)t->n_bytes);
}

double assay_step_bytes(const assay_step *s, const assay_steps *p) {
    if (p->convention == ASSAY_CONVENTION_GGUF) return gguf_bytes(s, p);
    const assay_choice *c = &s->choice;
    double entry = HEADER_BYTES + (double)strlen(s->tensor->name), scales, codes;
    if (c->method == ASSAY_METHOD_NONE) return (double)s->tensor->n_bytes + entry;
    assay_choice_bits(c, s->tensor->dims[0], s->tensor->dims[1], p->model_dtype, &codes, &scales);
    entry *= n_parts(c, p->convention);
    double zeros = c->asymmetric ? 0 : scales / 8 / 2 * assay_precision_bits(c->precision) / 8; /* gptq, awq: beside each float16 scale, always */
    double extra = p->convention == ASSAY_CONVENTION_GPTQ || p->convention == ASSAY_CONVENTION_GPTQ_V2 ? zeros + (c->act_order == ASSAY_ACT_ORDER_GROUP ? 0 : 4 * (double)s->tensor->dims[1])
                   : p->convention == ASSAY_CONVENTION_AWQ                                             ? zeros
                   : p->convention == ASSAY_CONVENTION_BNB   ? (c->method == ASSAY_METHOD_LLM_INT8 ? 1 : STATE_BYTES)
                   : p->convention == ASSAY_CONVENTION_HQQ ? META_BYTES
                                                           : 16;
    return stored_code_bytes(s, p->convention, codes) + scales / 8 + extra + entry;
}

/* Encodes and measures a sample of rows: seconds per element of this kind of choice. */
static assay_status time_choice(double *per_element, const assay_step *s, const assay_steps *p, int n_threads,
                                assay_err *err) {
    const int64_t sample = 1 << 20;
    assay_tensor t = *s->tensor;
    t.dims[0] = ASSAY_MAX(1, ASSAY_MIN(t.dims[0], sample / t.dims[1]));
    assay_item item = {.weight = &t, .choice = &s->choice, .role = s->role, .model_dtype = p->model_dtype}, *items = &item;
    assay_layer layer = {.index = -1, .items = &item, .n_items = 1, .n_threads = n_threads};
    assay_loss_sums sums;
    assay_status st = ASSAY_OK;
    if (p->has_importance && (assay_method_get(s->choice.method)->wants & ASSAY_WANT_IMPORTANCE)) {
        if (!(item.importance = assay_mallocn((size_t)t.dims[1], sizeof *item.importance))) return assay_nomem(err);
        for (int64_t i = 0; i < t.dims[1]; i++) item.importance[i] = 1;
    }
    for (int k = 0; k < 2 && st == ASSAY_OK; k++) { /* the first run pays for page faults */
        assay_matrix_deinit(&item.out);
        double begin = assay_now();
        st = assay_method_get(s->choice.method)->quantize(&layer, &items, 1, err);
        if (st == ASSAY_OK) st = assay_loss_measure(&sums, &item, n_threads, err);
        *per_element = (assay_now() - begin) / (double)(t.dims[0] * t.dims[1]);
    }
    assay_matrix_deinit(&item.out);
    assay_free(item.importance);
    return st;
}

#define DISK_BYTES_PER_SECOND                                                                                \
    1.0e9 /* hashing, packing and writing: a round figure, for copied tensors and the output */

/* Kinds of choice that were timed, and their cost per element. */
typedef struct timings {
    const assay_choice *choice[16];
    double cost[16];
    size_t n;
} timings;

static assay_status cost_of(double *seconds, timings *t, const assay_step *s, const assay_steps *p,
                            int n_threads, assay_err *err) {
    size_t k = 0;
    while (k < t->n && !assay_choice_equal(t->choice[k], &s->choice))
        k++;
    if (k == ASSAY_LEN(t->cost)) k--; /* a recipe of more kinds than that: the last one's cost will do */
    if (k == t->n) {
        ASSAY_TRY(time_choice(&t->cost[k], s, p, n_threads, err));
        t->choice[t->n++] = &s->choice;
    }
    *seconds = t->cost[k] * elements(s);
    return ASSAY_OK;
}

assay_status assay_steps_estimate(assay_quantize_result *out, const assay_steps *p, int n_threads, bool timed,
                                  assay_err *err) {
    double bytes = p->head_bytes, memory = 0, seconds = 0, bits = 0, all = 0, quantized = 0, quantized_bits = 0;
    timings times = {0};
    out->input_bytes = 0;
    out->n_matrices = 0;
    out->research = false;
    for (size_t i = 0; i < p->n; i++) {
        const assay_step *s = &p->v[i];
        double size = assay_step_bytes(s, p), n = elements(s), b = (double)s->tensor->n_bytes * 8, work = 0;
        out->input_bytes += s->tensor->n_bytes;
        if (s->choice.method != ASSAY_METHOD_NONE) {
            b = assay_choice_bits(&s->choice, s->tensor->dims[0], s->tensor->dims[1], p->model_dtype, NULL,
                                  NULL);
            /* Codes one per byte, scales in float32, and the packed copy on its way to disk. */
            memory = ASSAY_MAX(
                memory,
                n + 4 * n / (double)(s->choice.group_size ? s->choice.group_size : s->tensor->dims[1]) +
                    size);
            out->n_matrices++;
            out->research = out->research || assay_precision_bits(s->choice.precision) < 4;
            quantized += n;
            quantized_bits += b;
            if (timed) ASSAY_TRY(cost_of(&work, &times, s, p, n_threads, err));
        }
        bytes += size;
        all += n;
        bits += b;
        seconds += work + ((double)s->tensor->n_bytes + size) / DISK_BYTES_PER_SECOND;
    }
    out->n_tensors = p->n;
    out->convention = p->convention;
    out->output_bytes = (uint64_t)bytes;
    out->memory_bytes =
        (uint64_t)(memory + (double)n_threads * 4 * (double)sizeof(float) * (double)assay_block_rows(1, 1));
    out->seconds = timed ? seconds : 0;
    out->bits_per_weight = all > 0 ? bits / all : 0;
    out->bits_per_quantized = quantized > 0 ? quantized_bits / quantized : 0;
    return ASSAY_OK;
}
