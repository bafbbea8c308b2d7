/* gguf_meta.c: a config.json as GGUF's metadata: the inverse of gguf_config.c, with the keys that llama.cpp requires or reads. What GGUF
 * cannot say, and what would then be computed otherwise, is refused. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format/gguf_write.h"

typedef struct teller {
    assay_str *out;
    uint64_t *n;
    const assay_gguf_output *o;
    assay_err *err;
} teller;

static const json_t *value_of(const assay_gguf_output *o, const char *key) {
    static const char *const RENAMED[][2] = {{"num_experts", "num_local_experts"}, {"n_routed_experts", "num_local_experts"}}; /* transformers 5 */
    const json_t *v = json_object_get(o->config, key);
    for (size_t i = 0; !v && i < ASSAY_LEN(RENAMED); i++)
        if (strcmp(key, RENAMED[i][0]) == 0) v = json_object_get(o->config, RENAMED[i][1]);
    return json_is_null(v) ? NULL : v;
}

static int64_t int_of(const assay_gguf_output *o, const char *key, int64_t otherwise) {
    const json_t *v = value_of(o, key);
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

static const char *key_of(char out[128], const teller *t, const char *key) {
    snprintf(out, 128, "%s.%s", t->o->arch->name, key);
    return out;
}

static void tell_int(const teller *t, const char *key, int64_t v) {
    char name[128];
    assay_gguf_put_int(t->out, key_of(name, t, key), ASSAY_GGUF_U32, v);
    ++*t->n;
}

static void tell_float(const teller *t, const char *key, double v) {
    char name[128];
    assay_gguf_put_float(t->out, key_of(name, t, key), v);
    ++*t->n;
}

static void tell_text(const teller *t, const char *key, const char *v) {
    char name[128];
    assay_gguf_put_string(t->out, key_of(name, t, key), v, strlen(v));
    ++*t->n;
}

static assay_status tell_key(const teller *t, const assay_gguf_key *k) {
    const json_t *v = value_of(t->o, k->hf);
    char name[128];
    if (!v) return ASSAY_OK;
    if (k->type == ASSAY_GGUF_BOOL ? !json_is_boolean(v) : k->type == ASSAY_GGUF_U32 ? !json_is_integer(v) : !json_is_number(v))
        return assay_fail(t->err, ASSAY_EINPUT, "config.json: '%s' is not of the type that GGUF's %s has", k->hf, k->gguf);
    if (k->type == ASSAY_GGUF_F32)
        tell_float(t, k->gguf, json_number_value(v));
    else {
        int64_t i = k->type == ASSAY_GGUF_BOOL ? json_is_true(v) : json_integer_value(v);
        if (i < 0 || i > UINT32_MAX) return assay_fail(t->err, ASSAY_EINPUT, "config.json: '%s' is %lld", k->hf, (long long)i);
        assay_gguf_put_int(t->out, key_of(name, t, k->gguf), k->type, i);
        ++*t->n;
    }
    return ASSAY_OK;
}

/* --- rotary embeddings --- */

/* The object that says how frequencies are scaled, and theta's place: transformers 5 has both in rope_parameters, which may have one
 * for each kind of layer. */
static const json_t *rope_of(const assay_gguf_output *o) {
    const json_t *r = value_of(o, "rope_parameters");
    const json_t *full = json_object_get(r, "full_attention");
    if (!r) r = value_of(o, "rope_scaling");
    return full ? full : r;
}

static const char *rope_type(const json_t *rope) {
    const char *type = json_string_value(json_object_get(rope, "rope_type"));
    if (!type) type = json_string_value(json_object_get(rope, "type"));
    if (!type || strcmp(type, "default") == 0) return "";
    return strcmp(type, "su") == 0 ? "longrope" : type;
}

static double number_in(const json_t *object, const char *key, double otherwise) {
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

/* A count that a configuration may give as any number; 0 for what is none. */
static int64_t whole(double v) {
    return v >= 0 && v <= INT32_MAX ? (int64_t)v : 0;
}

/* What a config.json that does not say means. Not among gguf_config.def's defaults: a GGUF file that does not say means 10000. */
static double usual_theta(const assay_gguf_arch *arch) {
    static const struct {
        const char *class_name;
        double theta;
    } OTHERS[] = {{"MixtralForCausalLM", 1e6}, {"SmolLM3ForCausalLM", 2e6}, {"Gemma3ForCausalLM", 1e6}};
    for (size_t i = 0; i < ASSAY_LEN(OTHERS); i++)
        if (strcmp(arch->class_name, OTHERS[i].class_name) == 0) return OTHERS[i].theta;
    return 10000;
}

static double theta_of(const assay_gguf_output *o) {
    double theta = number_in(o->config, o->arch->family == ASSAY_GGUF_NEOX ? "rotary_emb_base" : "rope_theta", usual_theta(o->arch));
    return number_in(rope_of(o), "rope_theta", theta);
}

static int64_t head_dim_of(const assay_gguf_output *o) {
    int64_t heads = ASSAY_MAX(o->n_heads, 1);
    return int_of(o, "head_dim", int_of(o, "hidden_size", int_of(o, "n_embd", 0)) / heads);
}

static int64_t rotary_dim(const assay_gguf_output *o) {
    if (o->arch->family == ASSAY_GGUF_DEEPSEEK) return int_of(o, "qk_rope_head_dim", 0);
    double part = o->arch->family == ASSAY_GGUF_NEOX ? number_in(o->config, "rotary_pct", 0.25) : number_in(o->config, "partial_rotary_factor", 1);
    return whole(number_in(rope_of(o), "partial_rotary_factor", part) * (double)head_dim_of(o));
}

static int64_t original_context(const assay_gguf_output *o) {
    int64_t context = int_of(o, "original_max_position_embeddings", int_of(o, "max_position_embeddings", 0));
    return whole(number_in(rope_of(o), "original_max_position_embeddings", (double)context));
}

static void tell_yarn(const teller *t, const json_t *rope) {
    static const char *const PAIRS[][2] = {{"extrapolation_factor", "rope.scaling.yarn_ext_factor"},
                                           {"attention_factor", "rope.scaling.yarn_attn_factor"},
                                           {"beta_fast", "rope.scaling.yarn_beta_fast"},
                                           {"beta_slow", "rope.scaling.yarn_beta_slow"}};
    for (size_t i = 0; i < ASSAY_LEN(PAIRS); i++)
        if (json_is_number(json_object_get(rope, PAIRS[i][0]))) tell_float(t, PAIRS[i][1], number_in(rope, PAIRS[i][0], 0));
    tell_int(t, "rope.scaling.original_context_length", original_context(t->o));
    if (t->o->arch->family == ASSAY_GGUF_DEEPSEEK && json_is_number(json_object_get(rope, "mscale_all_dim")))
        tell_float(t, "rope.scaling.yarn_log_multiplier", 0.1 * number_in(rope, "mscale_all_dim", 0));
}

static assay_status tell_longrope(const teller *t, const json_t *rope) {
    int64_t context = int_of(t->o, "max_position_embeddings", 1), original = original_context(t->o);
    double scale = original > 0 ? (double)context / (double)original : 1;
    double factor = scale > 1 ? sqrt(1 + log(scale) / log((double)original)) : 1;
    if (t->o->arch->family != ASSAY_GGUF_PHI3)
        return assay_fail(t->err, ASSAY_EUNSUPPORTED, "config.json: llama.cpp has longrope's factors for Phi-3 alone, not for %s", t->o->arch->name);
    tell_text(t, "rope.scaling.type", "longrope");
    tell_float(t, "rope.scaling.attn_factor", number_in(rope, "attention_factor", factor));
    return ASSAY_OK;
}

static assay_status tell_rope(const teller *t) {
    const assay_gguf_output *o = t->o;
    const json_t *rope = rope_of(o);
    const char *type = rope_type(rope);
    if (o->arch->family == ASSAY_GGUF_GPT2) return ASSAY_OK;
    if (o->arch->family != ASSAY_GGUF_DEEPSEEK) tell_int(t, "rope.dimension_count", rotary_dim(o));
    tell_float(t, "rope.freq_base", theta_of(o));
    if (strcmp(o->arch->name, "gemma3") == 0)
        tell_float(t, "rope.freq_base_swa",
                   number_in(json_object_get(value_of(o, "rope_parameters"), "sliding_attention"), "rope_theta",
                             number_in(o->config, "rope_local_base_freq", 10000)));
    if (o->arch->family == ASSAY_GGUF_PHI3) tell_int(t, "rope.scaling.original_context_length", original_context(o));
    if (!*type || strcmp(type, "llama3") == 0) return ASSAY_OK;
    if (strcmp(type, "longrope") == 0) return tell_longrope(t, rope);
    if (strcmp(type, "linear") != 0 && strcmp(type, "yarn") != 0)
        return assay_fail(t->err, ASSAY_EUNSUPPORTED, "config.json: GGUF has no rotary scaling of type '%.32s'", type);
    tell_text(t, "rope.scaling.type", type);
    tell_float(t, "rope.scaling.factor", number_in(rope, "factor", 1));
    if (*type == 'y') tell_yarn(t, rope);
    return ASSAY_OK;
}

static int64_t take_list(float out[512], const json_t *list) {
    size_t n = json_array_size(list);
    if (n > 512) return 0;
    for (size_t i = 0; i < n; i++) out[i] = (float)json_number_value(json_array_get(list, i));
    return (int64_t)n;
}

assay_status assay_gguf_factors(const char **name, float factors[512], int64_t *n, const assay_gguf_output *o, int which, assay_err *err) {
    const json_t *rope = rope_of(o);
    const char *type = rope_type(rope);
    *name = NULL;
    *n = 0;
    if (strcmp(type, "llama3") == 0 && which == 0) {
        *n = rotary_dim(o) / 2;
        if (*n < 1 || *n > 512) return assay_fail(err, ASSAY_EINPUT, "config.json: heads of %lld turning dimensions", (long long)*n * 2);
        assay_gguf_llama3_factors(factors, *n, theta_of(o), number_in(rope, "factor", 8), number_in(rope, "low_freq_factor", 1),
                                  number_in(rope, "high_freq_factor", 4), number_in(rope, "original_max_position_embeddings", 8192));
        *name = "rope_freqs.weight";
    } else if (strcmp(type, "longrope") == 0) {
        *n = take_list(factors, json_object_get(rope, which ? "short_factor" : "long_factor"));
        if (*n != rotary_dim(o) / 2)
            return assay_fail(err, ASSAY_EINPUT, "config.json: longrope has %lld factors for %lld turning dimensions", (long long)*n,
                              (long long)rotary_dim(o));
        *name = which ? "rope_factors_short.weight" : "rope_factors_long.weight";
    }
    return ASSAY_OK;
}

/* --- what single families have --- */

/* llama.cpp has Gemma's pattern of windows built in. */
static assay_status check_windows(const teller *t) {
    const json_t *types = value_of(t->o, "layer_types");
    int64_t every = strcmp(t->o->arch->name, "gemma2") == 0 ? 2 : 6;
    if (int_of(t->o, "sliding_window_pattern", every) != every)
        return assay_fail(t->err, ASSAY_EUNSUPPORTED, "config.json: 'sliding_window_pattern' is not llama.cpp's %lld", (long long)every);
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        bool full = type && strcmp(type, "full_attention") == 0;
        if (full != ((int64_t)(i + 1) % every == 0))
            return assay_fail(t->err, ASSAY_EUNSUPPORTED, "config.json: 'layer_types' is not llama.cpp's pattern of %lld layers", (long long)every);
    }
    return ASSAY_OK;
}

static void tell_deepseek(const teller *t) {
    const assay_gguf_output *o = t->o;
    const char *scores = json_string_value(value_of(o, "scoring_func"));
    int64_t latent = int_of(o, "kv_lora_rank", 0), turned = int_of(o, "qk_rope_head_dim", 0);
    tell_int(t, "attention.head_count_kv", 1); /* all heads share the latents */
    tell_int(t, "attention.key_length", latent + turned);
    tell_int(t, "attention.value_length", latent);
    tell_int(t, "attention.key_length_mla", int_of(o, "qk_nope_head_dim", 0) + turned);
    tell_int(t, "expert_gating_func", scores && strcmp(scores, "sigmoid") == 0 ? 2 : 1);
}

static void tell_sizes(const teller *t) {
    const assay_gguf_output *o = t->o;
    bool most = o->arch->family & ASSAY_GGUF_MOST && o->arch->family != ASSAY_GGUF_DEEPSEEK;
    if (most && !value_of(o, "num_key_value_heads")) tell_int(t, "attention.head_count_kv", o->n_kv_heads);
    if (most && value_of(o, "head_dim")) tell_int(t, "attention.value_length", head_dim_of(o));
    if (o->arch->family == ASSAY_GGUF_GPT2 && !value_of(o, "n_inner")) tell_int(t, "feed_forward_length", 4 * int_of(o, "n_embd", 0));
    if (o->arch->family == ASSAY_GGUF_PHI3 && !value_of(o, "sliding_window")) tell_int(t, "attention.sliding_window", 0);
}

/* Qwen's windows are asked for by a switch, and llama.cpp knows them not. */
static bool is_wanted(const teller *t, const assay_gguf_key *k) {
    if (!(k->families & t->o->arch->family)) return false;
    return strcmp(k->hf, "sliding_window") != 0 || strncmp(t->o->arch->name, "qwen", 4) != 0;
}

assay_status assay_gguf_put_config(assay_str *out, uint64_t *n, const assay_gguf_output *o, assay_err *err) {
    teller t = {out, n, o, err};
    for (size_t i = 0; i < assay_gguf_n_keys; i++)
        if (is_wanted(&t, &assay_gguf_keys[i])) ASSAY_TRY(tell_key(&t, &assay_gguf_keys[i]));
    tell_sizes(&t);
    ASSAY_TRY(tell_rope(&t));
    if (o->arch->family == ASSAY_GGUF_GEMMA) ASSAY_TRY(check_windows(&t));
    if (o->arch->family == ASSAY_GGUF_DEEPSEEK) tell_deepseek(&t);
    return ASSAY_OK;
}
