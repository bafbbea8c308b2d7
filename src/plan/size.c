/* size.c: what weights take as they are stored, from shapes alone.
 *
 * One matrix of rows x cols:
 *   DENSE     rows * cols * bytes
 *   INT       codes rows * cols * bits / 8; per row ceil(cols / group) scales of scale_dtype; asymmetric: as
 * many zero points of the code's width CODEBOOK  codes rows * cols * bits / 8; ceil(rows * cols / block)
 * float32 scales over the flattened matrix; doubly quantized: that many bytes and one float32 per 256 of them
 * (Dettmers et al. 2023, QLoRA, section 3) Metadata per matrix: INT the two int64 of its shape
 * (compressed-tensors' weight_shape); CODEBOOK its table of 16 floats, doubly quantized also the map of 256
 * floats and the offset (bitsandbytes' quant_map, nested_quant_map, nested_offset). Not counted: the
 * safetensors header and bitsandbytes' quant_state JSON, some hundred bytes per matrix. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "plan/plan.h"
#include "precision/block.h"

const char *assay_part_name(assay_part p) {
    static const char *const names[] = {"decoder matrices", "embedding", "head", "norms and biases"};
    return (unsigned)p < ASSAY_PART_COUNT ? names[p] : "?";
}

static double meta_of(const assay_storage *s) {
    switch (assay_precision_get_kind(s->precision)) {
    case ASSAY_KIND_INT:
        return 2 * 8;
    case ASSAY_KIND_CODEBOOK:
        return 16 * 4 + (s->double_quant ? 256 * 4 + 4 : 0);
    case ASSAY_KIND_DENSE:
    case ASSAY_KIND_FLOAT:
    case ASSAY_KIND_BLOCK:
        break;
    }
    return 0;
}

/* A group or block size after its letter: digits only, 1 to 2^20. */
static bool parse_size(int64_t *out, const char **p) {
    if (**p < '1' || **p > '9') return false;
    char *end;
    long v = strtol(*p, &end, 10);
    if (v > 1 << 20) return false;
    *out = v;
    *p = end;
    return true;
}

assay_status assay_storage_parse(assay_storage *out, const char *name, assay_err *err) {
    assay_storage s = {.scale_dtype = ASSAY_DTYPE_F16, .act_bits = 16};
    if (strcmp(name, "llm_int8") == 0) {
        s.precision = ASSAY_PRECISION_INT8;
        s.scale_dtype = ASSAY_DTYPE_F32;
        s.act_bits = 8;
        s.meta_bytes = 1; /* bitsandbytes' weight_format */
        *out = s;
        return ASSAY_OK;
    }
    /* the longest precision name that starts the word: "int4" of "int4g128a" */
    size_t best = 0;
    for (int i = 0; i < ASSAY_PRECISION_COUNT; i++) {
        const char *n = assay_precision_name((assay_precision)i);
        size_t len = strlen(n);
        if (len > best && strncmp(n, name, len) == 0) {
            best = len;
            s.precision = (assay_precision)i;
        }
    }
    const char *p = name + best;
    bool ok = best > 0;
    assay_precision_kind kind = ok ? assay_precision_get_kind(s.precision) : ASSAY_KIND_DENSE;
    if (ok && kind == ASSAY_KIND_INT) {
        if (*p == 'g') p++, ok = parse_size(&s.group_size, &p);
        if (ok && *p == 'a') p++, s.asymmetric = true;
    } else if (ok && kind == ASSAY_KIND_CODEBOOK) {
        s.group_size = 64;
        s.scale_dtype = ASSAY_DTYPE_F32;
        if (*p == 'b') p++, ok = parse_size(&s.group_size, &p);
        if (ok && strncmp(p, "dq", 2) == 0) p += 2, s.double_quant = true;
    }
    if (!ok || *p)
        return assay_fail(err, ASSAY_EINPUT,
                          "unknown storage '%s'; examples are bf16, int8, int4g128, int4g128a (asymmetric), "
                          "nf4, nf4dq (double "
                          "quantization), fp4b128 (block), llm_int8",
                          name);
    s.meta_bytes = meta_of(&s);
    *out = s;
    return ASSAY_OK;
}

