/* test_gguf.c: quantizing to GGUF: the types that llama.cpp's mixes give, the words for them, the file, importance. That the bytes are
 * llama.cpp's own is held by tools/interop_ggml.py and tests/precision/test_block.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include "base/gguf.h"
#include "base/str.h"
#include "format/imatrix.h"
#include "method/gguf_mix.h"
#include "method/gguf_types.h"
#include "method/importance_run.h"
#include "method/tiny.h"

static char *model; /* tiny, with the demo's tokenizer */
static int32_t ids[8 * 24];
static size_t first[9];
static assay_calibration calibration = {.ids = ids, .first = first, .n_seqs = 8, .hash = "some tokens"};

static int make_model(void **state) {
    (void)state;
    char *text;
    size_t n;
    assay_err err = {0};
    tiny_tokens(ids, ASSAY_LEN(ids), 3);
    for (size_t i = 0; i < 8; i++) first[i + 1] = first[i] + 17 + i;
    model = tiny_dir();
    if (!model || tiny_make(model, UINT64_MAX, &err) != ASSAY_OK) return -1;
    if (assay_read_file(&text, &n, "models/demo/tokenizer.json", 0, &err) != ASSAY_OK) return -1;
    assay_status s = tiny_text(model, "tokenizer.json", text, &err);
    assay_free(text);
    return s == ASSAY_OK ? 0 : -1;
}

static int remove_model(void **state) {
    (void)state;
    tiny_remove(model);
    assay_free(model);
    return 0;
}

/* --- mixes --- */

typedef struct shape {
    const char *name, *arch;
    int64_t layers, hidden, heads, kv, head_dim, ff, experts;
    bool tied;
} shape;

/* golden/make_gguf_mixes.py's. */
static const shape SHAPES[] = {
    {"llama-3.1-8b", "llama", 32, 4096, 32, 8, 128, 14336, 0, false},   {"llama-2-13b", "llama", 40, 5120, 40, 40, 128, 13824, 0, false},
    {"llama-3.1-70b", "llama", 80, 8192, 64, 8, 128, 28672, 0, false},  {"mixtral-8x7b", "llama", 32, 4096, 32, 8, 128, 14336, 8, false},
    {"qwen2.5-7b", "qwen2", 28, 3584, 28, 4, 128, 18944, 0, false},     {"qwen2.5-0.5b", "qwen2", 24, 896, 14, 2, 64, 4864, 0, true},
    {"qwen3-30b-a3b", "qwen3moe", 48, 2048, 32, 4, 128, 768, 128, false},
};

static size_t list_tensors(assay_mix_tensor *t, const shape *s) {
    const struct {
        const char *name;
        int64_t cols;
    } parts[] = {{"attn_k", s->hidden},
                 {"attn_output", s->heads * s->head_dim},
                 {"attn_q", s->hidden},
                 {"attn_v", s->hidden},
                 {s->experts ? "ffn_down_exps" : "ffn_down", s->ff},
                 {s->experts ? "ffn_gate_exps" : "ffn_gate", s->hidden},
                 {s->experts ? "ffn_up_exps" : "ffn_up", s->hidden}};
    size_t n = 0;
    for (int64_t l = s->layers; l-- > 0;) /* any order will do */
        for (size_t k = 0; k < ASSAY_LEN(parts); k++) {
            t[n] = (assay_mix_tensor){.cols = parts[k].cols};
            snprintf(t[n++].name, sizeof t->name, "blk.%lld.%s.weight", (long long)l, parts[k].name);
        }
    t[n++] = (assay_mix_tensor){.name = "token_embd.weight", .cols = s->hidden};
    if (!s->tied) t[n++] = (assay_mix_tensor){.name = "output.weight", .cols = s->hidden};
    return n;
}

static const char *kind_of(char kind[64], const char *name) {
    const char *p = strncmp(name, "blk.", 4) == 0 ? strchr(name + 4, '.') + 1 : name;
    snprintf(kind, 64, "%.*s", (int)(strlen(p) - strlen(".weight")), p);
    return kind;
}

