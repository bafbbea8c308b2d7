/* config.c: config.json and generation_config.json of the Hugging Face layout, held against the architecture
 * table: sizes, biases, scales. What differs by layer is config_layers.c's, rotary positions are config_rope.c's.
 *
 * Keys that change the arithmetic and that no row of the table knows how to honour are refused by name rather
 * than ignored: a wrong activation, rope type or partial rotation would still produce plausible text. Keys of
 * training (dropout, initializer) and of caching are ignored. Sizes are bounded here, so that later products
 * cannot overflow 64 bits. */
#include "model/config.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "format/gguf.h"
#include "model/config_impl.h"
#include "num/convert.h"

static const assay_arch architectures[] = {
#define ARCH(ID, class, type, ...) {.class_name = class, .model_type = type, __VA_ARGS__},
#include "model/architectures.def"
#undef ARCH
};

/* --- helpers --- */

assay_status config_need_int(int64_t *out, const json_t *j, const char *key, int64_t lo, int64_t hi,
                             const char *where, assay_err *err) {
    const json_t *v = json_object_get(j, key);
    if (!v || json_is_null(v)) return assay_fail(err, ASSAY_EINPUT, "%s: missing key '%s'", where, key);
    ASSAY_TRY(assay_json_get_int(out, j, key, where, err));
    if (*out < lo || *out > hi)
        return assay_fail(err, ASSAY_EINPUT, "%s: '%s' is %lld, outside [%lld, %lld]", where, key,
                          (long long)*out, (long long)lo, (long long)hi);
    return ASSAY_OK;
}

assay_status config_want_int(int64_t *out, const json_t *j, const char *key, int64_t lo, int64_t hi,
                             const char *where, assay_err *err) {
    const json_t *v = json_object_get(j, key);
    return v && !json_is_null(v) ? config_need_int(out, j, key, lo, hi, where, err) : ASSAY_OK;
}

assay_status config_want_double(double *out, const json_t *j, const char *key, double lo, double hi,
                                const char *where, assay_err *err) {
    ASSAY_TRY(assay_json_get_double(out, j, key, where, err));
    if (!(*out >= lo && *out <= hi))
        return assay_fail(err, ASSAY_EINPUT, "%s: '%s' is %g, outside [%g, %g]", where, key, *out, lo, hi);
    return ASSAY_OK;
}

const json_t *config_present(const json_t *j, const char *key) {
    const json_t *v = json_object_get(j, key);
    return v && !json_is_null(v) ? v : NULL;
}

const char *config_key(const assay_config *c, const json_t *j, const char *key) {
    const char *const *a = c->arch->aliases;
    if (config_present(j, key)) return key;
    for (; a && *a; a += 2)
        if (strcmp(a[0], key) == 0) return a[1];
    return key;
}

/* --- parts of config.json --- */

static const char *known_architectures(assay_str *b) {
    for (size_t i = 0; i < ASSAY_LEN(architectures); i++) {
        assay_str_put(b, i ? ", " : "");
        assay_str_put(b, architectures[i].class_name);
    }
    return assay_str_c(b);
}

/* By class name; by model_type where a config has no "architectures" (older fine-tunes). */
static assay_status parse_arch(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const char *type = NULL, *class_name = NULL;
    ASSAY_TRY(assay_json_get_str(&type, j, "model_type", where, err));
    const json_t *list = config_present(j, "architectures");
    if (list) {
        if (!json_is_array(list) || json_array_size(list) == 0 || !json_is_string(json_array_get(list, 0)))
            return assay_fail(err, ASSAY_EINPUT, "%s: 'architectures' is not a list of strings", where);
        class_name = json_string_value(json_array_get(list, 0));
    }
    if (!class_name && !type)
        return assay_fail(err, ASSAY_EINPUT, "%s: missing key 'architectures' (and 'model_type')", where);
    for (size_t i = 0; i < ASSAY_LEN(architectures) && !c->arch; i++) {
        const assay_arch *a = &architectures[i];
        if (class_name ? strcmp(a->class_name, class_name) == 0 : strcmp(a->model_type, type) == 0)
            c->arch = a;
    }
    if (!c->arch) {
        assay_str b = {0};
        assay_status s = assay_fail(err, ASSAY_EUNSUPPORTED, "%s: unknown architecture '%.64s'; known: %s",
                                    where, class_name ? class_name : type, known_architectures(&b));
        assay_str_free(&b);
        return s;
    }
    snprintf(c->architecture, sizeof c->architecture, "%s", c->arch->class_name);
    snprintf(c->model_type, sizeof c->model_type, "%s", type ? type : c->arch->model_type);
    return ASSAY_OK;
}

