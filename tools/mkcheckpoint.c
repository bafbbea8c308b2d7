/* mkcheckpoint.c: writes a synthetic checkpoint of a real model's shape, for speed and memory measurements
 * without a download.
 *
 *   mkcheckpoint [--shape llama-3.2-1b|llama-3.1-8b|tiny] [--seed N] [--layers N] [--outliers N]
 * [--shard-bytes N] OUT_DIR
 *
 * Weights are normal with standard deviation 1/sqrt(in), stored as bf16; in each matrix a few input channels
 * (the same ones in every matrix of equal width, as in trained models) are 8 times larger. A normal value is
 * one of 65,536 equally probable quantiles, so a 64-bit random number gives four elements and the disk is the
 * limit. The tokenizer is byte-level with no merges: text commands run, what the model says is noise.
 *
 * The safetensors header is computed before the data (all sizes are known), so memory is one buffer whatever
 * the size. This is a writer apart from the format room's, which makes it a second witness for the reader. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "num/convert.h"

typedef struct shape {
    const char *name;
    int hidden, intermediate, layers, heads, kv_heads, head_dim, vocab, context;
    bool tied;
    double rope_theta, rope_factor; /* factor 0: no scaling */
} shape;

/* Figures of the models' public config.json. Parameters: 1,235,814,400 and 8,030,261,248. */
static const shape shapes[] = {
    {"llama-3.2-1b", 2048, 8192, 16, 32, 8, 64, 128256, 131072, true, 500000, 32},
    {"llama-3.1-8b", 4096, 14336, 32, 32, 8, 128, 128256, 131072, false, 500000, 8},
    {"tiny", 128, 352, 2, 4, 2, 32, 320, 512, false, 10000, 0},
};

typedef struct options {
    shape s;
    uint64_t seed, shard_bytes;
    int outliers;
    const char *dir;
} options;

/* --- tensors --- */

typedef struct entry {
    char name[96];
    int64_t rows, cols; /* cols 0: a vector of ones (norm) */
    uint64_t begin;     /* in its shard's data */
    int shard;
} entry;

typedef struct plan {
    entry *e;
    size_t n, cap;
    uint64_t total;
    int n_shards;
} plan;

static uint64_t entry_bytes(const entry *e) {
    return (uint64_t)e->rows * (uint64_t)(e->cols ? e->cols : 1) * 2;
}

static assay_status add(plan *p, const char *name, int64_t rows, int64_t cols, assay_err *err) {
    ASSAY_TRY(assay_grow(&p->e, &p->cap, p->n + 1, sizeof *p->e, err));
    entry *e = &p->e[p->n++];
    *e = (entry){.rows = rows, .cols = cols};
    snprintf(e->name, sizeof e->name, "%s", name);
    return ASSAY_OK;
}

static assay_status add_layer(plan *p, const shape *s, int layer, assay_err *err) {
    const int q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    const struct {
        const char *name;
        int rows, cols;
    } parts[] = {
        {"input_layernorm", s->hidden, 0},
        {"mlp.down_proj", s->hidden, s->intermediate},
        {"mlp.gate_proj", s->intermediate, s->hidden},
        {"mlp.up_proj", s->intermediate, s->hidden},
        {"post_attention_layernorm", s->hidden, 0},
        {"self_attn.k_proj", kv, s->hidden},
        {"self_attn.o_proj", s->hidden, q},
        {"self_attn.q_proj", q, s->hidden},
        {"self_attn.v_proj", kv, s->hidden},
    };
    for (size_t i = 0; i < ASSAY_LEN(parts); i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, parts[i].name);
        ASSAY_TRY(add(p, name, parts[i].rows, parts[i].cols, err));
    }
    return ASSAY_OK;
}

static assay_status make_plan(plan *p, const options *o, assay_err *err) {
    const shape *s = &o->s;
    ASSAY_TRY(add(p, "model.embed_tokens.weight", s->vocab, s->hidden, err));
    for (int l = 0; l < s->layers; l++)
        ASSAY_TRY(add_layer(p, s, l, err));
    ASSAY_TRY(add(p, "model.norm.weight", s->hidden, 0, err));
    if (!s->tied) ASSAY_TRY(add(p, "lm_head.weight", s->vocab, s->hidden, err));
    uint64_t at = 0;
    p->n_shards = 1;
    for (size_t i = 0; i < p->n; i++) {
        entry *e = &p->e[i];
        if (at && at + entry_bytes(e) > o->shard_bytes) {
            at = 0;
            p->n_shards++;
        }
        e->shard = p->n_shards - 1;
        e->begin = at;
        at += entry_bytes(e);
        p->total += entry_bytes(e);
    }
    return ASSAY_OK;
}

