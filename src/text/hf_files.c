/* hf_files.c: the tokenizer in a GGUF file's metadata as files beside a checkpoint in safetensors. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "text/gguf_vocab.h"
#include "text/hf.h"

/* The tokens that end an answer: eos, and those that llama.cpp also stops at. */
static const char *const ENDS[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};

static bool get_int(int64_t *out, const assay_gguf *g, const char *key) {
    return assay_gguf_int(out, g, assay_gguf_find(g, key), 0);
}

/* NULL in *out when there is nothing to say: config.json has the one eos. */
static assay_status make_generation(json_t **out, const assay_gguf *g, size_t n_tokens, assay_err *err) {
    json_t *ends = json_array(), *j = NULL;
    int64_t id, seen[ASSAY_LEN(ENDS)];
    size_t n = 0;
    assay_status s = ends ? ASSAY_OK : assay_nomem(err);
    for (size_t k = 0; s == ASSAY_OK && k < ASSAY_LEN(ENDS); k++) {
        bool again = !get_int(&id, g, ENDS[k]) || id < 0 || (uint64_t)id >= n_tokens;
        for (size_t i = 0; i < n && !again; i++) again = seen[i] == id;
        if (again) continue;
        seen[n++] = id;
        if (json_array_append_new(ends, json_integer(id)) != 0) s = assay_nomem(err);
    }
    if (s == ASSAY_OK && n > 1) {
        j = json_pack("{s:O}", "eos_token_id", ends);
        if (!j || (get_int(&id, g, "tokenizer.ggml.bos_token_id") && json_object_set_new(j, "bos_token_id", json_integer(id)) != 0))
            s = assay_nomem(err);
    }
    json_decref(ends);
    if (s == ASSAY_OK)
        *out = j;
    else
        json_decref(j);
    return s;
}

static assay_status add_length(json_t *config, const assay_gguf *g, assay_err *err) {
    const char *arch;
    size_t n;
    char key[100];
    int64_t length;
    if (!assay_gguf_string(&arch, &n, g, assay_gguf_find(g, "general.architecture"), 0) || n > 60) return ASSAY_OK;
    snprintf(key, sizeof key, "%.*s.context_length", (int)n, arch);
    if (!get_int(&length, g, key) || length <= 0) return ASSAY_OK;
    return json_object_set_new(config, "model_max_length", json_integer(length)) == 0 ? ASSAY_OK : assay_nomem(err);
}

static assay_status make_files(json_t **tokenizer, json_t **config, json_t **generation, const assay_gguf *g, assay_err *err) {
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    assay_tokenizer *t = NULL;
    assay_status s;
    ASSAY_GO(assay_gguf_vocab_read(&v, g, err));
    ASSAY_GO(assay_tokenizer_from_gguf(&t, &v, err));
    ASSAY_GO(assay_tokenizer_to_hf(tokenizer, config, t, v.chat_template, err));
    ASSAY_GO(add_length(*config, g, err));
    s = make_generation(generation, g, v.n_tokens, err);
out:
    assay_tokenizer_close(t);
    assay_gguf_vocab_free(&v);
    return s;
}

static assay_status save(const char *dir, const char *name, const json_t *j, assay_err *err) {
    if (!j) return ASSAY_OK;
    char *path = assay_path_join(dir, name);
    assay_status s = path ? assay_json_save(path, j, 2, err) : assay_nomem(err);
    assay_free(path);
    return s;
}

assay_status assay_gguf_write_hf(const char *dir, const char *path, assay_err *err) {
    char *file = NULL;
    assay_gguf *g = NULL;
    json_t *tokenizer = NULL, *config = NULL, *generation = NULL;
    assay_status s;
    ASSAY_GO(assay_gguf_find_file(&file, path, err));
    ASSAY_GO(assay_gguf_open(&g, file, err));
    s = make_files(&tokenizer, &config, &generation, g, err);
    if (s != ASSAY_OK) {
        assay_err_prefix(err, "%s", file);
        goto out;
    }
    ASSAY_GO(save(dir, "tokenizer.json", tokenizer, err));
    ASSAY_GO(save(dir, "tokenizer_config.json", config, err));
    s = save(dir, "generation_config.json", generation, err);
out:
    json_decref(tokenizer);
    json_decref(config);
    json_decref(generation);
    assay_gguf_close(g);
    assay_free(file);
    return s;
}
