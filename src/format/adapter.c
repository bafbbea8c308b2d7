/* adapter.c: PEFT adapters: which matrix of the base gets what.
 *
 *   adapter_config.json          peft_type, lora_alpha, use_rslora, alpha_pattern, rank_pattern, fan_in_fan_out, ... (peft 0.21,
 *                                tuners/lora/config.py). Ranks are taken from the tensors, which cannot lie about them.
 *   adapter_model.safetensors    base_model.model.MODULE.lora_A.weight            [rank][in]
 *                                base_model.model.MODULE.lora_B.weight            [out][rank]
 *                                base_model.model.MODULE.lora_embedding_A, _B     [rank][vocabulary], [hidden][rank]
 *                                base_model.model.MODULE.lora_magnitude_vector    [out], or [out][1]: DoRA
 *                                base_model.model.NAME                            a whole tensor (modules_to_save, biases)
 *
 * Every lora_ tensor must find its partner, so that a damaged file is refused instead of half applied. Adapters are small: the
 * directory is kept, the numbers stay in the mapping. Applying it is model/'s business, merging method/'s. */
#include "format/adapter.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "format/checkpoint.h"
#include "format/convention.h"
#include "format/names.h"
#include "num/convert.h"

#define CONFIG "adapter_config.json"
#define PREFIX "base_model.model."

struct assay_adapter {
    json_t *config;
    assay_checkpoint *file;
    assay_arena text;
    assay_names modules; /* -> place in loras, while it is collected */
    assay_names wholes;  /* -> place in whole */
    assay_lora *loras;
    size_t n_loras, cap_loras;
    struct {
        const char *name;
        const assay_tensor *tensor;
    } * whole;
    size_t n_whole, cap_whole;
};

void assay_adapter_close(assay_adapter *a) {
    if (!a) return;
    json_decref(a->config);
    assay_checkpoint_close(a->file);
    assay_arena_free(&a->text);
    assay_names_free(&a->modules);
    assay_names_free(&a->wholes);
    assay_free(a->loras);
    assay_free(a->whole);
    assay_free(a);
}

/* --- configuration --- */

/* Keys that change what the numbers mean in ways not computed here; a key counts when it is neither false, null nor empty. */
static const char *const foreign[] = {"lora_bias",        "target_parameters", "trainable_token_indices", "layer_replication",
                                      "use_qalora",       "alora_invocation_tokens", "use_bdlora",        "megatron_config",
                                      "arrow_config",     "kasa_config",       "lora_ga_config",         "monteclora_config",
                                      "velora_config"};

static bool says_something(const json_t *v) {
    if (json_is_array(v)) return json_array_size(v) > 0;
    if (json_is_object(v)) return json_object_size(v) > 0;
    return v && !json_is_null(v) && !json_is_false(v);
}

/* Ways of beginning that leave the base as it is; the others subtract something from it, which a saved adapter takes for granted. */
static bool leaves_base(const json_t *init) {
    static const char *const fine[] = {"gaussian", "orthogonal", "eva", "true", "false"};
    const char *word = json_string_value(init);
    if (!word) return true;
    for (size_t i = 0; i < ASSAY_LEN(fine); i++)
        if (!strcmp(word, fine[i])) return true;
    return false;
}

static assay_status check_config(const json_t *c, assay_err *err) {
    const char *type = NULL;
    if (!json_is_object(c)) return assay_fail(err, ASSAY_EINPUT, CONFIG ": not a JSON object");
    ASSAY_TRY(assay_json_get_str(&type, c, "peft_type", CONFIG, err));
    if (!type) return assay_fail(err, ASSAY_EINPUT, CONFIG ": it names no peft_type");
    if (strcmp(type, "LORA") != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, CONFIG ": peft_type '%.40s' is not supported: LORA is", type);
    const json_t *init = json_object_get(c, "init_lora_weights");
    if (!leaves_base(init))
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          CONFIG ": init_lora_weights '%.40s' changes the base that the adapter stands on: save it with peft's "
                                 "path_initial_model_for_weight_conversion first",
                          json_string_value(init));
    for (size_t i = 0; i < ASSAY_LEN(foreign); i++)
        if (says_something(json_object_get(c, foreign[i])))
            return assay_fail(err, ASSAY_EUNSUPPORTED, CONFIG ": %s is not supported", foreign[i]);
    return ASSAY_OK;
}