/* --- values --- */

/* quantile[i]: standard normal quantile at (i + 1/2) / 65536, by Newton steps from the one before. */
static void make_quantiles(float *quantile) {
    double x = 0;
    for (int i = 32768; i < 65536; i++) {
        double p = (i + 0.5) / 65536;
        for (int k = 0; k < 6; k++) {
            double cdf = 0.5 * erfc(-x / sqrt(2.0)), pdf = exp(-0.5 * x * x) / sqrt(2 * M_PI);
            x += (p - cdf) / pdf;
        }
        quantile[i] = (float)x;
        quantile[65535 - i] = (float)-x;
    }
}

typedef struct source {
    const float *quantile;
    uint16_t *table;  /* quantiles as bf16, scaled for the tensor in work */
    uint16_t *row;    /* one row, padded to a multiple of 4 */
    int64_t *outlier; /* channels of the width in work */
    int n_outliers;
    uint64_t seed;
} source;

static void pick_outliers(source *s, int64_t cols) {
    assay_rng r;
    assay_rng_init(&r, s->seed ^ (uint64_t)cols * 0x9e3779b97f4a7c15u);
    for (int i = 0; i < s->n_outliers; i++)
        s->outlier[i] = (int64_t)assay_rng_below(&r, (uint64_t)cols);
}

static assay_status put_vector(assay_writer *w, source *s, int64_t n, assay_err *err) {
    for (int64_t i = 0; i < n; i++)
        s->row[i] = assay_f32_to_bf16(1.0f);
    return assay_writer_put(w, s->row, (size_t)n * 2, err);
}

static assay_status put_matrix(assay_writer *w, source *s, const entry *e, size_t index, assay_err *err) {
    float deviation = 1.0f / sqrtf((float)e->cols);
    for (int i = 0; i < 65536; i++)
        s->table[i] = assay_f32_to_bf16(s->quantile[i] * deviation);
    pick_outliers(s, e->cols);
    assay_rng r;
    assay_rng_init(&r, s->seed * 1000003 + index);
    for (int64_t row = 0; row < e->rows; row++) {
        for (int64_t c = 0; c < e->cols; c += 4) {
            uint64_t v = assay_rng_next(&r);
            s->row[c] = s->table[v & 0xffff];
            s->row[c + 1] = s->table[v >> 16 & 0xffff];
            s->row[c + 2] = s->table[v >> 32 & 0xffff];
            s->row[c + 3] = s->table[v >> 48];
        }
        for (int i = 0; i < s->n_outliers; i++) {
            uint16_t *x = &s->row[s->outlier[i]];
            *x = assay_f32_to_bf16(8 * assay_bf16_to_f32(*x));
        }
        ASSAY_TRY(assay_writer_put(w, s->row, (size_t)e->cols * 2, err));
    }
    return ASSAY_OK;
}

/* --- files --- */

static void shard_name(char *buf, size_t n, int shard, int n_shards) {
    if (n_shards == 1)
        snprintf(buf, n, "model.safetensors");
    else
        snprintf(buf, n, "model-%05d-of-%05d.safetensors", shard + 1, n_shards);
}

static void make_header(assay_str *h, const plan *p, int shard) {
    assay_str_put(h, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < p->n; i++) {
        const entry *e = &p->e[i];
        if (e->shard != shard) continue;
        assay_str_printf(h, ",\"%s\":{\"dtype\":\"BF16\",\"shape\":[%lld", e->name, (long long)e->rows);
        if (e->cols) assay_str_printf(h, ",%lld", (long long)e->cols);
        assay_str_printf(h, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)e->begin,
                         (unsigned long long)(e->begin + entry_bytes(e)));
    }
    assay_str_putc(h, '}');
    assay_str_fill(h, ' ', (8 - h->len % 8) % 8);
}