static assay_status parse_heads(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const assay_arch *a = c->arch;
    c->n_kv_heads = c->n_heads;
    ASSAY_TRY(config_want_int(&c->n_kv_heads, j, "num_key_value_heads", 1, 1024, where, err));
    if (c->n_heads % c->n_kv_heads != 0)
        return assay_fail(err, ASSAY_EINPUT,
                          "%s: 'num_attention_heads' %lld is not a multiple of 'num_key_value_heads' %lld",
                          where, (long long)c->n_heads, (long long)c->n_kv_heads);
    if (a->default_head_dim == 0 && c->hidden_size % c->n_heads != 0 && !config_present(j, "head_dim"))
        return assay_fail(
            err, ASSAY_EINPUT,
            "%s: 'hidden_size' %lld is not a multiple of 'num_attention_heads' %lld and 'head_dim' is absent",
            where, (long long)c->hidden_size, (long long)c->n_heads);
    c->head_dim = a->default_head_dim ? a->default_head_dim : c->hidden_size / c->n_heads;
    ASSAY_TRY(config_want_int(&c->head_dim, j, "head_dim", 2, 1024, where, err));
    if (c->head_dim % 2 != 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: head size %lld is odd", where, (long long)c->head_dim);
    c->v_head_dim = c->rotary_dim = c->head_dim;
    return ASSAY_OK;
}

/* Heads of latent attention: every head has keys of its own, of a part that turns and one that does not. */
static assay_status parse_latent(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    ASSAY_TRY(config_need_int(&c->kv_rank, j, "kv_lora_rank", 1, 1 << 16, where, err));
    ASSAY_TRY(config_want_int(&c->q_rank, j, "q_lora_rank", 1, 1 << 16, where, err));
    ASSAY_TRY(config_need_int(&c->nope_dim, j, "qk_nope_head_dim", 1, 512, where, err));
    ASSAY_TRY(config_need_int(&c->rotary_dim, j, "qk_rope_head_dim", 2, 512, where, err));
    ASSAY_TRY(config_need_int(&c->v_head_dim, j, "v_head_dim", 1, 1024, where, err));
    c->n_kv_heads = c->n_heads;
    ASSAY_TRY(config_want_int(&c->n_kv_heads, j, "num_key_value_heads", c->n_heads, c->n_heads, where, err));
    c->head_dim = c->nope_dim + c->rotary_dim;
    if (c->rotary_dim % 2 != 0)
        return assay_fail(err, ASSAY_EINPUT, "%s: 'qk_rope_head_dim' %lld is odd", where, (long long)c->rotary_dim);
    if (c->kv_rank + c->rotary_dim > ASSAY_KV_MOST_DIM)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: 'kv_lora_rank' %lld and 'qk_rope_head_dim' %lld together are more than %d", where,
                          (long long)c->kv_rank, (long long)c->rotary_dim, ASSAY_KV_MOST_DIM);
    return ASSAY_OK;
}

static assay_status parse_sizes(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const struct {
        int64_t *out;
        const char *key;
        int64_t hi;
    } needed[] = {{&c->hidden_size, "hidden_size", 1 << 17},
                  {&c->intermediate_size, "intermediate_size", 1 << 20},
                  {&c->n_layers, "num_hidden_layers", ASSAY_MOST_LAYERS},
                  {&c->n_heads, "num_attention_heads", 1024},
                  {&c->vocab_size, "vocab_size", 1 << 22},
                  {&c->max_position_embeddings, "max_position_embeddings", 1 << 26}};
    for (size_t i = 0; i < ASSAY_LEN(needed); i++) {
        const char *key = config_key(c, j, needed[i].key);
        if (needed[i].out == &c->intermediate_size && c->arch->default_ffn && !config_present(j, key))
            c->intermediate_size = c->arch->default_ffn * c->hidden_size;
        else
            ASSAY_TRY(config_need_int(needed[i].out, j, key, 1, needed[i].hi, where, err));
    }
    return c->arch->latent ? parse_latent(c, j, where, err) : parse_heads(c, j, where, err);
}

