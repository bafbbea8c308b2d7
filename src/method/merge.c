/* merge.c: see merge.h. A tensor of the base is copied, or replaced by the adapter's own, or changed; what is changed is decoded to
 * float32 in pieces of rows, which threads share, and rounded once to the type it had. The order of tensors is the base's, each
 * depends on its own inputs alone, so a resumed call and any number of threads end in the same bytes. */
#include "method/merge.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/thread.h"
#include "format/adapter.h"
#include "method/outdir.h"
#include "num/convert.h"

typedef struct merge_run {
    const char *model_dir;
    const assay_merge_opts *o;
    assay_merge_result *res;
    assay_checkpoint *base;
    assay_adapter *adapter;
    json_t *config;
    assay_outdir out;
    assay_ckpt_writer *writer;
    int n_threads;
    double change2, base2;
} merge_run;

/* --- does the adapter fit the base? --- */

static assay_status check_name(const merge_run *m, const char *name, assay_err *err) {
    if (assay_checkpoint_find(m->base, name)) return ASSAY_OK;
    return assay_fail(err, ASSAY_EINPUT, "the adapter changes %s, which the model does not have: it was made for another%s", name,
                      strstr(name, "lm_head") ? ", or with a head that is not tied to the embedding" : "");
}

static assay_status check_fit(const merge_run *m, assay_err *err) {
    char name[320];
    const json_t *quantized = json_object_get(m->config, "quantization_config");
    if (quantized && !json_is_null(quantized))
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s is quantized: merging would need other codes; merge into the model it was made from and quantize that",
                          m->model_dir);
    for (size_t i = 0; i < assay_adapter_n_loras(m->adapter); i++) {
        const assay_lora *l = assay_adapter_lora(m->adapter, i);
        snprintf(name, sizeof name, "%.300s.weight", l->module);
        ASSAY_TRY(check_name(m, name, err));
        const assay_tensor *t = assay_checkpoint_find(m->base, name);
        bool turned = l->is_embedding || l->transposed;
        int64_t rows = turned ? l->in : l->out, cols = turned ? l->out : l->in;
        if (t->n_dims != 2 || t->dims[0] != rows || t->dims[1] != cols)
            return assay_fail(err, ASSAY_EINPUT, "the adapter's %s is for a matrix of %lld x %lld, which the model's is not: it was made for another",
                              l->module, (long long)rows, (long long)cols);
        if (!assay_dtype_is_float(t->dtype) || assay_dtype_size(t->dtype) < 2)
            return assay_fail(err, ASSAY_EUNSUPPORTED, "%s is of type %s: nothing can be added to that", name, assay_dtype_name(t->dtype));
    }
    for (size_t i = 0; i < assay_adapter_n_whole(m->adapter); i++) ASSAY_TRY(check_name(m, assay_adapter_whole_name(m->adapter, i), err));
    return ASSAY_OK;
}

/* --- one tensor --- */

enum { PIECE = 64 }; /* rows */

typedef struct piece_job {
    const assay_lora *lora;
    const assay_tensor *t;
    uint8_t *out;
    int64_t rows, cols;
    float *rooms;    /* [threads][PIECE * cols] of the merged rows, then of the base's */
    double *sums;    /* [pieces][2] */
    assay_err *errs; /* [pieces] */
} piece_job;

static void merge_piece(void *ctx, size_t piece, int thread) {
    piece_job *j = ctx;
    int64_t row = (int64_t)piece * PIECE, n = ASSAY_MIN(PIECE, j->rows - row);
    size_t size = assay_dtype_size(j->t->dtype), at = (size_t)(row * j->cols), count = (size_t)(n * j->cols);
    float *w = j->rooms + (size_t)thread * 2 * (size_t)(PIECE * j->cols), *base = w + PIECE * j->cols;
    assay_tensor_read(base, j->t, (int64_t)at, (int64_t)count);
    memcpy(w, base, count * sizeof *w);
    if (assay_lora_merge_rows(w, j->lora, row, n, j->cols, &j->errs[piece]) != ASSAY_OK) return;
    assay_from_f32(j->out + at * size, j->t->dtype, w, count);
    for (size_t i = 0; i < count; i++) {
        double d = (double)w[i] - (double)base[i];
        j->sums[2 * piece] += d * d;
        j->sums[2 * piece + 1] += (double)base[i] * (double)base[i];
    }
}