static assay_status write_shard(const options *o, const plan *p, source *src, int shard, assay_err *err) {
    char name[64];
    shard_name(name, sizeof name, shard, p->n_shards);
    assay_str h = {0};
    assay_writer *w = NULL;
    char *path = assay_path_join(o->dir, name);
    assay_status s = path ? ASSAY_OK : assay_nomem(err);
    make_header(&h, p, shard);
    if (s == ASSAY_OK) s = assay_str_status(&h, err);
    if (s == ASSAY_OK) s = assay_writer_open(&w, path, err);
    uint64_t n = h.len;
    if (s == ASSAY_OK) s = assay_writer_put(w, &n, 8, err);
    if (s == ASSAY_OK) s = assay_writer_put(w, h.s, h.len, err);
    for (size_t i = 0; i < p->n && s == ASSAY_OK; i++) {
        if (p->e[i].shard != shard) continue;
        s = p->e[i].cols ? put_matrix(w, src, &p->e[i], i, err) : put_vector(w, src, p->e[i].rows, err);
    }
    if (s == ASSAY_OK)
        s = assay_writer_commit(w, err);
    else
        assay_writer_abort(w);
    assay_free(path);
    assay_str_free(&h);
    return s;
}

static assay_status save_json(const char *dir, const char *name, json_t *j, assay_err *err) {
    char *path = assay_path_join(dir, name);
    assay_status s = path && j ? assay_json_save(path, j, 2, err) : assay_nomem(err);
    assay_free(path);
    json_decref(j);
    return s;
}

static assay_status write_index(const options *o, const plan *p, assay_err *err) {
    if (p->n_shards == 1) return ASSAY_OK;
    json_t *map = json_object();
    for (size_t i = 0; i < p->n; i++) {
        char name[64];
        shard_name(name, sizeof name, p->e[i].shard, p->n_shards);
        json_object_set_new(map, p->e[i].name, json_string(name));
    }
    json_t *j =
        json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)p->total, "weight_map", map);
    return save_json(o->dir, "model.safetensors.index.json", j, err);
}

enum { BOS = 256, EOS = 257 };

static assay_status write_config(const options *o, assay_err *err) {
    const shape *s = &o->s;
    json_t *scaling = s->rope_factor == 0
                          ? json_null()
                          : json_pack("{s:f, s:f, s:f, s:i, s:s}", "factor", s->rope_factor,
                                      "high_freq_factor", 4.0, "low_freq_factor", 1.0,
                                      "original_max_position_embeddings", 8192, "rope_type", "llama3");
    json_t *j = json_pack("{s:[s], s:b, s:i, s:i, s:i, s:s, s:i, s:i, s:i, s:b, s:s, s:i, s:i, s:i, s:f, "
                          "s:o, s:f, s:b, s:s, s:b, s:i}",
                          "architectures", "LlamaForCausalLM", "attention_bias", 0, "bos_token_id", BOS,
                          "eos_token_id", EOS, "head_dim", s->head_dim, "hidden_act", "silu", "hidden_size",
                          s->hidden, "intermediate_size", s->intermediate, "max_position_embeddings",
                          s->context, "mlp_bias", 0, "model_type", "llama", "num_attention_heads", s->heads,
                          "num_hidden_layers", s->layers, "num_key_value_heads", s->kv_heads, "rms_norm_eps",
                          1e-5, "rope_scaling", scaling, "rope_theta", s->rope_theta, "tie_word_embeddings",
                          s->tied, "torch_dtype", "bfloat16", "use_cache", 1, "vocab_size", s->vocab);
    ASSAY_TRY(save_json(o->dir, "config.json", j, err));
    j = json_pack("{s:i, s:i}", "bos_token_id", BOS, "eos_token_id", EOS);
    return save_json(o->dir, "generation_config.json", j, err);
}

/* --- tokenizer --- */

/* The byte-level alphabet (GPT-2): printable Latin-1 bytes stand for themselves, the others for U+0100
 * onwards, in order. */
static json_t *byte_vocabulary(void) {
    json_t *vocab = json_object();
    int next = 0x100;
    for (int b = 0; b < 256; b++) {
        bool plain = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        int c = plain ? b : next++;
        char utf8[3] = {(char)c, 0, 0};
        if (c >= 0x80) {
            utf8[0] = (char)(0xc0 | c >> 6);
            utf8[1] = (char)(0x80 | (c & 0x3f));
        }
        json_object_set_new(vocab, utf8, json_integer(b));
    }
    return vocab;
}

static json_t *special(int id, const char *text) {
    return json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", text, "single_word", 0,
                     "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
}