/* peft's rule for *_pattern: the first key that matches the module's name or its end at a dot (utils/other.py, get_pattern_key). */
static assay_status alpha_of(double *alpha, const json_t *c, const char *module, assay_err *err) {
    const json_t *patterns = json_object_get(c, "alpha_pattern");
    const char *key;
    json_t *value;
    *alpha = 8; /* peft's default */
    ASSAY_TRY(assay_json_get_double(alpha, c, "lora_alpha", CONFIG, err));
    if (!json_is_object(patterns)) return ASSAY_OK;
    json_object_foreach((json_t *)patterns, key, value) {
        assay_str pattern = {0};
        bool hit = false;
        assay_err why = {0};
        assay_str_printf(&pattern, "re:(.*\\.)?(%s)$", key);
        assay_status s = assay_str_status(&pattern, err);
        if (s == ASSAY_OK) s = assay_ct_match(&hit, assay_str_c(&pattern), module, &why);
        assay_str_free(&pattern);
        if (s == ASSAY_EUNSUPPORTED)
            return assay_fail(err, s, CONFIG ": the alpha_pattern '%.100s' is more than is understood here", key);
        ASSAY_TRY(s);
        if (!hit) continue;
        if (!json_is_number(value))
            return assay_fail(err, ASSAY_EINPUT, CONFIG ": alpha_pattern '%.100s' is no number", key);
        *alpha = json_number_value(value);
        return ASSAY_OK;
    }
    return ASSAY_OK;
}

/* --- tensors --- */

typedef enum part { DOWN, UP, MAGNITUDE, WHOLE } part;

static const struct {
    const char *suffix;
    part part;
    bool is_embedding;
} suffixes[] = {{".lora_A.weight", DOWN, false},     {".lora_B.weight", UP, false},
                {".lora_embedding_A", DOWN, true},   {".lora_embedding_B", UP, true},
                {".lora_magnitude_vector", MAGNITUDE, false}, {".lora_magnitude_vector.weight", MAGNITUDE, false}};

static assay_status lora_of(assay_lora **out, assay_adapter *a, const char *module, size_t n, assay_err *err) {
    bool fresh;
    char *name = assay_arena_strndup(&a->text, module, n);
    if (!name) return assay_nomem(err);
    ASSAY_TRY(assay_names_add(&a->modules, name, a->n_loras, &fresh, err));
    *out = fresh ? NULL : &a->loras[assay_names_find(&a->modules, name)];
    if (!fresh) return ASSAY_OK;
    ASSAY_TRY(assay_grow(&a->loras, &a->cap_loras, a->n_loras + 1, sizeof *a->loras, err));
    *out = &a->loras[a->n_loras++];
    **out = (assay_lora){.module = name};
    return ASSAY_OK;
}

/* Biases of adapted layers are saved as X.base_layer.bias. */
static assay_status add_whole(assay_adapter *a, const assay_tensor *t, const char *name, assay_err *err) {
    static const char wrapper[] = ".base_layer";
    const char *at = strstr(name, ".base_layer.");
    bool fresh;
    if (strstr(name, "lora_"))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "adapter tensor %s is of a kind that is not supported", t->name);
    ASSAY_TRY(assay_grow(&a->whole, &a->cap_whole, a->n_whole + 1, sizeof *a->whole, err));
    if (at) {
        char *plain = assay_arena_strndup(&a->text, name, strlen(name));
        if (!plain) return assay_nomem(err);
        memmove(plain + (at - name), at + sizeof wrapper - 1, strlen(at + sizeof wrapper - 1) + 1);
        name = plain;
    }
    ASSAY_TRY(assay_names_add(&a->wholes, name, a->n_whole, &fresh, err));
    if (!fresh) return assay_fail(err, ASSAY_EINPUT, "adapter: %s is there twice, once as %s", name, t->name);
    a->whole[a->n_whole].name = name;
    a->whole[a->n_whole++].tensor = t;
    return ASSAY_OK;
}

