/* gguf_config.c: a config.json from GGUF's metadata, through the KEY rows of gguf_config.def and what a table cannot say:
 *
 *   rotary embeddings   rope.freq_base, rope.scaling.*, rope.dimension_count, and the tensors rope_freqs (Llama 3's factors, from which
 *                       its four parameters are found again) and rope_factors_long, _short (longrope)
 *   from tensors        the vocabulary's size, tied embeddings (no output.weight), biases, the type of plain matrices
 *   from the tokenizer  ids of the first and the last token
 *   by model size       Gemma's query_pre_attn_scalar, which llama.cpp tells by the number of layers
 *
 * Keys that nothing here knows are left alone: they may be any program's. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "format/gguf.h"
#include "format/gguf_impl.h"
#include "num/convert.h"

/* --- values of the architecture --- */

const assay_gguf_value *assay_gguf_arch_value(const assay_gguf *g, const assay_gguf_arch *arch, const char *key) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", arch->name, key);
    return assay_gguf_find(g, name);
}

bool assay_gguf_arch_int(int64_t *out, const assay_gguf *g, const assay_gguf_arch *arch, const char *key) {
    return assay_gguf_int(out, g, assay_gguf_arch_value(g, arch, key), 0);
}

bool assay_gguf_arch_float(double *out, const assay_gguf *g, const assay_gguf_arch *arch, const char *key) {
    return assay_gguf_float(out, g, assay_gguf_arch_value(g, arch, key), 0);
}

/* --- the object --- */

typedef struct maker {
    const assay_gguf_set *set;
    const assay_gguf *g; /* the part with the metadata */
    const assay_gguf_arch *arch;
    json_t *j;
    assay_err *err;
} maker;

static assay_status set(const maker *m, const char *key, json_t *value) {
    return json_object_set_new(m->j, key, value) == 0 ? ASSAY_OK : assay_nomem(m->err);
}

/* Floats are float32 in the file: the shortest decimal that is the same float32 is what was meant (1e-5, not 9.99999975e-06). */
static double meant(double v) {
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        double d;
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (sscanf(text, "%lf", &d) == 1 && (float)d == (float)v) return d;
    }
    return v;
}

/* A number; of one per layer (an array) all must be the same. */
static assay_status put_key(const maker *m, const assay_gguf_key *k) {
    const assay_gguf_value *v = assay_gguf_arch_value(m->g, m->arch, k->gguf);
    int64_t i, next;
    double f;
    if (!v) return ASSAY_OK;
    if (k->type == ASSAY_GGUF_F32) {
        if (!assay_gguf_float(&f, m->g, v, 0) || !isfinite(f))
            return assay_fail(m->err, ASSAY_EINPUT, "%s: key %s is no number", m->set->paths[0], v->key);
        return set(m, k->hf, json_real(meant(f)));
    }
    if (!assay_gguf_int(&i, m->g, v, 0)) return assay_fail(m->err, ASSAY_EINPUT, "%s: key %s is no integer", m->set->paths[0], v->key);
    for (uint64_t n = 1; n < v->n; n++)
        if (!assay_gguf_int(&next, m->g, v, n) || next != i)
            return assay_fail(m->err, ASSAY_EUNSUPPORTED, "%s: key %s differs from layer to layer", m->set->paths[0], v->key);
    return set(m, k->hf, k->type == ASSAY_GGUF_BOOL ? json_boolean(i != 0) : json_integer(i));
}

static const assay_gguf_tensor *find_tensor(const maker *m, const char *name, const assay_gguf **part) {
    for (size_t p = 0; p < m->set->n; p++)
        for (size_t i = 0; i < assay_gguf_n_tensors(m->set->parts[p]); i++) {
            const assay_gguf_tensor *t = assay_gguf_tensor_at(m->set->parts[p], i);
            if (strcmp(t->name, name) != 0) continue;
            *part = m->set->parts[p];
            return t;
        }
    return NULL;
}

static bool has_tensor(const maker *m, const char *name) {
    const assay_gguf *part;
    return find_tensor(m, name, &part) != NULL;
}

/* A number of the architecture; *found is false when the key is not there. */
static assay_status get_float(bool *found, double *v, const maker *m, const char *key) {
    *found = assay_gguf_arch_float(v, m->g, m->arch, key);
    if (!*found || isfinite(*v)) return ASSAY_OK;
    return assay_fail(m->err, ASSAY_EINPUT, "%s: key %s.%s is no number", m->set->paths[0], m->arch->name, key);
}