/* "attn_k 32 q4_k; attn_v 4 q6_k 28 q4_k; ...", kinds by name. */
static void describe(assay_str *out, const assay_mix_tensor *t, size_t n) {
    char last[64] = "", kind[64];
    for (bool more = true; more;) {
        char next[64] = "";
        for (size_t i = 0; i < n; i++)
            if (strcmp(kind_of(kind, t[i].name), last) > 0 && (!next[0] || strcmp(kind, next) < 0)) snprintf(next, sizeof next, "%s", kind);
        more = next[0] != 0;
        if (!more) break;
        assay_str_printf(out, "%s%s", last[0] ? "; " : "", next);
        memcpy(last, next, sizeof last);
        size_t run = 0;
        assay_precision type = ASSAY_PRECISION_COUNT;
        for (size_t i = 0; i <= n; i++) {
            if (i < n && strcmp(kind_of(kind, t[i].name), next) != 0) continue;
            if (run && (i == n || t[i].type != type)) {
                assay_str_printf(out, " %zu %s", run, assay_precision_name(type));
                run = 0;
            }
            if (i < n) type = t[i].type;
            run++;
        }
    }
}

static void types_are_those_of_llama_cpps_quantizer(void **state) {
    (void)state;
    char *golden, *save = NULL;
    size_t size, lines = 0;
    assay_mix_tensor *t = assay_calloc(80 * 7 + 2, sizeof *t);
    assert_int_equal(assay_read_file(&golden, &size, "tests/method/golden/gguf_mixes.txt", 0, NULL), ASSAY_OK);
    for (char *line = strtok_r(golden, "\n", &save); line; line = strtok_r(NULL, "\n", &save), lines++) {
        char name[32], word[16], how[8];
        assay_mix mix;
        const shape *s = SHAPES;
        assert_int_equal(sscanf(line, "%31s %15s %7[a-z]:", name, word, how), 3);
        while (strcmp(s->name, name) != 0) assert_true(++s < SHAPES + ASSAY_LEN(SHAPES));
        assert_true(assay_mix_parse(&mix, word));
        assay_mix_model m = {.arch = s->arch, .n_layers = s->layers, .n_heads = s->heads, .n_kv_heads = s->kv, .n_experts = s->experts,
                             .has_importance = !strcmp(how, "seen")};
        size_t n = list_tensors(t, s);
        assay_mix_assign(t, n, mix, &m);
        assay_str got = {0};
        describe(&got, t, n);
        if (strcmp(got.s, strchr(line, ':') + 2) != 0) fail_msg("%s %s %s:\n  llama.cpp %s\n  here      %s", name, word, how, strchr(line, ':') + 2, got.s);
        assay_str_free(&got);
    }
    assert_true(lines > ASSAY_LEN(SHAPES) * 29);
    assay_free(golden);
    assay_free(t);
}

/* What is given is left alone, and does not count; but its rows must be divided. */
static void given_types_stand_aside(void **state) {
    (void)state;
    assay_mix_tensor t[] = {{.name = "blk.0.attn_v.weight", .cols = 256, .given = true, .type = ASSAY_PRECISION_Q8_0},
                            {.name = "blk.1.attn_v.weight", .cols = 256},
                            {.name = "blk.2.attn_v.weight", .cols = 256},
                            {.name = "blk.3.attn_v.weight", .cols = 256},
                            {.name = "blk.4.ffn_up.weight", .cols = 96, .given = true, .type = ASSAY_PRECISION_Q4_K},
                            {.name = "output.weight", .cols = 40, .given = true, .type = ASSAY_PRECISION_Q4_0}};
    assay_mix_assign(t, ASSAY_LEN(t), ASSAY_MIX_Q3_K_M, &(assay_mix_model){.arch = "llama", .n_layers = 4, .n_heads = 4, .n_kv_heads = 4});
    static const assay_precision want[] = {ASSAY_PRECISION_F16,  ASSAY_PRECISION_Q8_0, ASSAY_PRECISION_Q5_K,
                                           ASSAY_PRECISION_Q5_K, ASSAY_PRECISION_Q4_K, ASSAY_PRECISION_Q5_0};
    for (size_t i = 0; i < ASSAY_LEN(t); i++) assert_int_equal(t[i].type, want[i]);
}