static assay_status add_tensor(assay_adapter *a, const assay_tensor *t, assay_err *err) {
    size_t skip = sizeof PREFIX - 1, n;
    if (strncmp(t->name, PREFIX, skip) != 0)
        return assay_fail(err, ASSAY_EINPUT, "adapter tensor %s does not begin with " PREFIX, t->name);
    const char *name = t->name + skip;
    n = strlen(name);
    for (size_t i = 0; i < ASSAY_LEN(suffixes); i++) {
        size_t k = strlen(suffixes[i].suffix);
        assay_lora *l = NULL;
        if (n <= k || strcmp(name + n - k, suffixes[i].suffix) != 0) continue;
        ASSAY_TRY(lora_of(&l, a, name, n - k, err));
        const assay_tensor **place = suffixes[i].part == DOWN ? &l->down : suffixes[i].part == UP ? &l->up : &l->magnitude;
        if (*place) return assay_fail(err, ASSAY_EINPUT, "adapter: %s and %s are the same thing twice", (*place)->name, t->name);
        *place = t;
        l->is_embedding |= suffixes[i].is_embedding;
        return ASSAY_OK;
    }
    return add_whole(a, t, name, err);
}

static assay_status check_plain(const assay_tensor *t, int64_t rows, int64_t cols, assay_err *err) {
    bool dense = t->dtype == ASSAY_DTYPE_F32 || t->dtype == ASSAY_DTYPE_F16 || t->dtype == ASSAY_DTYPE_BF16;
    if (!dense || t->n_dims != 2 || t->dims[0] < 1 || t->dims[1] < 1 || (rows && t->dims[0] != rows) || (cols && t->dims[1] != cols))
        return assay_fail(err, ASSAY_EINPUT, "adapter tensor %s of type %s has not the shape that its partner asks for", t->name,
                          assay_dtype_name(t->dtype));
    return ASSAY_OK;
}

static assay_status finish_lora(assay_lora *l, const json_t *c, assay_err *err) {
    double alpha;
    bool rslora = false, transposed = false, dora = false;
    if (!l->down || !l->up)
        return assay_fail(err, ASSAY_EINPUT, "adapter: %s has only one half of its pair", l->module);
    ASSAY_TRY(check_plain(l->down, 0, 0, err));
    l->rank = l->down->dims[0];
    l->in = l->down->dims[1];
    ASSAY_TRY(check_plain(l->up, 0, l->rank, err));
    l->out = l->up->dims[0];
    if (l->magnitude && assay_tensor_n_elements(l->magnitude) != l->out)
        return assay_fail(err, ASSAY_EINPUT, "adapter tensor %s has not one element for each of %lld outputs", l->magnitude->name,
                          (long long)l->out);
    if (l->magnitude && l->is_embedding)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "adapter: DoRA of an embedding (%s) is not supported", l->module);
    ASSAY_TRY(assay_json_get_bool(&dora, c, "use_dora", CONFIG, err));
    if (dora != (l->magnitude != NULL))
        return assay_fail(err, ASSAY_EINPUT, "adapter: %s has %s lora_magnitude_vector where use_dora is %s", l->module, dora ? "no" : "a",
                          dora ? "true" : "not");
    ASSAY_TRY(alpha_of(&alpha, c, l->module, err));
    ASSAY_TRY(assay_json_get_bool(&rslora, c, "use_rslora", CONFIG, err));
    ASSAY_TRY(assay_json_get_bool(&transposed, c, "fan_in_fan_out", CONFIG, err));
    l->scale = alpha / (rslora ? sqrt((double)l->rank) : (double)l->rank);
    l->transposed = transposed && !l->is_embedding;
    return isfinite((float)l->scale) ? ASSAY_OK : assay_fail(err, ASSAY_EINPUT, CONFIG ": lora_alpha of %s is no usable number", l->module);
}

static int by_module(const void *a, const void *b) {
    return strcmp(((const assay_lora *)a)->module, ((const assay_lora *)b)->module);
}

static assay_status collect(assay_adapter *a, assay_err *err) {
    ASSAY_TRY(check_config(a->config, err));
    for (size_t i = 0; i < assay_checkpoint_n_tensors(a->file); i++)
        ASSAY_TRY(add_tensor(a, assay_checkpoint_get(a->file, i), err));
    if (!a->n_loras && !a->n_whole) return assay_fail(err, ASSAY_EINPUT, "the adapter holds no tensors");
    for (size_t i = 0; i < a->n_loras; i++) ASSAY_TRY(finish_lora(&a->loras[i], a->config, err));
    if (a->n_loras) qsort(a->loras, a->n_loras, sizeof *a->loras, by_module);
    return ASSAY_OK;
}