static double real_of(const maker *m, const char *key, double otherwise) {
    const json_t *v = json_object_get(m->j, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

static int64_t head_dim_of(const maker *m) {
    int64_t width = 0, heads = 0, size;
    if (assay_gguf_arch_int(&size, m->g, m->arch, "attention.key_length_mla") ||
        assay_gguf_arch_int(&size, m->g, m->arch, "attention.key_length"))
        return size;
    assay_gguf_arch_int(&width, m->g, m->arch, "embedding_length");
    assay_gguf_arch_int(&heads, m->g, m->arch, "attention.head_count");
    return heads > 0 ? width / heads : 0;
}

/* --- rotary embeddings --- */

/* In float32, as the original's tensors are. */
void assay_gguf_llama3_factors(float *out, int64_t n, double theta, double factor, double low, double high, double context) {
    const float two_pi = 6.2831853071795862f;
    for (int64_t i = 0; i < n; i++) {
        float frequency = 1.0f / powf((float)theta, (float)(2 * i) / (float)(2 * n)), wave = two_pi / frequency;
        float smooth = ((float)context / wave - (float)low) / (float)(high - low);
        if ((double)wave < context / high)
            out[i] = 1;
        else if ((double)wave > context / low)
            out[i] = (float)factor;
        else
            out[i] = 1.0f / ((1.0f - smooth) / (float)factor + smooth);
    }
}

/* A vector of factors as floats; *out is NULL when there is no such tensor. */
static assay_status read_factors(json_t **out, float v[512], int64_t *n, const maker *m, const char *name) {
    const assay_gguf *part;
    size_t size;
    const assay_gguf_tensor *t = find_tensor(m, name, &part);
    *out = NULL;
    if (!t) return ASSAY_OK;
    const uint8_t *data = assay_gguf_data(part, &size);
    if (t->n_dims != 1 || t->dims[0] > 512 || t->ggml_type != 0 || (size_t)t->dims[0] * 4 > size - t->offset)
        return assay_fail(m->err, ASSAY_EINPUT, "%s: tensor %s is no vector of factors", m->set->paths[0], name);
    *n = t->dims[0];
    memcpy(v, data + t->offset, (size_t)*n * sizeof *v);
    *out = json_array();
    for (int64_t i = 0; i < *n; i++)
        if (!isfinite(v[i]) || json_array_append_new(*out, json_real(meant((double)v[i]))) != 0) {
            json_decref(*out);
            *out = NULL;
            return assay_fail(m->err, ASSAY_EINPUT, "%s: tensor %s holds what is no factor", m->set->paths[0], name);
        }
    return ASSAY_OK;
}

/* The parameters of Llama 3 whose factors these are, if they are: the factor is the largest one; the others are Llama 3.1's. */
static json_t *find_llama3(const maker *m, const float *v, int64_t n) {
    static const double CONTEXTS[] = {8192, 4096, 2048, 16384, 32768};
    float tried[512];
    double theta = real_of(m, "rope_theta", 10000), factor = 1;
    for (int64_t i = 0; i < n; i++) factor = fmax(factor, (double)v[i]);
    for (size_t c = 0; c < ASSAY_LEN(CONTEXTS); c++) {
        bool same = true;
        assay_gguf_llama3_factors(tried, n, theta, factor, 1, 4, CONTEXTS[c]);
        for (int64_t i = 0; same && i < n; i++) same = fabs((double)tried[i] - (double)v[i]) <= 1e-4 * (double)v[i];
        if (same)
            return json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", meant(factor), "low_freq_factor", 1.0,
                             "high_freq_factor", 4.0, "original_max_position_embeddings", (json_int_t)CONTEXTS[c]);
    }
    return NULL;
}

/* Factors of every frequency, whatever made them, are longrope's without its scaling of what is turned. */
static json_t *as_factors(const json_t *list) {
    return json_pack("{s:s, s:O, s:O, s:f}", "rope_type", "longrope", "long_factor", list, "short_factor", list, "attention_factor", 1.0);
}

static assay_status put_factors(const maker *m, json_t **scaling) {
    float v[512];
    int64_t n;
    json_t *list, *brief = NULL;
    double attention;
    bool found;
    ASSAY_TRY(read_factors(&list, v, &n, m, "rope_freqs.weight"));
    if (list) {
        *scaling = find_llama3(m, v, n);
        if (!*scaling) *scaling = as_factors(list);
        json_decref(list);
        return *scaling ? ASSAY_OK : assay_nomem(m->err);
    }
    ASSAY_TRY(read_factors(&list, v, &n, m, "rope_factors_long.weight"));
    if (!list) return ASSAY_OK;
    assay_status s = read_factors(&brief, v, &n, m, "rope_factors_short.weight");
    if (s == ASSAY_OK) *scaling = json_pack("{s:s, s:O, s:O}", "rope_type", "longrope", "long_factor", list, "short_factor", brief ? brief : list);
    json_decref(list);
    json_decref(brief);
    ASSAY_TRY(s);
    if (!*scaling) return assay_nomem(m->err);
    ASSAY_TRY(get_float(&found, &attention, m, "rope.scaling.attn_factor"));
    if (found) json_object_set_new(*scaling, "attention_factor", json_real(meant(attention)));
    return ASSAY_OK;
}

/* linear and yarn, by their keys. */
static assay_status put_scaling(const maker *m, json_t **scaling) {
    static const char *const PAIRS[][2] = {{"rope.scaling.yarn_ext_factor", "extrapolation_factor"},
                                           {"rope.scaling.yarn_attn_factor", "attention_factor"},
                                           {"rope.scaling.yarn_beta_fast", "beta_fast"},
                                           {"rope.scaling.yarn_beta_slow", "beta_slow"}};
    const char *type = "none";
    size_t n = 4;
    int64_t context;
    double v, factor = 1;
    bool found;
    assay_gguf_string(&type, &n, m->g, assay_gguf_arch_value(m->g, m->arch, "rope.scaling.type"), 0);
    ASSAY_TRY(get_float(&found, &factor, m, "rope.scaling.factor"));
    if (!found) {
        ASSAY_TRY(get_float(&found, &factor, m, "rope.scale_linear")); /* files of 2023 */
        type = found ? "linear" : type;
        n = found ? 6 : n;
    }
    bool linear = n == 6 && memcmp(type, "linear", 6) == 0, yarn = n == 4 && memcmp(type, "yarn", 4) == 0;
    if (!linear && !yarn) return ASSAY_OK;
    *scaling = json_pack("{s:s, s:f}", "rope_type", linear ? "linear" : "yarn", "factor", meant(factor));
    if (!*scaling) return assay_nomem(m->err);
    for (size_t i = 0; yarn && i < ASSAY_LEN(PAIRS); i++) {
        ASSAY_TRY(get_float(&found, &v, m, PAIRS[i][0]));
        if (found) json_object_set_new(*scaling, PAIRS[i][1], json_real(meant(v)));
    }
    if (assay_gguf_arch_int(&context, m->g, m->arch, "rope.scaling.original_context_length"))
        json_object_set_new(*scaling, "original_max_position_embeddings", json_integer(context));
    ASSAY_TRY(get_float(&found, &v, m, "rope.scaling.yarn_log_multiplier"));
    if (m->arch->family == ASSAY_GGUF_DEEPSEEK && found) {
        json_object_set_new(*scaling, "mscale", json_real(meant(v * 10))); /* the file has a tenth */
        json_object_set_new(*scaling, "mscale_all_dim", json_real(meant(v * 10)));
    }
    return ASSAY_OK;
}

static assay_status put_rope(const maker *m) {
    json_t *scaling = NULL;
    int64_t turned, size = head_dim_of(m), context;
    double v;
    bool found;
    unsigned family = m->arch->family;
    if (family == ASSAY_GGUF_GPT2) return ASSAY_OK;
    const char *theta = family == ASSAY_GGUF_NEOX ? "rotary_emb_base" : "rope_theta";
    ASSAY_TRY(get_float(&found, &v, m, "rope.freq_base"));
    if (found)
        ASSAY_TRY(set(m, theta, json_real(meant(v))));
    else if (!json_object_get(m->j, theta))
        ASSAY_TRY(set(m, theta, json_real(10000.0)));
    ASSAY_TRY(get_float(&found, &v, m, "rope.freq_base_swa"));
    if (family == ASSAY_GGUF_GEMMA && found) ASSAY_TRY(set(m, "rope_local_base_freq", json_real(meant(v))));
    if (family != ASSAY_GGUF_DEEPSEEK && size > 0 && assay_gguf_arch_int(&turned, m->g, m->arch, "rope.dimension_count") && turned != size)
        ASSAY_TRY(set(m, family == ASSAY_GGUF_NEOX ? "rotary_pct" : "partial_rotary_factor", json_real((double)turned / (double)size)));
    assay_status s = put_factors(m, &scaling);
    if (s == ASSAY_OK && !scaling) s = put_scaling(m, &scaling);
    if (s != ASSAY_OK) json_decref(scaling);
    if (s != ASSAY_OK || !scaling) return s;
    json_object_set(scaling, "type", json_object_get(scaling, "rope_type"));
    if (family == ASSAY_GGUF_PHI3 && assay_gguf_arch_int(&context, m->g, m->arch, "rope.scaling.original_context_length"))
        ASSAY_TRY(set(m, "original_max_position_embeddings", json_integer(context)));
    return set(m, "rope_scaling", scaling);
}

/* --- what single families have --- */

static assay_status put_window(const maker *m) {
    int64_t window = 0;
    unsigned family = m->arch->family;
    bool found = assay_gguf_arch_int(&window, m->g, m->arch, "attention.sliding_window");
    const assay_gguf_value *pattern = assay_gguf_arch_value(m->g, m->arch, "attention.sliding_window_pattern");
    if (family == ASSAY_GGUF_PHI3 && found && window == 0) return set(m, "sliding_window", json_null());
    if (!pattern || pattern->type != ASSAY_GGUF_ARRAY || pattern->n > 1024) return ASSAY_OK;
    json_t *types = json_array();
    for (uint64_t i = 0; i < pattern->n; i++) {
        int64_t slides;
        if (!assay_gguf_int(&slides, m->g, pattern, i)) slides = 0;
        json_array_append_new(types, json_string(slides ? "sliding_attention" : "full_attention"));
    }
    return set(m, "layer_types", types);
}

static assay_status put_deepseek(const maker *m) {
    int64_t key, turned, heads, gate;
    if (!assay_gguf_arch_int(&heads, m->g, m->arch, "attention.head_count") ||
        !assay_gguf_arch_int(&turned, m->g, m->arch, "rope.dimension_count"))
        return assay_fail(m->err, ASSAY_EINPUT, "%s: head_count or rope.dimension_count is missing", m->set->paths[0]);
    key = head_dim_of(m);
    if (turned < 1 || key < turned)
        return assay_fail(m->err, ASSAY_EINPUT, "%s: of keys of %lld elements %lld cannot be turned", m->set->paths[0], (long long)key,
                          (long long)turned);
    ASSAY_TRY(set(m, "num_key_value_heads", json_integer(heads)));
    ASSAY_TRY(set(m, "qk_nope_head_dim", json_integer(key - turned)));
    if (!json_object_get(m->j, "v_head_dim") && assay_gguf_arch_int(&key, m->g, m->arch, "attention.value_length"))
        ASSAY_TRY(set(m, "v_head_dim", json_integer(key))); /* files from before 2025 keep kv_b_proj whole */
    if (!json_object_get(m->j, "q_lora_rank")) ASSAY_TRY(set(m, "q_lora_rank", json_null()));
    if (assay_gguf_arch_int(&gate, m->g, m->arch, "expert_gating_func") && gate == 2)
        ASSAY_TRY(set(m, "scoring_func", json_string("sigmoid")));
    return ASSAY_OK;
}

/* Scores are divided by the square root of the head's size, in the 27B models by that of hidden size / heads. */
static assay_status put_gemma(const maker *m) {
    int64_t layers = 0, width = 0, heads = 1;
    assay_gguf_arch_int(&layers, m->g, m->arch, "block_count");
    assay_gguf_arch_int(&width, m->g, m->arch, "embedding_length");
    assay_gguf_arch_int(&heads, m->g, m->arch, "attention.head_count");
    bool largest = layers == (strcmp(m->arch->name, "gemma2") == 0 ? 46 : 62);
    return set(m, "query_pre_attn_scalar", json_integer(largest && heads > 0 ? width / heads : head_dim_of(m)));
}

/* --- what tensors and tokenizer say --- */

static const char *dtype_name(const maker *m) {
    bool f16 = false, bf16 = false;
    for (size_t p = 0; p < m->set->n; p++)
        for (size_t i = 0; i < assay_gguf_n_tensors(m->set->parts[p]); i++) {
            const assay_gguf_tensor *t = assay_gguf_tensor_at(m->set->parts[p], i);
            assay_gguf_storage s;
            if (t->n_dims < 2 || !assay_gguf_storage_of(&s, t->ggml_type)) continue;
            if (s.block) return "float32";
            f16 |= s.dtype == ASSAY_DTYPE_F16;
            bf16 |= s.dtype == ASSAY_DTYPE_BF16;
        }
    return bf16 ? "bfloat16" : f16 ? "float16" : "float32";
}

static bool has_blocks(const maker *m) {
    for (size_t p = 0; p < m->set->n; p++)
        for (size_t i = 0; i < assay_gguf_n_tensors(m->set->parts[p]); i++) {
            assay_gguf_storage s;
            if (assay_gguf_storage_of(&s, assay_gguf_tensor_at(m->set->parts[p], i)->ggml_type) && s.block) return true;
        }
    return false;
}

static assay_status put_tensors(const maker *m) {
    const assay_gguf *part;
    const assay_gguf_tensor *embedding = find_tensor(m, "token_embd.weight", &part);
    if (embedding && embedding->n_dims == 2) ASSAY_TRY(set(m, "vocab_size", json_integer(embedding->dims[1])));
    ASSAY_TRY(set(m, "tie_word_embeddings", json_boolean(!has_tensor(m, "output.weight"))));
    if (m->arch->family == ASSAY_GGUF_LLAMA || m->arch->family == ASSAY_GGUF_MIXTRAL) {
        ASSAY_TRY(set(m, "attention_bias", json_boolean(has_tensor(m, "blk.0.attn_q.bias"))));
        ASSAY_TRY(set(m, "mlp_bias", json_boolean(has_tensor(m, "blk.0.ffn_gate.bias"))));
    }
    if (has_blocks(m)) ASSAY_TRY(set(m, "quantization_config", json_pack("{s:s}", "quant_method", "gguf")));
    return set(m, "torch_dtype", json_string(dtype_name(m)));
}

static assay_status put_tokens(const maker *m) {
    int64_t id, turn;
    if (assay_gguf_int(&id, m->g, assay_gguf_find(m->g, "tokenizer.ggml.bos_token_id"), 0))
        ASSAY_TRY(set(m, "bos_token_id", json_integer(id)));
    if (!assay_gguf_int(&id, m->g, assay_gguf_find(m->g, "tokenizer.ggml.eos_token_id"), 0)) return ASSAY_OK;
    if (assay_gguf_int(&turn, m->g, assay_gguf_find(m->g, "tokenizer.ggml.eot_token_id"), 0) && turn != id)
        return set(m, "eos_token_id", json_pack("[I, I]", (json_int_t)id, (json_int_t)turn));
    return set(m, "eos_token_id", json_integer(id));
}

/* --- the whole --- */

static assay_status begin(maker *m) {
    const char *name = "?";
    size_t n = 1;
    assay_gguf_string(&name, &n, m->g, assay_gguf_find(m->g, "general.architecture"), 0);
    if (!m->arch)
        return assay_fail(m->err, ASSAY_EUNSUPPORTED, "%s: architecture '%.*s' is none that is run here", m->set->paths[0], (int)ASSAY_MIN(n, (size_t)64),
                          name);
    m->j = json_pack("{s:[s], s:s}", "architectures", m->arch->class_name, "model_type", m->arch->model_type);
    json_t *defaults = json_loads(m->arch->defaults, 0, NULL);
    bool merged = m->j && defaults && json_object_update(m->j, defaults) == 0;
    json_decref(defaults);
    return merged ? ASSAY_OK : assay_nomem(m->err);
}

static assay_status make(maker *m) {
    ASSAY_TRY(begin(m));
    for (size_t i = 0; i < assay_gguf_n_keys; i++)
        if (assay_gguf_keys[i].families & m->arch->family) ASSAY_TRY(put_key(m, &assay_gguf_keys[i]));
    ASSAY_TRY(put_tensors(m));
    ASSAY_TRY(put_rope(m));
    ASSAY_TRY(put_window(m));
    if (m->arch->family == ASSAY_GGUF_DEEPSEEK) ASSAY_TRY(put_deepseek(m));
    if (m->arch->family == ASSAY_GGUF_GEMMA) ASSAY_TRY(put_gemma(m));
    return put_tokens(m);
}

assay_status assay_gguf_set_config(json_t **out, const assay_gguf_set *s, assay_err *err) {
    maker m = {.set = s, .g = s->parts[0], .arch = s->arch, .err = err};
    assay_status status = make(&m);
    *out = NULL;
    if (status == ASSAY_OK)
        *out = m.j;
    else
        json_decref(m.j);
    return status;
}

assay_status assay_gguf_config(json_t **out, const char *path, assay_err *err) {
    assay_gguf_set set;
    *out = NULL;
    ASSAY_TRY(assay_gguf_set_open(&set, path, err));
    assay_status s = assay_gguf_set_config(out, &set, err);
    assay_gguf_set_close(&set);
    return s;
}