static bool wants_bias(assay_arch_bias rule, bool config) {
    return rule == ASSAY_BIAS_ALWAYS || (rule == ASSAY_BIAS_CONFIG && config);
}

static assay_status parse_act(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    static const struct {
        const char *name;
        assay_gate_fn fn;
    } known[] = {{"silu", ASSAY_GATE_SILU},           {"swish", ASSAY_GATE_SILU},         {"gelu", ASSAY_GATE_GELU},
                 {"gelu_new", ASSAY_GATE_GELU_TANH},  {"gelu_fast", ASSAY_GATE_GELU_TANH}, {"gelu_pytorch_tanh", ASSAY_GATE_GELU_TANH}};
    const char *key = c->arch->act_key ? c->arch->act_key : "hidden_act", *name = c->arch->act_name ? c->arch->act_name : "silu";
    ASSAY_TRY(assay_json_get_str(&name, j, key, where, err));
    for (size_t i = 0; i < ASSAY_LEN(known); i++) {
        if (strcmp(name, known[i].name) != 0) continue;
        c->act = known[i].fn;
        return ASSAY_OK;
    }
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: '%s' is '%.40s'; known: silu, swish, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh",
                      where, key, name);
}

static bool has_value(const json_t *v, const char *value) {
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
    return json_is_string(v) ? strcmp(json_string_value(v), value) == 0 : json_is_integer(v) && strcmp(number, value) == 0;
}

/* Keys whose other values ask for something that is not here. */
static assay_status check_fixed_keys(const assay_config *c, const json_t *j, const char *where, assay_err *err) {
    char key[64];
    for (const char *p = c->arch->fixed_keys; p && *p; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");
        snprintf(key, sizeof key, "%.*s", (int)n, p);
        p += n;
        char *value = strchr(key, '=');
        if (value) *value++ = 0;
        const json_t *v = config_present(j, key);
        if (!v || json_is_false(v) || (value && has_value(v, value))) continue;
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: '%s' is set%s%s, which is not supported for %s", where, key,
                          value ? " to something else than " : "", value ? value : "", c->architecture);
    }
    return ASSAY_OK;
}

static assay_status parse_flags(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const assay_arch *a = c->arch;
    bool attention = a->default_bias, mlp = a->default_bias;
    c->tie_word_embeddings = a->default_tied;
    c->parallel_residual = a->parallel;
    ASSAY_TRY(assay_json_get_bool(&c->tie_word_embeddings, j, "tie_word_embeddings", where, err));
    ASSAY_TRY(assay_json_get_bool(&attention, j, a->attention_bias_key ? a->attention_bias_key : "attention_bias", where, err));
    ASSAY_TRY(assay_json_get_bool(&mlp, j, a->mlp_bias_key ? a->mlp_bias_key : "mlp_bias", where, err));
    if (a->parallel) ASSAY_TRY(assay_json_get_bool(&c->parallel_residual, j, "use_parallel_residual", where, err));
    c->attention_bias = wants_bias(a->qkv_bias, attention);
    c->attention_out_bias = wants_bias(a->out_bias, attention);
    c->mlp_bias = wants_bias(a->mlp_bias, mlp);
    c->rms_norm_eps = a->default_eps > 0 ? a->default_eps : 1e-6;
    ASSAY_TRY(config_want_double(&c->rms_norm_eps, j, a->eps_key ? a->eps_key : "rms_norm_eps", 0, 1, where, err));
    ASSAY_TRY(parse_act(c, j, where, err));
    return check_fixed_keys(c, j, where, err);
}