static assay_status merge_tensor(merge_run *m, const assay_tensor *t, const assay_lora *l, assay_err *err) {
    piece_job j = {.lora = l, .t = t, .rows = t->dims[0], .cols = t->dims[1]};
    size_t n = (size_t)((j.rows + PIECE - 1) / PIECE);
    assay_status s = ASSAY_OK;
    j.out = assay_malloc(t->n_bytes);
    j.rooms = assay_mallocn((size_t)m->n_threads * 2 * PIECE, (size_t)j.cols * sizeof(float));
    j.sums = assay_calloc(n, 2 * sizeof *j.sums);
    j.errs = assay_calloc(n, sizeof *j.errs);
    if (!j.out || !j.rooms || !j.sums || !j.errs) {
        s = assay_nomem(err);
        goto out;
    }
    assay_parallel(m->n_threads, n, merge_piece, &j);
    for (size_t i = 0; i < n; i++) {
        if (j.errs[i].code != ASSAY_OK) {
            s = assay_fail(err, j.errs[i].code, "%s", j.errs[i].message);
            goto out;
        }
        m->change2 += j.sums[2 * i];
        m->base2 += j.sums[2 * i + 1];
    }
    if (assay_find_nonfinite(j.out, t->dtype, (size_t)(j.rows * j.cols)) >= 0) {
        s = assay_fail(err, ASSAY_EINPUT, "%s merged holds a NaN or infinity: base or adapter is damaged", t->name);
        goto out;
    }
    s = assay_ckpt_writer_put(m->writer, t->name, t->dtype, t->n_dims, t->dims, j.out, err);
out:
    assay_free(j.out);
    assay_free(j.rooms);
    assay_free(j.sums);
    assay_free(j.errs);
    return s;
}

/* The adapter's own tensor in the base's type. */
static assay_status replace_tensor(merge_run *m, const assay_tensor *t, const assay_tensor *own, assay_err *err) {
    size_t n = (size_t)assay_tensor_n_elements(own);
    bool same = own->n_dims == t->n_dims && !memcmp(own->dims, t->dims, (size_t)t->n_dims * sizeof *t->dims);
    if (!same) return assay_fail(err, ASSAY_EINPUT, "the adapter's %s has another shape than the model's: it was made for another", own->name);
    float *f = assay_mallocn(n, sizeof *f);
    uint8_t *out = assay_mallocn(n, assay_dtype_size(t->dtype));
    assay_status s;
    if (!f || !out)
        s = assay_nomem(err);
    else if (!assay_to_f32(f, own->data, own->dtype, n) || !assay_from_f32(out, t->dtype, f, n))
        s = assay_fail(err, ASSAY_EINPUT, "the adapter's %s is of type %s, the model's of %s", own->name, assay_dtype_name(own->dtype),
                       assay_dtype_name(t->dtype));
    else if (assay_find_nonfinite(out, t->dtype, n) >= 0)
        s = assay_fail(err, ASSAY_EINPUT, "the adapter's %s holds a NaN or infinity", own->name);
    else
        s = assay_ckpt_writer_put(m->writer, t->name, t->dtype, t->n_dims, t->dims, out, err);
    assay_free(f);
    assay_free(out);
    return s;
}

static assay_status put_tensor(merge_run *m, const assay_tensor *t, assay_err *err) {
    const assay_lora *l = assay_adapter_find(m->adapter, t->name);
    const assay_tensor *own = assay_adapter_whole(m->adapter, t->name);
    m->res->n_merged += l != NULL;
    m->res->n_replaced += own != NULL;
    if (assay_ckpt_writer_has(m->writer, t->name)) return ASSAY_OK;
    if (own) return replace_tensor(m, t, own, err);
    return l ? merge_tensor(m, t, l, err) : assay_ckpt_writer_copy(m->writer, m->base, t, err);
}

/* --- from beginning to end --- */

static assay_status make_key(merge_run *m, assay_err *err) {
    assay_hasher *h;
    uint64_t shard = m->o->shard_bytes;
    ASSAY_TRY(assay_checkpoint_hash(m->res->base_hash, m->base, err));
    ASSAY_TRY(assay_adapter_hash(m->res->adapter_hash, m->adapter, err));
    ASSAY_TRY(assay_hasher_new(&h, err));
    assay_hasher_put_str(h, "assay.merge " ASSAY_VERSION);
    assay_hasher_put_str(h, m->res->base_hash);
    assay_hasher_put_str(h, m->res->adapter_hash);
    assay_hasher_put(h, &shard, sizeof shard);
    assay_hasher_finish(h, m->out.key);
    return ASSAY_OK;
}