char *assay_storage_name(char *buf, size_t n, const assay_storage *s) {
    char size[24] = "";
    const char *base = assay_precision_name(s->precision);
    assay_precision_kind kind = assay_precision_get_kind(s->precision);
    if (kind == ASSAY_KIND_INT && s->act_bits == 8 && s->precision == ASSAY_PRECISION_INT8 &&
        !s->group_size) {
        snprintf(buf, n, "llm_int8");
        return buf;
    }
    if (kind == ASSAY_KIND_INT && s->group_size)
        snprintf(size, sizeof size, "g%lld", (long long)s->group_size);
    if (kind == ASSAY_KIND_CODEBOOK && s->group_size && s->group_size != 64)
        snprintf(size, sizeof size, "b%lld", (long long)s->group_size);
    const char *tail = kind == ASSAY_KIND_INT                           ? (s->asymmetric ? "a" : "")
                       : kind == ASSAY_KIND_CODEBOOK && s->double_quant ? "dq"
                                                                        : "";
    snprintf(buf, n, "%s%s%s", base, size, tail);
    return buf;
}

static double ceil_div(double n, double d) {
    return ceil(n / d);
}

/* Scales of small floats: E8M0 per 32 columns, E4M3 per 16 and a float per matrix, or FP8's layouts. */
static double float_scales(const assay_storage *s, double rows, double cols) {
    if (s->precision == ASSAY_PRECISION_MXFP4) return rows * ceil_div(cols, 32);
    if (s->precision == ASSAY_PRECISION_NVFP4) return rows * ceil_div(cols, 16) + 4;
    double blocks = s->row_block > 1 ? ceil_div(rows, fmin(rows, (double)s->row_block)) : rows;
    double groups = s->group_size ? ceil_div(cols, (double)s->group_size) : 1;
    return blocks * groups * (double)assay_dtype_size(s->scale_dtype == ASSAY_DTYPE_F64 ? ASSAY_DTYPE_F32 : s->scale_dtype);
}

void assay_storage_bytes(double *codes, double *scales, double *zeros, const assay_storage *s, int64_t rows,
                         int64_t cols) {
    double n = (double)rows * (double)cols, sc = 0, zp = 0;
    int bits = assay_precision_bits(s->precision);
    switch (assay_precision_get_kind(s->precision)) {
    case ASSAY_KIND_DENSE:
        break;
    case ASSAY_KIND_BLOCK: { /* whole blocks; what is not codes counts as scales */
        const assay_block_info *b = assay_block_get(s->precision);
        sc = (double)rows * ceil_div((double)cols, b->elements) * b->bytes - ceil(n * bits / 8.0);
        break;
    }
    case ASSAY_KIND_INT: {
        double groups = (double)rows * (s->group_size ? ceil((double)cols / (double)s->group_size) : 1.0);
        assay_dtype t = s->scale_dtype == ASSAY_DTYPE_F64 ? ASSAY_DTYPE_F16 : s->scale_dtype;
        sc = groups * (double)assay_dtype_size(t);
        if (s->asymmetric) zp = ceil(groups * bits / 8.0);
        if (s->real_zeros) zp = sc;
        break;
    }
    case ASSAY_KIND_FLOAT:
        sc = float_scales(s, (double)rows, (double)cols);
        break;
    case ASSAY_KIND_CODEBOOK: {
        double blocks = ceil(n / (double)(s->group_size ? s->group_size : 64));
        sc = s->double_quant ? blocks + 4.0 * ceil(blocks / 256.0) : 4.0 * blocks;
        break;
    }
    }
    if (codes) *codes = ceil(n * bits / 8.0);
    if (scales) *scales = sc;
    if (zeros) *zeros = zp;
}

assay_status assay_storage_uniform(void *ctx, assay_storage *out, const assay_tensor_spec *spec,
                                   assay_err *err) {
    (void)err;
    if (spec->is_linear) *out = *(const assay_storage *)ctx;
    return ASSAY_OK;
}

/* --- sums over a model --- */

typedef struct size_ctx {
    assay_sizes *out;
    const assay_config *c;
    assay_storage_fn fn;
    void *ctx;
    double head_bytes, head_macs; /* the embedding's, until a head of its own is met */
    int head_act;
    double by_bits[65]; /* parameters of decoder matrices per code width */
} size_ctx;

static assay_storage dense_storage(assay_dtype t) {
    assay_storage s = {.act_bits = 16};
    s.precision = t == ASSAY_DTYPE_F32   ? ASSAY_PRECISION_F32
                  : t == ASSAY_DTYPE_F16 ? ASSAY_PRECISION_F16
                                         : ASSAY_PRECISION_BF16;
    return s;
}

static bool same_storage(const assay_storage *a, const assay_storage *b) {
    return a->precision == b->precision && a->group_size == b->group_size && a->asymmetric == b->asymmetric &&
           a->double_quant == b->double_quant && a->scale_dtype == b->scale_dtype &&
           a->act_bits == b->act_bits;
}