/* --- opening --- */

static assay_status open_weights(assay_adapter *a, const char *dir, assay_err *err) {
    char *path = assay_path_join(dir, "adapter_model.safetensors"), *pickle = assay_path_join(dir, "adapter_model.bin");
    assay_status s;
    if (!path || !pickle)
        s = assay_nomem(err);
    else if (!assay_path_exists(path) && assay_path_exists(pickle))
        s = assay_fail(err, ASSAY_EUNSUPPORTED, "%s is a pickle: save the adapter as safetensors", pickle);
    else
        s = assay_checkpoint_open(&a->file, path, err);
    assay_free(path);
    assay_free(pickle);
    return s;
}

assay_status assay_adapter_open(assay_adapter **out, const char *dir, assay_err *err) {
    assay_status s;
    char *config = assay_path_join(dir, CONFIG);
    *out = NULL;
    assay_adapter *a = assay_calloc(1, sizeof *a);
    if (!a || !config) {
        s = assay_nomem(err);
        goto out;
    }
    if (!assay_path_exists(config)) {
        s = assay_fail(err, ASSAY_ENOTFOUND, "there is no adapter in %s: it holds no " CONFIG, dir);
        goto out;
    }
    ASSAY_GO(assay_json_load(&a->config, config, err));
    ASSAY_GO(open_weights(a, dir, err));
    s = collect(a, err);
out:
    assay_free(config);
    if (s == ASSAY_OK)
        *out = a;
    else
        assay_adapter_close(a);
    return s;
}

assay_status assay_adapter_parse(assay_adapter **out, const char *config, size_t n_config, const uint8_t *weights, size_t n_weights,
                                 assay_err *err) {
    assay_status s;
    *out = NULL;
    assay_adapter *a = assay_calloc(1, sizeof *a);
    if (!a) return assay_nomem(err);
    ASSAY_GO(assay_json_parse(&a->config, config, n_config, CONFIG, err));
    ASSAY_GO(assay_checkpoint_open_memory(&a->file, weights, n_weights, "adapter_model.safetensors", err));
    s = collect(a, err);
out:
    if (s == ASSAY_OK)
        *out = a;
    else
        assay_adapter_close(a);
    return s;
}

/* --- asking --- */

size_t assay_adapter_n_loras(const assay_adapter *a) {
    return a->n_loras;
}
const assay_lora *assay_adapter_lora(const assay_adapter *a, size_t i) {
    return i < a->n_loras ? &a->loras[i] : NULL;
}