/* What stands between the matrices: multipliers and caps. The scale of the scores is config_rope.c's to complete. */
static assay_status parse_scales(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const assay_arch *a = c->arch;
    double scalar = a->default_score_scalar, logits = 1;
    bool scaled = true, capped = a->norm == ASSAY_NORM_RMS_PLUS_ONE;
    c->embedding_scale = 1;
    c->residual_scale = c->logit_scale = 1;
    if (scalar > 0) ASSAY_TRY(config_want_double(&scalar, j, "query_pre_attn_scalar", 1e-6, 1e9, where, err));
    if (a->no_rope) ASSAY_TRY(assay_json_get_bool(&scaled, j, "scale_attn_weights", where, err));
    c->attention_scale = scaled ? 1 / sqrt(scalar > 0 ? scalar : (double)c->head_dim) : 1;
    if (a->has_multipliers) {
        c->attention_scale = 1;
        ASSAY_TRY(config_want_double(&c->attention_scale, j, "attention_multiplier", 1e-9, 1e9, where, err));
        ASSAY_TRY(config_want_double(&c->embedding_scale, j, "embedding_multiplier", 1e-9, 1e9, where, err));
        ASSAY_TRY(config_want_double(&c->residual_scale, j, "residual_multiplier", 1e-9, 1e9, where, err));
        ASSAY_TRY(config_want_double(&logits, j, "logits_scaling", 1e-9, 1e9, where, err));
        c->logit_scale = 1 / logits;
    }
    if (!capped) return ASSAY_OK;
    c->attention_soft_cap = a->default_attention_cap;
    c->logit_soft_cap = a->default_logit_cap;
    if (json_is_null(json_object_get(j, "attn_logit_softcapping"))) c->attention_soft_cap = 0; /* an explicit null means none */
    if (json_is_null(json_object_get(j, "final_logit_softcapping"))) c->logit_soft_cap = 0;
    ASSAY_TRY(config_want_double(&c->attention_soft_cap, j, "attn_logit_softcapping", 0, 1e9, where, err));
    return config_want_double(&c->logit_soft_cap, j, "final_logit_softcapping", 0, 1e9, where, err);
}

static assay_status parse_dtype(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    static const struct {
        const char *name;
        assay_dtype type;
    } known[] = {{"bfloat16", ASSAY_DTYPE_BF16}, {"float16", ASSAY_DTYPE_F16}, {"float32", ASSAY_DTYPE_F32}};
    const char *key = config_present(j, "dtype") ? "dtype" : "torch_dtype",
               *name = "float32"; /* PyTorch's default */
    ASSAY_TRY(assay_json_get_str(&name, j, key, where, err));
    if (strncmp(name, "torch.", 6) == 0) name += 6;
    for (size_t i = 0; i < ASSAY_LEN(known); i++) {
        if (strcmp(name, known[i].name) != 0) continue;
        c->dtype = known[i].type;
        return ASSAY_OK;
    }
    return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: '%s' is '%.40s'; known: bfloat16, float16, float32",
                      where, key, name);
}

static assay_status add_eos(assay_config *c, const json_t *v, const char *where, assay_err *err) {
    if (!json_is_integer(v))
        return assay_fail(err, ASSAY_EINPUT, "%s: 'eos_token_id' is neither an integer nor a list of them",
                          where);
    json_int_t id = json_integer_value(v);
    if (id < 0 || id >= c->vocab_size)
        return assay_fail(err, ASSAY_EINPUT, "%s: 'eos_token_id' %lld is outside the vocabulary of %lld",
                          where, (long long)id, (long long)c->vocab_size);
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos_token_ids[i] == id) return ASSAY_OK;
    if (c->n_eos == (int)ASSAY_LEN(c->eos_token_ids))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: more than %zu end-of-sequence ids", where,
                          ASSAY_LEN(c->eos_token_ids));
    c->eos_token_ids[c->n_eos++] = (int32_t)id;
    return ASSAY_OK;
}

static assay_status parse_special(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    int64_t bos = c->bos_token_id;
    ASSAY_TRY(config_want_int(&bos, j, "bos_token_id", 0, c->vocab_size - 1, where, err));
    c->bos_token_id = (int32_t)bos;
    const json_t *eos = config_present(j, "eos_token_id");
    if (!eos) return ASSAY_OK;
    if (!json_is_array(eos)) return add_eos(c, eos, where, err);
    for (size_t i = 0; i < json_array_size(eos); i++)
        ASSAY_TRY(add_eos(c, json_array_get(eos, i), where, err));
    return ASSAY_OK;
}