static assay_status find_line(assay_size_line **out, assay_sizes *z, assay_part part, const assay_storage *s,
                              assay_err *err) {
    for (int i = 0; i < z->n_lines; i++) {
        if (z->lines[i].part == part && same_storage(&z->lines[i].storage, s)) {
            *out = &z->lines[i];
            return ASSAY_OK;
        }
    }
    if (z->n_lines == ASSAY_SIZE_LINES)
        return assay_fail(err, ASSAY_EINPUT, "the recipe stores tensors in more than %d ways",
                          ASSAY_SIZE_LINES);
    *out = &z->lines[z->n_lines++];
    **out = (assay_size_line){.part = part, .storage = *s};
    return ASSAY_OK;
}

static assay_part part_of(const assay_tensor_spec *t) {
    if (t->is_embedding) return ASSAY_PART_EMBEDDING;
    if (t->is_head) return ASSAY_PART_HEAD;
    return t->is_linear || t->is_router ? ASSAY_PART_LINEAR : ASSAY_PART_VECTORS;
}

static assay_status add_tensor(void *vctx, const assay_tensor_spec *t, assay_err *err) {
    size_ctx *x = vctx;
    assay_storage s = dense_storage(x->c->dtype);
    if (x->fn) ASSAY_TRY(x->fn(x->ctx, &s, t, err));
    if (!s.act_bits) s.act_bits = 16;
    if (s.group_size < 0)
        return assay_fail(err, ASSAY_EINPUT, "group size of tensor '%s' is negative", t->name);
    assay_part part = part_of(t);
    assay_size_line *line = NULL;
    ASSAY_TRY(find_line(&line, x->out, part, &s, err));
    double codes, scales, zeros, n = (double)t->rows * (double)t->cols;
    assay_storage_bytes(&codes, &scales, &zeros, &s, t->rows, t->cols);
    line->tensors++;
    line->params += t->rows * t->cols;
    line->codes += codes;
    line->scales += scales;
    line->zeros += zeros;
    line->meta += s.meta_bytes;
    double all = codes + scales + zeros;
    if (part == ASSAY_PART_EMBEDDING || part == ASSAY_PART_HEAD) {
        x->head_bytes =
            all; /* a tied head reads the embedding; one of its own comes after it and replaces it */
        x->head_macs = n;
        x->head_act = s.act_bits;
        return ASSAY_OK;
    }
    double met = t->expert >= 0 ? assay_config_active_share(x->c) : 1; /* of a mixture's experts a token meets a few */
    x->out->read_per_token += all * met;
    if (part == ASSAY_PART_LINEAR) {
        x->out->macs_per_token += n * met;
        if (s.act_bits == 8) x->out->macs_act8 += n * met;
        x->by_bits[assay_precision_bits(s.precision)] += n;
    }
    return ASSAY_OK;
}

/* 70553706496 -> 70e9: what the model's name would say. */
static double two_digits(double n) {
    if (n < 1) return 0;
    double unit = pow(10.0, floor(log10(n)) - 1.0);
    return floor(n / unit) * unit;
}

static void add_totals(assay_sizes *z, const double *by_bits) {
    double linear = 0, linear_params = 0, most = 0;
    for (int i = 0; i < z->n_lines; i++) {
        const assay_size_line *l = &z->lines[i];
        z->params += l->params;
        z->codes += l->codes;
        z->scales += l->scales;
        z->zeros += l->zeros;
        z->meta += l->meta;
        if (l->part == ASSAY_PART_LINEAR) {
            linear += l->codes + l->scales + l->zeros + l->meta;
            linear_params += (double)l->params;
        }
    }
    z->total = z->codes + z->scales + z->zeros + z->meta;
    for (int b = 1; b <= 64; b++)
        if (by_bits[b] > most) most = by_bits[b], z->raw_bits = b;
    z->nominal_params = two_digits((double)z->params);
    z->raw_nominal = z->nominal_params * z->raw_bits / 8.0;
    z->raw_all = (double)z->params * z->raw_bits / 8.0;
    if (z->params) {
        z->raw_bpw = z->codes * 8.0 / (double)z->params;
        z->effective_bpw = z->total * 8.0 / (double)z->params;
    }
    if (linear_params > 0) z->linear_bpw = linear * 8.0 / linear_params;
}

assay_status assay_sizes_compute(assay_sizes *out, const assay_config *c, assay_storage_fn fn, void *ctx,
                                 assay_err *err) {
    memset(out, 0, sizeof *out);
    size_ctx x = {.out = out, .c = c, .fn = fn, .ctx = ctx};
    ASSAY_TRY(assay_config_each_tensor(c, add_tensor, &x, err));
    out->read_per_token += x.head_bytes;
    out->macs_per_token += x.head_macs;
    if (x.head_act == 8) out->macs_act8 += x.head_macs;
    add_totals(out, x.by_bits);
    return ASSAY_OK;
}