const assay_lora *assay_adapter_find(const assay_adapter *a, const char *weight_name) {
    static const char weight[] = ".weight";
    size_t n = strlen(weight_name), k = sizeof weight - 1;
    if (n <= k || strcmp(weight_name + n - k, weight) != 0) return NULL;
    for (size_t lo = 0, hi = a->n_loras; lo < hi;) {
        size_t mid = (lo + hi) / 2;
        int order = strncmp(a->loras[mid].module, weight_name, n - k);
        if (!order && a->loras[mid].module[n - k]) order = 1;
        if (!order) return &a->loras[mid];
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

size_t assay_adapter_n_whole(const assay_adapter *a) {
    return a->n_whole;
}
const char *assay_adapter_whole_name(const assay_adapter *a, size_t i) {
    return i < a->n_whole ? a->whole[i].name : NULL;
}
const assay_tensor *assay_adapter_whole(const assay_adapter *a, const char *name) {
    size_t i = assay_names_find(&a->wholes, name);
    return i == SIZE_MAX ? NULL : a->whole[i].tensor;
}

assay_status assay_adapter_hash(char hex[65], const assay_adapter *a, assay_err *err) {
    assay_hasher *h = NULL;
    assay_str text = {0};
    char tensors[65];
    assay_status s;
    ASSAY_GO(assay_checkpoint_hash(tensors, a->file, err));
    ASSAY_GO(assay_json_dump(&text, a->config, 0, true, err));
    ASSAY_GO(assay_hasher_new(&h, err));
    assay_hasher_put_str(h, "assay adapter 1");
    assay_hasher_put_str(h, assay_str_c(&text));
    assay_hasher_put_str(h, tensors);
    assay_hasher_finish(h, hex);
out:
    assay_str_free(&text);
    return s;
}

/* --- merging --- */

/* A and B as floats, oriented so that element (r, c) of what is added is sum_k left[r][k] * right[k][c]. */
typedef struct factors {
    float *left, *right; /* [rows of the tensor][rank], [rank][columns] */
    float *lengths;      /* [out], DoRA */
} factors;

static void transpose(float *out, const float *x, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) out[c * rows + r] = x[r * cols + c];
}

static assay_status floats_of(float **out, const assay_tensor *t, bool turned, assay_err *err) {
    int64_t n = assay_tensor_n_elements(t);
    assay_status s = ASSAY_OK;
    float *x = assay_mallocn((size_t)n, sizeof *x), *y = turned ? assay_mallocn((size_t)n, sizeof *y) : NULL;
    if (!x || (turned && !y))
        s = assay_nomem(err);
    else if (!assay_to_f32(x, t->data, t->dtype, (size_t)n))
        s = assay_fail(err, ASSAY_EINPUT, "adapter tensor %s is of type %s where floats are expected", t->name, assay_dtype_name(t->dtype));
    else if (assay_find_nonfinite(x, ASSAY_DTYPE_F32, (size_t)n) >= 0)
        s = assay_fail(err, ASSAY_EINPUT, "adapter tensor %s holds a NaN or infinity", t->name);
    if (s == ASSAY_OK && turned) transpose(y, x, t->dims[0], t->dims[1]);
    if (turned || s != ASSAY_OK) assay_free(x);
    if (s != ASSAY_OK) assay_free(y);
    *out = s != ASSAY_OK ? NULL : turned ? y : x;
    return s;
}

static void add_product(float *w, const factors *f, const assay_lora *l, int64_t row, int64_t n, int64_t columns, float *sum) {
    float scale = (float)l->scale;
    for (int64_t r = 0; r < n; r++) {
        memset(sum, 0, (size_t)columns * sizeof *sum);
        for (int64_t k = 0; k < l->rank; k++) {
            float left = f->left[(row + r) * l->rank + k];
            const float *right = f->right + k * columns;
            for (int64_t c = 0; c < columns; c++) sum[c] += left * right[c];
        }
        for (int64_t c = 0; c < columns; c++) w[r * columns + c] += sum[c] * scale;
    }
}

static void set_lengths(float *w, const float *lengths, int64_t row, int64_t n, int64_t columns) {
    for (int64_t r = 0; r < n; r++) {
        double sum = 0;
        for (int64_t c = 0; c < columns; c++) sum += (double)w[r * columns + c] * (double)w[r * columns + c];
        float factor = sum > 0 ? lengths[row + r] / (float)sqrt(sum) : 0;
        for (int64_t c = 0; c < columns; c++) w[r * columns + c] *= factor;
    }
}

assay_status assay_lora_merge_rows(float *w, const assay_lora *l, int64_t row, int64_t n, int64_t columns, assay_err *err) {
    bool turned = l->is_embedding || l->transposed; /* the base's tensor is [in][out] */
    int64_t rows = turned ? l->in : l->out;
    factors f = {0};
    float *sum = NULL;
    assay_status s;
    if (columns != (turned ? l->out : l->in) || row < 0 || n < 0 || row + n > rows)
        return assay_fail(err, ASSAY_EINPUT, "the adapter's %s is for a matrix of %lld x %lld, the model's has %lld columns", l->module,
                          (long long)rows, (long long)(turned ? l->out : l->in), (long long)columns);
    if (l->magnitude && turned)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "adapter: DoRA with fan_in_fan_out (%s) is not supported", l->module);
    ASSAY_GO(floats_of(&f.left, turned ? l->down : l->up, turned, err));
    ASSAY_GO(floats_of(&f.right, turned ? l->up : l->down, turned, err));
    if (l->magnitude) ASSAY_GO(floats_of(&f.lengths, l->magnitude, false, err));
    sum = assay_mallocn((size_t)columns, sizeof *sum);
    if (!sum) {
        s = assay_nomem(err);
        goto out;
    }
    add_product(w, &f, l, row, n, columns, sum);
    if (f.lengths) set_lengths(w, f.lengths, row, n, columns);
out:
    assay_free(f.left);
    assay_free(f.right);
    assay_free(f.lengths);
    assay_free(sum);
    return s;
}