void assay_config_scale_embedding(assay_config *c, assay_dtype type) {
    float scale = (float)sqrt((double)c->hidden_size);
    if (!c->arch->scaled_embedding) return;
    c->embedding_scale = type == ASSAY_DTYPE_BF16  ? assay_bf16_to_f32(assay_f32_to_bf16(scale))
                         : type == ASSAY_DTYPE_F16 ? assay_f16_to_f32(assay_f32_to_f16(scale))
                                                   : scale;
}

/* Does one "apply" of a transform concern the input of the down projections alone? */
static bool is_down_input(const json_t *apply) {
    const json_t *targets = json_object_get(apply, "targets");
    const char *target = json_string_value(json_is_array(targets) ? json_array_get(targets, 0) : targets);
    return (!json_is_array(targets) || json_array_size(targets) == 1) && target && !strcmp(target, "re:.*down_proj$") &&
           !json_array_size(json_object_get(apply, "ignore"));
}

static bool is_online(const char *location) {
    return !location || (strcmp(location, "weight_input") && strcmp(location, "weight_output"));
}

/* One group of compressed-tensors' transform_config. What is fused into the weights needs nothing; of what the runtime has to do, the
 * Hadamard matrix on the down projection's input is known here. */
static assay_status parse_transform(assay_config *c, const char *name, const json_t *scheme, const char *where, assay_err *err) {
    const json_t *applies = json_object_get(scheme, "apply"), *apply;
    const char *type = json_string_value(json_object_get(scheme, "type"));
    size_t i;
    json_array_foreach(applies, i, apply) {
        const char *location = json_string_value(json_object_get(apply, "location"));
        int64_t block = (int64_t)json_integer_value(json_object_get(scheme, "head_dim"));
        if (!is_online(location)) continue;
        if (block == 0) block = c->intermediate_size;
        bool known = type && !strcmp(type, "hadamard") && location && !strcmp(location, "input") && is_down_input(apply) &&
                     !json_is_true(json_object_get(scheme, "randomize")) && block > 0 && !(block & (block - 1)) &&
                     c->intermediate_size % block == 0;
        if (!known)
            return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: transform '%s' is none that this runtime applies (hadamard on down_proj's input)",
                              where, name);
        c->down_hadamard = block;
    }
    return ASSAY_OK;
}

static assay_status parse_transforms(assay_config *c, const char *where, assay_err *err) {
    const char *name;
    json_t *scheme;
    json_object_foreach(json_object_get(json_object_get(c->quantization_config, "transform_config"), "config_groups"), name, scheme)
        ASSAY_TRY(parse_transform(c, name, scheme, where, err));
    return ASSAY_OK;
}

static assay_status parse_quantization(assay_config *c, const json_t *j, const char *where, assay_err *err) {
    const json_t *q = config_present(j, "quantization_config");
    if (!q) return ASSAY_OK;
    if (!json_is_object(q))
        return assay_fail(err, ASSAY_EINPUT, "%s: 'quantization_config' is not an object", where);
    c->quantization_config = json_deep_copy(q);
    return c->quantization_config ? parse_transforms(c, where, err) : assay_nomem(err);
}

/* --- public --- */

assay_status assay_config_parse(assay_config *out, const json_t *config, const json_t *generation,
                                const char *where, assay_err *err) {
    assay_status s;
    memset(out, 0, sizeof *out);
    out->bos_token_id = -1;
    if (!json_is_object(config)) return assay_fail(err, ASSAY_EINPUT, "%s: not a JSON object", where);
    ASSAY_GO(parse_arch(out, config, where, err));
    ASSAY_GO(parse_sizes(out, config, where, err));
    ASSAY_GO(parse_flags(out, config, where, err));
    ASSAY_GO(parse_scales(out, config, where, err));
    ASSAY_GO(config_parse_positions(out, config, where, err));
    ASSAY_GO(config_parse_window(out, config, where, err));
    ASSAY_GO(config_parse_experts(out, config, where, err));
    ASSAY_GO(config_parse_rope(out, config, where, err));
    ASSAY_GO(parse_dtype(out, config, where, err));
    assay_config_scale_embedding(out, out->dtype);
    ASSAY_GO(parse_special(out, config, where, err));
    if (generation && !json_is_object(generation)) {
        s = assay_fail(err, ASSAY_EINPUT, "generation_config.json beside %s: not a JSON object", where);
        goto out;
    }
    if (generation) {
        s = parse_special(out, generation, "generation_config.json", err);
        if (s != ASSAY_OK) goto out;
    }
    ASSAY_GO(parse_quantization(out, config, where, err));
out:
    if (s != ASSAY_OK) assay_config_deinit(out);
    return s;
}