/* --- words --- */

static assay_choice base_of(const char *line) {
    assay_recipe *r;
    assay_err err = {0};
    if (assay_recipe_from_string(&r, line, &err) != ASSAY_OK) fail_msg("%s: %s", line, err.message);
    assay_choice c = *assay_recipe_base(r);
    assay_recipe_free(r);
    return c;
}

static void every_mix_is_a_word(void **state) {
    (void)state;
    char line[40];
    for (int m = 1; m < ASSAY_MIX_COUNT; m++) {
        snprintf(line, sizeof line, "gguf,%s", assay_mix_name((assay_mix)m));
        assay_choice c = base_of(line);
        assert_int_equal(c.mix, m);
        assert_int_equal(c.precision, assay_mix_type((assay_mix)m));
        assert_false(c.pure);
    }
    assert_int_equal(base_of("gguf").mix, ASSAY_MIX_Q4_K_M);
    assert_int_equal(base_of("gguf,q4_k").mix, ASSAY_MIX_Q4_K_M); /* as llama-quantize has it */
    assert_int_equal(base_of("gguf,Q5_K_S").mix, ASSAY_MIX_Q5_K_S);
    assert_int_equal(base_of("gguf,iq2_s").precision, ASSAY_PRECISION_IQ2_XS);
}

static void pure_is_one_type(void **state) {
    (void)state;
    static const struct {
        const char *line;
        assay_precision want;
    } cases[] = {{"gguf,q4_k,pure", ASSAY_PRECISION_Q4_K},     {"gguf,pure", ASSAY_PRECISION_Q4_K},  {"gguf,iq2_s,pure", ASSAY_PRECISION_IQ2_S},
                 {"gguf,q3_k_l,pure", ASSAY_PRECISION_Q3_K}, {"gguf,bf16", ASSAY_PRECISION_BF16}};
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_choice c = base_of(cases[i].line);
        assert_int_equal(c.precision, cases[i].want);
        assert_int_equal(c.mix, ASSAY_MIX_PURE);
        assert_true(c.pure);
    }
}

/* What assay.json and layers.jsonl hold. */
static void recipes_that_differ_in_their_mix_alone_have_other_hashes(void **state) {
    (void)state;
    static const char *const lines[] = {"gguf,q4_k_m", "gguf,q4_k_s", "gguf,q4_k,pure", "gguf,q4_0"};
    char hash[ASSAY_LEN(lines)][65];
    for (size_t i = 0; i < ASSAY_LEN(lines); i++) {
        assay_recipe *r;
        assert_int_equal(assay_recipe_from_string(&r, lines[i], NULL), ASSAY_OK);
        assert_int_equal(assay_recipe_hash(hash[i], r, NULL), ASSAY_OK);
        for (size_t k = 0; k < i; k++) assert_string_not_equal(hash[i], hash[k]);
        assay_recipe_free(r);
    }
}

static void overrides_take_types(void **state) {
    (void)state;
    assay_recipe *r;
    assay_choice c;
    assay_err err = {0};
    assay_tensor_spec spec = {.name = "model.layers.0.mlp.up_proj.weight", .is_linear = true}, head = {.name = "lm_head.weight", .is_head = true};
    assert_int_equal(assay_recipe_from_string(&r, "gguf,q4_k_m;match=up_proj,precision=iq2_s", &err), ASSAY_OK);
    assay_recipe_choose(&c, r, &spec, NULL);
    assert_int_equal(c.precision, ASSAY_PRECISION_IQ2_S);
    assert_int_equal(c.mix, ASSAY_MIX_PURE);
    assay_recipe_choose(&c, r, &head, NULL);
    assert_int_equal(c.mix, ASSAY_MIX_Q4_K_M);
    assay_recipe_free(r);
    assert_int_equal(assay_recipe_from_string(&r, "gguf,q4_k_m;match=up_proj,precision=q3_k_l", &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "q3_k_l is a mix for a whole model: an override takes a type, like q3_k"));
    assert_int_equal(assay_recipe_from_string(&r, "gguf,int4", &err), ASSAY_EINPUT);
    assert_int_equal(assay_recipe_from_string(&r, "rtn,q4_k_m", &err), ASSAY_EINPUT);
}