static assay_status write_tokenizer(const options *o, assay_err *err) {
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:[]}", "type", "BPE", "dropout",
                              "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                              "byte_fallback", 0, "ignore_merges", 0, "vocab", byte_vocabulary(), "merges");
    json_t *level = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                              "trim_offsets", 1, "use_regex", 1);
    json_t *j =
        json_pack("{s:s, s:n, s:n, s:[o, o], s:n, s:O, s:n, s:o, s:o}", "version", "1.0", "truncation",
                  "padding", "added_tokens", special(BOS, "<|begin|>"), special(EOS, "<|end|>"), "normalizer",
                  "pre_tokenizer", level, "post_processor", "decoder", level, "model", model);
    ASSAY_TRY(save_json(o->dir, "tokenizer.json", j, err));
    static const char chat[] =
        "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
    j = json_pack("{s:s, s:s, s:s, s:s, s:b, s:i}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token",
                  "<|begin|>", "eos_token", "<|end|>", "chat_template", chat, "clean_up_tokenization_spaces",
                  0, "model_max_length", o->s.context);
    return save_json(o->dir, "tokenizer_config.json", j, err);
}

/* --- the program --- */

static assay_status run(const options *o, uint64_t *bytes, assay_err *err) {
    plan p = {0};
    int64_t widest = o->s.intermediate > o->s.hidden ? o->s.intermediate : o->s.hidden;
    source src = {.n_outliers = o->outliers, .seed = o->seed};
    float *quantile = assay_mallocn(65536, sizeof *quantile);
    src.quantile = quantile;
    src.table = assay_mallocn(65536, sizeof *src.table);
    src.row = assay_mallocn((size_t)widest + 4, sizeof *src.row);
    src.outlier = assay_mallocn((size_t)o->outliers + 1, sizeof *src.outlier);
    assay_status s = ASSAY_OK;
    if (!quantile || !src.table || !src.row || !src.outlier) s = assay_nomem(err);
    if (s == ASSAY_OK) make_quantiles(quantile);
    if (s == ASSAY_OK) s = assay_mkdirs(o->dir, err);
    if (s == ASSAY_OK) s = make_plan(&p, o, err);
    if (s == ASSAY_OK) s = write_config(o, err);
    if (s == ASSAY_OK) s = write_tokenizer(o, err);
    for (int k = 0; k < p.n_shards && s == ASSAY_OK; k++)
        s = write_shard(o, &p, &src, k, err);
    if (s == ASSAY_OK) s = write_index(o, &p, err);
    *bytes = p.total;
    assay_free(p.e);
    assay_free(quantile);
    assay_free(src.table);
    assay_free(src.row);
    assay_free(src.outlier);
    return s;
}

static bool parse_number(uint64_t *out, const char *text) {
    char *end;
    *out = strtoull(text, &end, 10);
    return *text && !*end;
}

static bool parse(options *o, int argc, char **argv) {
    uint64_t layers = 0, outliers = 4;
    *o = (options){.s = shapes[0], .seed = 1, .shard_bytes = 5000000000u};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        bool ok = true;
        if (a[0] != '-') {
            o->dir = a;
            continue;
        }
        i++;
        if (!strcmp(a, "--seed"))
            ok = parse_number(&o->seed, v);
        else if (!strcmp(a, "--layers"))
            ok = parse_number(&layers, v) && layers > 0 && layers <= 1024;
        else if (!strcmp(a, "--outliers"))
            ok = parse_number(&outliers, v) && outliers <= 1024;
        else if (!strcmp(a, "--shard-bytes"))
            ok = parse_number(&o->shard_bytes, v);
        else if (!strcmp(a, "--shape")) {
            ok = false;
            for (size_t k = 0; k < ASSAY_LEN(shapes); k++)
                if (!strcmp(v, shapes[k].name)) {
                    o->s = shapes[k];
                    ok = true;
                }
        } else
            ok = false;
        if (!ok) return false;
    }
    if (layers) o->s.layers = (int)layers;
    o->outliers = (int)outliers;
    return o->dir != NULL;
}

int main(int argc, char **argv) {
    options o;
    if (!parse(&o, argc, argv)) {
        fputs("usage: mkcheckpoint [--shape llama-3.2-1b|llama-3.1-8b|tiny] [--seed N] [--layers N] "
              "[--outliers N] [--shard-bytes N] OUT_DIR\n",
              stderr);
        return 2;
    }
    assay_err err = {0};
    uint64_t bytes = 0;
    double t = assay_now();
    assay_status s = run(&o, &bytes, &err);
    if (s != ASSAY_OK) {
        fprintf(stderr, "mkcheckpoint: %s\n", err.message);
        return assay_status_exit_code(s);
    }
    t = assay_now() - t;
    char size[32], peak[32];
    fprintf(stderr, "%s: %s in %.1f s (%.0f MB/s), peak memory %s\n", o.dir,
            assay_format_bytes(size, sizeof size, (double)bytes), t, (double)bytes / t / 1e6,
            assay_format_bytes(peak, sizeof peak, (double)assay_peak_rss()));
    return 0;
}
