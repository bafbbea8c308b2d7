/* tiny.h: a small Llama checkpoint made on the spot, and what the tests of this room do with directories. */
#ifndef TESTS_METHOD_TINY_H
#define TESTS_METHOD_TINY_H

#include <dirent.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "format/format.h"
#include "method/method.h"
#include "num/convert.h"

/* 135,168 elements in an MLP matrix: three blocks of rows, the last one short. */
enum {
    TINY_HIDDEN = 128,
    TINY_INTER = 1056,
    TINY_LAYERS = 2,
    TINY_HEADS = 4,
    TINY_KV = 2,
    TINY_HEAD_DIM = 32,
    TINY_VOCAB = 100
};
#define TINY_MATRICES (TINY_LAYERS * 7)

static inline char *tiny_dir(void) {
    char path[] = "/tmp/assay-method-XXXXXX";
    return mkdtemp(path) ? assay_strdup(path) : NULL;
}

static inline void tiny_remove(const char *dir) {
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    rmdir(dir);
}

typedef struct tiny_maker {
    assay_ckpt_writer *w;
    assay_rng rng;
    uint64_t poison; /* NaN into this element of the k_proj of layer 1; UINT64_MAX = none */
    assay_err *err;
} tiny_maker;

static inline assay_status tiny_tensor(tiny_maker *m, const char *name, int64_t rows, int64_t cols) {
    size_t n = (size_t)(rows * (cols ? cols : 1));
    int64_t dims[2] = {rows, cols};
    uint16_t *data = assay_mallocn(n, 2);
    for (size_t i = 0; i < n; i++)
        data[i] = cols ? assay_f32_to_bf16((float)(0.05 * assay_rng_normal(&m->rng))) : 0x3f80;
    if (m->poison < n && strstr(name, "1.self_attn.k_proj")) data[m->poison] = 0x7fc0;
    assay_status s = assay_ckpt_writer_put(m->w, name, ASSAY_DTYPE_BF16, cols ? 2 : 1, dims, data, m->err);
    assay_free(data);
    return s;
}

static inline assay_status tiny_text(const char *dir, const char *name, const char *text, assay_err *err) {
    char *path = assay_path_join(dir, name);
    assay_status s = assay_write_file(path, text, strlen(text), err);
    assay_free(path);
    return s;
}

#define TINY_CONFIG                                                                                          \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 128, "          \
    "\"intermediate_size\": 1056, "                                                                          \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 32, "   \
    "\"vocab_size\": 100, "                                                                                  \
    "\"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"max_position_embeddings\": 64, "                    \
    "\"tie_word_embeddings\": false, "                                                                       \
    "\"hidden_act\": \"silu\", \"attention_bias\": false, \"mlp_bias\": false, \"torch_dtype\": "            \
    "\"bfloat16\"}"

static inline assay_status tiny_make(const char *dir, uint64_t poison, assay_err *err) {
    static const struct {
        const char *name;
        int64_t rows, cols;
    } parts[] = {
        {"input_layernorm", TINY_HIDDEN, 0},
        {"mlp.down_proj", TINY_HIDDEN, TINY_INTER},
        {"mlp.gate_proj", TINY_INTER, TINY_HIDDEN},
        {"mlp.up_proj", TINY_INTER, TINY_HIDDEN},
        {"post_attention_layernorm", TINY_HIDDEN, 0},
        {"self_attn.k_proj", TINY_KV * TINY_HEAD_DIM, TINY_HIDDEN},
        {"self_attn.o_proj", TINY_HIDDEN, TINY_HIDDEN},
        {"self_attn.q_proj", TINY_HIDDEN, TINY_HIDDEN},
        {"self_attn.v_proj", TINY_KV * TINY_HEAD_DIM, TINY_HIDDEN},
    };
    tiny_maker m = {.poison = poison, .err = err};
    assay_rng_init(&m.rng, 7);
    ASSAY_TRY(assay_ckpt_writer_open(&m.w, dir, 0, err));
    ASSAY_TRY(tiny_tensor(&m, "model.embed_tokens.weight", TINY_VOCAB, TINY_HIDDEN));
    for (int l = 0; l < TINY_LAYERS; l++)
        for (size_t i = 0; i < ASSAY_LEN(parts); i++) {
            char name[128];
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, parts[i].name);
            ASSAY_TRY(tiny_tensor(&m, name, parts[i].rows, parts[i].cols));
        }
    ASSAY_TRY(tiny_tensor(&m, "model.norm.weight", TINY_HIDDEN, 0));
    ASSAY_TRY(tiny_tensor(&m, "lm_head.weight", TINY_VOCAB, TINY_HIDDEN));
    ASSAY_TRY(assay_ckpt_writer_commit(m.w, err));
    ASSAY_TRY(tiny_text(dir, "config.json", TINY_CONFIG, err));
    ASSAY_TRY(tiny_text(dir, "generation_config.json", "{\"temperature\": 0.7}", err));
    ASSAY_TRY(tiny_text(dir, "tokenizer.json", "{}", err));
    ASSAY_TRY(tiny_text(dir, "LICENSE.txt", "as you like\n", err));
    return tiny_text(dir, "notes.txt", "stays at home\n", err);
}