static assay_status put_tensors(merge_run *m, assay_err *err) {
    size_t n = assay_checkpoint_n_tensors(m->base);
    double done = 0, total = (double)assay_checkpoint_n_bytes(m->base);
    for (size_t i = 0; i < n; i++) {
        const assay_tensor *t = assay_checkpoint_get(m->base, i);
        ASSAY_TRY(put_tensor(m, t, err));
        assay_checkpoint_release(m->base, t);
        done += (double)t->n_bytes;
        ASSAY_TRY(assay_progress_report(m->o->progress, "merging", done, total, "bytes", err));
    }
    m->res->n_tensors = n;
    return ASSAY_OK;
}

static json_t *describe(const merge_run *m) {
    const assay_merge_result *r = m->res;
    return json_pack("{s:{s:s, s:s}, s:{s:s, s:i, s:i}, s:I}", "source", "path", m->model_dir, "sha256", r->base_hash, "merged_adapter",
                     "sha256", r->adapter_hash, "matrices", (int)r->n_merged, "replaced", (int)r->n_replaced, "tensors",
                     (json_int_t)r->n_tensors);
}

static assay_status finish(merge_run *m, assay_err *err) {
    char *path = assay_path_join(m->out.dir, "config.json");
    assay_status s = path ? assay_json_save(path, m->config, 2, err) : assay_nomem(err);
    assay_free(path);
    ASSAY_TRY(s);
    ASSAY_TRY(assay_outdir_copy_sidecars(&m->out, m->model_dir, err));
    ASSAY_TRY(assay_outdir_put_manifest(&m->out, describe(m), err));
    assay_ckpt_writer *w = m->writer;
    m->writer = NULL;
    ASSAY_TRY(assay_ckpt_writer_commit(w, err));
    m->res->change = m->base2 > 0 ? sqrt(m->change2 / m->base2) : 0;
    return assay_outdir_end(&m->res->output_bytes, &m->out, err);
}

static assay_status run(merge_run *m, const char *out_dir, assay_err *err) {
    bool done;
    ASSAY_TRY(check_fit(m, err));
    ASSAY_TRY(assay_outdir_init(&m->out, out_dir, m->model_dir, err));
    ASSAY_TRY(make_key(m, err));
    ASSAY_TRY(assay_outdir_claim(&done, &m->out, m->o->overwrite, err));
    if (done) {
        m->res->reused = true;
        return assay_outdir_end(&m->res->output_bytes, &m->out, err);
    }
    ASSAY_TRY(assay_outdir_check_space(&m->out, (double)assay_checkpoint_n_bytes(m->base), err));
    ASSAY_TRY(assay_outdir_begin(&m->out, err));
    ASSAY_TRY(assay_ckpt_writer_open(&m->writer, out_dir, m->o->shard_bytes, err));
    ASSAY_TRY(put_tensors(m, err));
    return finish(m, err);
}

assay_status assay_merge(assay_merge_result *out, const char *model_dir, const char *adapter_dir, const char *out_dir,
                         const assay_merge_opts *o, assay_err *err) {
    static const assay_merge_opts none;
    merge_run m = {.model_dir = model_dir, .o = o ? o : &none, .res = out, .out = {.lock = -1}};
    char *path = NULL;
    assay_status s;
    *out = (assay_merge_result){0};
    m.n_threads = m.o->n_threads > 0 ? m.o->n_threads : assay_n_cores();
    ASSAY_GO(assay_checkpoint_open(&m.base, model_dir, err));
    path = assay_path_join(model_dir, "config.json");
    s = path ? assay_json_load(&m.config, path, err) : assay_nomem(err);
    if (s == ASSAY_OK) s = assay_adapter_open(&m.adapter, adapter_dir, err);
    if (s == ASSAY_OK) s = run(&m, out_dir, err);
out:
    assay_free(path);
    assay_ckpt_writer_close(m.writer);
    assay_outdir_deinit(&m.out);
    assay_adapter_close(m.adapter);
    assay_checkpoint_close(m.base);
    json_decref(m.config);
    return s;
}