/* --- the file --- */

static assay_checkpoint *open_output(const char *dir) {
    assay_checkpoint *c;
    assay_err err = {0};
    if (assay_checkpoint_open(&c, dir, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return c;
}

static void quantize(assay_quantize_result *res, const char *out, const char *recipe, const assay_quantize_opts *o) {
    assay_err err = {0};
    if (tiny_quantize(res, model, out, recipe, o, &err) != ASSAY_OK) fail_msg("%s: %s", recipe, err.message);
}

static int block_of(const assay_checkpoint *c, const char *name) {
    const assay_tensor *t = assay_checkpoint_find(c, name);
    assert_non_null(t);
    return t->block;
}

/* Rows of 128 and 1056: no block of 256 divides them. */
static void a_folder_with_one_file_holds_the_model(void **state) {
    (void)state;
    assay_quantize_result dry, res;
    assay_quantize_opts o = {.n_threads = 2, .dry_run = true};
    char *out = tiny_dir(), *file = assay_path_join(out, "model.gguf"), *config = assay_path_join(out, "config.json");
    static const char recipe[] = "gguf,q4_k_m,skip=o_proj;match=k_proj,precision=q8_0";
    quantize(&dry, NULL, recipe, &o);
    o.dry_run = false;
    quantize(&res, out, recipe, &o);
    assert_int_equal(res.convention, ASSAY_CONVENTION_GGUF);
    assert_int_equal(res.output_bytes, assay_file_size(file));
    assert_true(fabs((double)dry.output_bytes / (double)res.output_bytes - 1) < 0.005);
    assert_false(assay_path_exists(config)); /* the file says all itself */
    assay_checkpoint *c = open_output(out);
    assert_int_equal(block_of(c, "model.layers.0.self_attn.q_proj.weight"), ASSAY_PRECISION_Q5_0);
    assert_int_equal(block_of(c, "model.layers.1.self_attn.k_proj.weight"), ASSAY_PRECISION_Q8_0);
    assert_int_equal(block_of(c, "model.layers.1.self_attn.o_proj.weight"), 0);
    assert_int_equal(block_of(c, "model.layers.1.mlp.down_proj.weight"), ASSAY_PRECISION_Q8_0); /* q6_k's */
    assert_int_equal(block_of(c, "model.embed_tokens.weight"), ASSAY_PRECISION_Q5_0);
    assert_int_equal(block_of(c, "lm_head.weight"), ASSAY_PRECISION_Q8_0);
    assert_int_equal(assay_checkpoint_find(c, "model.norm.weight")->dtype, ASSAY_DTYPE_F32);
    assay_checkpoint_close(c);
    assay_gguf *g;
    int64_t type = 0;
    assert_int_equal(assay_gguf_open(&g, file, NULL), ASSAY_OK);
    assert_true(assay_gguf_int(&type, g, assay_gguf_find(g, "general.file_type"), 0) && type == 15);
    assert_non_null(assay_gguf_find(g, "tokenizer.ggml.tokens"));
    assay_gguf_close(g);
    quantize(&res, out, recipe, &o);
    assert_true(res.reused);
    tiny_remove(out);
    assay_free(config);
    assay_free(file);
    assay_free(out);
}

static void any_thread_count_gives_the_same_bytes_and_so_does_going_on_after_a_kill(void **state) {
    (void)state;
    static const struct {
        const char *recipe;
        bool calibrated;
    } runs[] = {{"gguf,q3_k_m", false}, {"gguf,iq3_xs", true}, {"gguf,q4_0,rotate", true}};
    for (size_t r = 0; r < ASSAY_LEN(runs); r++) {
        char want[65], got[65], *out = tiny_dir();
        assay_quantize_opts o = {.n_threads = 1, .calibration = runs[r].calibrated ? &calibration : NULL};
        assay_quantize_result res;
        quantize(&res, out, runs[r].recipe, &o);
        tiny_digest(want, out);
        tiny_remove(out);
        assay_free(out);
        for (int kill_at = 1; kill_at <= 10; kill_at += 3) {
            out = tiny_dir();
            tiny_run_killed(model, out, runs[r].recipe, &o, kill_at, 0);
            assay_quantize_opts again = o;
            again.n_threads = 1 + kill_at % 3;
            quantize(&res, out, runs[r].recipe, &again);
            tiny_digest(got, out);
            if (strcmp(got, want) != 0) fail_msg("%s: other bytes after a kill at %d", runs[r].recipe, kill_at);
            tiny_remove(out);
            assay_free(out);
        }
    }
}

/* What `assay plan` and the studies' sizes are made of. */
static void types_are_foreseen_from_the_configuration(void **state) {
    (void)state;
    static const char recipe[] = "gguf,q4_k_m,skip=o_proj;match=k_proj,precision=q8_0";
    assay_quantize_opts o = {0};
    assay_quantize_result res;
    assay_recipe *r;
    assay_config config;
    assay_gguf_types *types;
    char *out = tiny_dir();
    quantize(&res, out, recipe, &o);
    assert_int_equal(assay_recipe_from_string(&r, recipe, NULL), ASSAY_OK);
    assert_int_equal(assay_config_open(&config, model, NULL), ASSAY_OK);
    assert_int_equal(assay_gguf_types_new(&types, r, &config, NULL), ASSAY_OK);
    assay_checkpoint *c = open_output(out);
    for (size_t i = 0; i < assay_checkpoint_n_tensors(c); i++) {
        const assay_tensor *t = assay_checkpoint_get(c, i);
        assay_choice choice = {.method = ASSAY_METHOD_NONE};
        assay_gguf_types_apply(&choice, types, t->name);
        assert_int_equal(t->block, choice.method == ASSAY_METHOD_NONE ? 0 : (int)choice.precision);
    }
    assay_checkpoint_close(c);
    assay_gguf_types_free(types);
    assay_recipe_free(r);
    assert_int_equal(assay_recipe_from_string(&r, "rtn,int4", NULL), ASSAY_OK);
    assert_int_equal(assay_gguf_types_new(&types, r, &config, NULL), ASSAY_OK);
    assert_null(types);
    assay_recipe_free(r);
    assay_config_deinit(&config);
    tiny_remove(out);
    assay_free(out);
}

/* --- importance --- */

static char *imatrix_path(const char *dir) {
    return assay_path_join(dir, "imatrix.gguf");
}

static void compute(assay_importance_result *res, const char *path, int n_threads) {
    assay_err err = {0};
    assay_importance_opts o = {.dataset = "tokens", .n_threads = n_threads};
    if (assay_importance_run(res, model, path, &calibration, &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
}

/* What flows into the first layer's queries: normalized embeddings, norms being 1. */
static void weights_are_mean_squares_of_the_original_inputs(void **state) {
    (void)state;
    assay_importance_result res;
    assay_imatrix *im;
    assay_imatrix_info info;
    float got[TINY_HIDDEN];
    double want[TINY_HIDDEN] = {0};
    char *dir = tiny_dir(), *path = imatrix_path(dir);
    compute(&res, path, 2);
    assert_int_equal(res.n_entries, TINY_MATRICES);
    assert_int_equal(res.n_tokens, first[8]);
    assay_checkpoint *c = open_output(model);
    const uint16_t *e = assay_checkpoint_find(c, "model.embed_tokens.weight")->data;
    for (size_t t = 0; t < first[8]; t++) {
        double sum = 0;
        const uint16_t *row = e + (size_t)ids[t] * TINY_HIDDEN;
        for (int k = 0; k < TINY_HIDDEN; k++) sum += (double)assay_bf16_to_f32(row[k]) * (double)assay_bf16_to_f32(row[k]);
        for (int k = 0; k < TINY_HIDDEN; k++)
            want[k] += (double)assay_bf16_to_f32(row[k]) * (double)assay_bf16_to_f32(row[k]) / (sum / TINY_HIDDEN + 1e-5) / (double)first[8];
    }
    assay_checkpoint_close(c);
    assert_int_equal(assay_imatrix_open(&im, path, NULL), ASSAY_OK);
    assay_imatrix_describe(&info, im);
    assert_string_equal(info.dataset, "tokens");
    assert_int_equal(assay_imatrix_weights(got, im, "blk.0.attn_q.weight", TINY_HIDDEN, -1, 0, NULL), ASSAY_OK);
    for (int k = 0; k < TINY_HIDDEN; k++) assert_true(fabs((double)got[k] - want[k]) <= 0.01 * want[k]); /* activations are bfloat16 */
    assay_imatrix_close(im);
    tiny_remove(dir);
    assay_free(path);
    assay_free(dir);
}

static void same_tensors(bool want, const char *a_dir, const char *b_dir) {
    assay_checkpoint *a = open_output(a_dir), *b = open_output(b_dir);
    bool same = true;
    for (size_t i = 0; i < assay_checkpoint_n_tensors(a); i++) {
        const assay_tensor *x = assay_checkpoint_get(a, i), *y = assay_checkpoint_find(b, x->name);
        same = same && y && x->block == y->block && x->n_bytes == y->n_bytes && !memcmp(x->data, y->data, x->n_bytes);
    }
    assert_int_equal(same, want);
    assay_checkpoint_close(a);
    assay_checkpoint_close(b);
}

static void a_file_and_calibration_on_the_way_give_the_same_tensors(void **state) {
    (void)state;
    assay_importance_result im;
    assay_quantize_result res;
    char *dir = tiny_dir(), *path = imatrix_path(dir), *out[3] = {tiny_dir(), tiny_dir(), tiny_dir()};
    compute(&im, path, 1);
    assay_quantize_opts o[3] = {{.calibration = &calibration}, {.imatrix = path}, {0}};
    for (int i = 0; i < 3; i++) quantize(&res, out[i], "gguf,q4_0", &o[i]);
    same_tensors(true, out[0], out[1]);
    same_tensors(false, out[0], out[2]);
    assay_loss *losses;
    size_t n;
    assert_int_equal(assay_losses_load(&losses, &n, out[0], NULL), ASSAY_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(losses[i].layer >= 0, strstr(losses[i].chosen, "importance") != NULL);
        assert_int_equal(losses[i].layer >= 0, losses[i].output_error >= 0);
    }
    assay_free(losses);
    for (int i = 0; i < 3; i++) {
        tiny_remove(out[i]);
        assay_free(out[i]);
    }
    tiny_remove(dir);
    assay_free(path);
    assay_free(dir);
}

/* A GGUF file is a source like a folder: its rows lie in another order, its vectors are float32. */
static void a_gguf_file_is_a_source_too(void **state) {
    (void)state;
    assay_quantize_result res;
    char *plain = tiny_dir(), *out[2] = {tiny_dir(), tiny_dir()};
    assay_quantize_opts o = {.calibration = &calibration};
    quantize(&res, plain, "gguf,bf16", &o);
    assay_err err = {0};
    for (int i = 0; i < 2; i++)
        if (tiny_quantize(&res, i ? plain : model, out[i], "gguf,q5_k_m", &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    same_tensors(true, out[0], out[1]);
    assert_int_equal(tiny_quantize(&res, out[0], plain, "gguf,q4_0", &o, &err), ASSAY_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "quantized already"));
    for (int i = 0; i < 2; i++) {
        tiny_remove(out[i]);
        assay_free(out[i]);
    }
    tiny_remove(plain);
    assay_free(plain);
}

static int die_later(void *ctx, const char *phase, double done, double total, const char *unit) {
    (void)phase;
    (void)unit;
    if (done > total * *(double *)ctx) kill(getpid(), SIGKILL);
    return 0;
}

static void computing_it_goes_on_after_a_kill(void **state) {
    (void)state;
    char want[65], got[65], *dir = tiny_dir(), *path = imatrix_path(dir);
    assay_importance_result res;
    compute(&res, path, 1);
    assay_hash_file(want, path, NULL);
    for (double share = 0.1; share < 1; share += 0.4) {
        remove(path);
        pid_t pid = fork();
        if (!pid) {
            assay_progress p = {.fn = die_later, .ctx = &share};
            assay_importance_opts o = {.dataset = "tokens", .n_threads = 1, .progress = &p};
            assay_importance_run(&res, model, path, &calibration, &o, NULL);
            _exit(1);
        }
        int status;
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));
        assert_false(assay_path_exists(path));
        compute(&res, path, 3);
        assay_hash_file(got, path, NULL);
        assert_string_equal(got, want);
    }
    char work[512];
    snprintf(work, sizeof work, "%s.work", path);
    assert_false(assay_path_exists(work));
    tiny_remove(dir);
    assay_free(path);
    assay_free(dir);
}

/* --- refusals --- */

static void refuses(const char *m, const char *recipe, const assay_quantize_opts *o, assay_status want, const char *why) {
    assay_err err = {0};
    assay_quantize_result res;
    assay_quantize_opts dry = *o;
    dry.dry_run = true;
    assay_status got = tiny_quantize(&res, m, NULL, recipe, &dry, &err);
    if (got != want) fail_msg("%s: status %d, '%s'", recipe, got, err.message);
    if (!strstr(err.message, why)) fail_msg("%s: '%s' does not say '%s'", recipe, err.message, why);
}

static void refusals_come_before_the_work_and_say_what_to_do(void **state) {
    (void)state;
    assay_importance_result im;
    char *dir = tiny_dir(), *path = imatrix_path(dir);
    compute(&im, path, 1);
    assay_quantize_opts none = {0}, with = {.imatrix = path}, missing = {.imatrix = "/nowhere"};
    refuses("models/demo", "gguf,iq2_xxs", &none, ASSAY_EUSAGE, "needs an importance matrix: give calibration data");
    refuses("models/demo", "gguf,q2_k_s", &none, ASSAY_EUSAGE, "needs an importance matrix");
    refuses("models/demo", "gguf,q4_0;match=embed,precision=iq1_m", &none, ASSAY_EUSAGE, "'model.embed_tokens.weight' needs");
    refuses("models/demo", "gguf,q4_0", &with, ASSAY_EINPUT, "it is another model's");
    refuses(model, "gguf,q4_0", &missing, ASSAY_ENOTFOUND, "/nowhere");
    refuses(model, "rtn,int8", &with, ASSAY_EUSAGE, "is for method gguf alone");
    refuses(model, "gguf,q4_0,rotate,rotate_online", &none, ASSAY_EUNSUPPORTED, "rotate without rotate_online");
    refuses(model, "gguf,q4_0;match=k_proj,method=rtn,precision=int8", &none, ASSAY_EUNSUPPORTED, "no convention holds both");
    tiny_remove(dir);
    assay_free(path);
    assay_free(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_those_of_llama_cpps_quantizer),
        cmocka_unit_test(given_types_stand_aside),
        cmocka_unit_test(every_mix_is_a_word),
        cmocka_unit_test(pure_is_one_type),
        cmocka_unit_test(recipes_that_differ_in_their_mix_alone_have_other_hashes),
        cmocka_unit_test(overrides_take_types),
        cmocka_unit_test(a_folder_with_one_file_holds_the_model),
        cmocka_unit_test(any_thread_count_gives_the_same_bytes_and_so_does_going_on_after_a_kill),
        cmocka_unit_test(types_are_foreseen_from_the_configuration),
        cmocka_unit_test(weights_are_mean_squares_of_the_original_inputs),
        cmocka_unit_test(a_file_and_calibration_on_the_way_give_the_same_tensors),
        cmocka_unit_test(a_gguf_file_is_a_source_too),
        cmocka_unit_test(computing_it_goes_on_after_a_kill),
        cmocka_unit_test(refusals_come_before_the_work_and_say_what_to_do),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