static inline int tiny_compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Name and hash of every file of a directory in order, but for the two records, which hold times: equal
 * digests, equal directories. */
static inline void tiny_digest(char hex[65], const char *dir) {
    char *names[64];
    size_t n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) && n < 64;)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && strcmp(e->d_name, "layers.jsonl") &&
            strcmp(e->d_name, "assay.json"))
            names[n++] = assay_strdup(e->d_name);
    if (d) closedir(d);
    qsort(names, n, sizeof *names, tiny_compare);
    assay_str all = {0};
    for (size_t i = 0; i < n; i++) {
        char one[65] = "unreadable", *path = assay_path_join(dir, names[i]);
        assay_hash_file(one, path, NULL);
        assay_str_printf(&all, "%s %s\n", names[i], one);
        assay_free(path);
        assay_free(names[i]);
    }
    assay_hash_bytes(hex, assay_str_c(&all), all.len);
    assay_str_free(&all);
}

/* Quantizes by a one-line recipe. */
static inline assay_status tiny_quantize(assay_quantize_result *res, const char *model, const char *out,
                                         const char *recipe, const assay_quantize_opts *o, assay_err *err) {
    assay_recipe *r;
    ASSAY_TRY(assay_recipe_from_string(&r, recipe, err));
    assay_status s = assay_quantize(res, model, out, r, o, err);
    assay_recipe_free(r);
    return s;
}

/* n ids of the vocabulary. */
static inline void tiny_tokens(int32_t *ids, size_t n, uint64_t seed) {
    assay_rng rng;
    assay_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)assay_rng_below(&rng, TINY_VOCAB);
}

static inline void tiny_die_at(void *ctx, const assay_loss *l) {
    (void)l;
    if (--*(int *)ctx == 0) kill(getpid(), SIGKILL);
}

static inline int tiny_die_behind(void *ctx, const char *phase, double done, double total, const char *unit) {
    (void)phase;
    (void)unit;
    if (done >= total * *(double *)ctx) kill(getpid(), SIGKILL);
    return 0;
}

/* Quantizes in a child that is killed from outside, wherever it happens to be, again and again until one run comes through. Microseconds to
 * wait at first; they grow, so that a slow or instrumented machine comes through in the end. */
static inline void tiny_run_until_through(const char *model, const char *out, const char *recipe, const assay_quantize_opts *o, double wait,
                                          double growth) {
    int status = 0, kills = 0;
    for (int attempt = 0; attempt < 150; attempt++, wait *= growth) {
        pid_t pid = fork();
        if (!pid) {
            assay_quantize_result res;
            assay_err err = {0};
            assay_status s = tiny_quantize(&res, model, out, recipe, o, &err);
            if (s != ASSAY_OK) fprintf(stderr, "# %s\n", err.message); /* what a run that was to go on stopped at */
            _exit(s == ASSAY_OK ? 0 : 1);
        }
        usleep((useconds_t)wait % 1000000);
        sleep((unsigned)(wait / 1e6));
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        if (WIFEXITED(status)) break;
        kills++;
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(kills > 3);
}

/* Quantizes in a child that kills itself once it has told the losses of so many matrices; or, with 0 of them, once that share of its
 * work is done. */
static inline void tiny_run_killed(const char *model, const char *out, const char *recipe, const assay_quantize_opts *options,
                                   int matrices, double share) {
    pid_t pid = fork();
    if (!pid) {
        assay_progress p = {.fn = tiny_die_behind, .ctx = &share};
        assay_quantize_opts o = *options;
        assay_quantize_result res;
        if (matrices) {
            o.on_loss = tiny_die_at;
            o.on_loss_ctx = &matrices;
        } else
            o.progress = &p;
        tiny_quantize(&res, model, out, recipe, &o, NULL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

#endif