/* What a GGUF file's metadata say; ENOTFOUND where there is none. */
static assay_status open_gguf(assay_config *out, const char *path, assay_err *err) {
    assay_status s;
    json_t *config = NULL;
    char *file = NULL;
    ASSAY_TRY(assay_gguf_find_file(&file, path, err));
    ASSAY_GO(assay_gguf_config(&config, file, err));
    s = assay_config_parse(out, config, NULL, file, err);
out:
    json_decref(config);
    assay_free(file);
    return s;
}

assay_status assay_config_open(assay_config *out, const char *dir, assay_err *err) {
    assay_err none = {0};
    memset(out, 0, sizeof *out);
    ASSAY_TRY(assay_checkpoint_check_path(dir, err));
    assay_status s = open_gguf(out, dir, &none);
    if (s == ASSAY_OK) return s;
    if (s != ASSAY_ENOTFOUND) return assay_fail(err, s, "%s", none.message);
    json_t *config = NULL, *generation = NULL;
    char *path = NULL, *gen_path = NULL, *parent = NULL;
    memset(out, 0, sizeof *out);
    bool is_dir = assay_path_is_dir(dir);
    path = is_dir ? assay_path_join(dir, "config.json") : assay_strdup(dir);
    parent = is_dir ? assay_strdup(dir) : assay_path_dir(dir);
    gen_path = parent ? assay_path_join(parent, "generation_config.json") : NULL;
    if (!path || !parent || !gen_path) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(assay_json_load(&config, path, err));
    if (assay_path_exists(gen_path)) ASSAY_GO(assay_json_load(&generation, gen_path, err));
    s = assay_config_parse(out, config, generation, path, err);
out:
    json_decref(config);
    json_decref(generation);
    assay_free(path);
    assay_free(gen_path);
    assay_free(parent);
    return s;
}

void assay_config_deinit(assay_config *c) {
    if (!c) return;
    json_decref(c->quantization_config);
    memset(c, 0, sizeof *c);
}

assay_kv_shape assay_config_kv_shape(const assay_config *c) {
    if (c->kv_rank) return (assay_kv_shape){.heads = 1, .dim = (int)(c->rotary_dim + c->kv_rank), .shared = true};
    return (assay_kv_shape){.heads = (int)c->n_kv_heads, .dim = (int)c->head_dim};
}

int assay_config_window(const assay_config *c, int64_t layer) {
    return c->layer[layer] & ASSAY_LAYER_SLIDES ? (int)c->sliding_window : 0;
}

bool assay_config_is_long(const assay_config *c, size_t n) {
    return c->rope.kind == ASSAY_ROPE_LONGROPE && n > (size_t)c->rope.original_max_position;
}

double assay_config_active_share(const assay_config *c) {
    return c->n_experts ? (double)c->n_active / (double)c->n_experts : 1;
}

float assay_config_vector_offset(const assay_config *c, assay_tensor_role role) {
    static const assay_tensor_role norms[] = {ASSAY_ROLE_ATTN_NORM, ASSAY_ROLE_MLP_NORM,       ASSAY_ROLE_Q_NORM,       ASSAY_ROLE_K_NORM,
                                              ASSAY_ROLE_FINAL_NORM, ASSAY_ROLE_POST_ATTN_NORM, ASSAY_ROLE_POST_MLP_NORM};
    for (size_t i = 0; i < ASSAY_LEN(norms) && c->arch->norm == ASSAY_NORM_RMS_PLUS_ONE; i++)
        if (role == norms[i]) return 1.0f;
    return 0.0f;
}
