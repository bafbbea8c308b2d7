/* tests/model/golden.h: the goldens of tests/model/golden: a config.json, a text, its greedy continuation and logits; and the tiny
 * checkpoints that they are of, made here: each element is a function of its tensor's name and its index, as models.py has it, so that a
 * tensor under a wrong name or in a wrong shape shows. For the tests of model/ and runtime/; cmocka.h stands before it. */
#ifndef ASSAY_TESTS_MODEL_GOLDEN_H
#define ASSAY_TESTS_MODEL_GOLDEN_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "format/format.h"
#include "model/config.h"

enum { GOLDEN_LONGEST = 160 };

static inline void must(assay_status s, const assay_err *err) {
    if (s != ASSAY_OK) fail_msg("%s", err->message);
}

/* --- the checkpoint --- */

static inline uint64_t golden_hash(const char *name) {
    uint64_t h = UINT64_C(14695981039346656037);
    for (; *name; name++) h = (h ^ (uint8_t)*name) * UINT64_C(1099511628211);
    return h;
}

static inline double golden_element(uint64_t hash, uint64_t i) {
    uint64_t z = hash + (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (double)(z >> 40) / 8388608.0 - 1;
}

static inline assay_status golden_put(void *ctx, const assay_tensor_spec *spec, assay_err *err) {
    size_t n = (size_t)(spec->rows * spec->cols), len = strlen(spec->name);
    bool bias = len > 4 && strcmp(spec->name + len - 4, "bias") == 0;
    float *v = assay_mallocn(n, sizeof *v);
    uint64_t hash = golden_hash(spec->name);
    for (size_t i = 0; i < n; i++) {
        double u = golden_element(hash, i);
        v[i] = (float)(!spec->is_vector ? u * 0.4 : bias ? u * 0.2 : 1 + 0.25 * u);
    }
    const int64_t dims[2] = {spec->is_transposed ? spec->cols : spec->rows, spec->is_transposed ? spec->rows : spec->cols};
    assay_status s = assay_ckpt_writer_put(ctx, spec->name, ASSAY_DTYPE_F32, spec->is_vector ? 1 : 2, dims, v, err);
    assay_free(v);
    return s;
}

/* bare: names without the prefix, as checkpoints of the base model have them. */
static inline void golden_checkpoint(const char *dir, const json_t *config, bool bare) {
    char path[300];
    assay_err err = {0};
    assay_config c;
    assay_ckpt_writer *w = NULL;
    char *text = json_dumps(config, 0);
    snprintf(path, sizeof path, "%s/config.json", dir);
    must(assay_write_file(path, text, strlen(text), &err), &err);
    free(text);
    must(assay_config_open(&c, dir, &err), &err);
    must(assay_ckpt_writer_open(&w, dir, 0, &err), &err);
    c.bare_names = bare;
    must(assay_config_each_tensor(&c, golden_put, w, &err), &err);
    must(assay_ckpt_writer_commit(w, &err), &err);
    assay_config_deinit(&c);
}

static inline void golden_remove(const char *dir) {
    char path[300];
    static const char *const files[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < ASSAY_LEN(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

typedef struct golden {
    char name[64];
    json_t *j;
    int32_t ids[GOLDEN_LONGEST], greedy[GOLDEN_LONGEST];
    size_t n, n_greedy;
    char dir[64];
} golden;

static inline size_t golden_ids(int32_t *out, const json_t *list) {
    size_t n = json_array_size(list);
    assert_in_range(n, 1, GOLDEN_LONGEST);
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

/* name: without ".json". The folder is there, the checkpoint is not yet. */
static inline void golden_open(golden *g, const char *name) {
    char path[200];
    assay_err err = {0};
    memset(g, 0, sizeof *g);
    snprintf(g->name, sizeof g->name, "%s", name);
    snprintf(path, sizeof path, "tests/model/golden/%s.json", name);
    must(assay_json_load(&g->j, path, &err), &err);
    g->n = golden_ids(g->ids, json_object_get(g->j, "ids"));
    g->n_greedy = golden_ids(g->greedy, json_object_get(g->j, "greedy"));
    snprintf(g->dir, sizeof g->dir, "/tmp/assay-golden-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
}

static inline void golden_close(golden *g) {
    golden_remove(g->dir);
    json_decref(g->j);
}

#endif
