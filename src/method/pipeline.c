/* pipeline.c: the steps of a plan, from disk to disk.
 *
 * The source is mapped and its pages are let go after each tensor; the output goes through the format room's
 * spool. Besides outdir.c's, a file of our own stands in OUT_DIR while work is under way:
 *
 *   .assay-losses.jsonl   the loss of each finished matrix, written before the matrix counts as finished
 *
 * A step is finished when the spool holds its tensors (format/writer.c: all of a matrix or nothing). The
 * order of steps is the plan's and what a step writes follows from its input alone, so a resumed run ends in
 * the same bytes. At the end everything small is written first and the checkpoint is committed last: a
 * directory with the manifest's key and a checkpoint in it is complete. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/gguf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/thread.h"
#include "format/gguf.h"
#include "method/gguf.h"
#include "method/gguf_head.h"
#include "method/layer.h"
#include "method/pipeline.h"
#include "method/rotate.h"
#include "num/convert.h"
#include "train/layer.h"

#define PARTIAL_LOSSES ".assay-losses.jsonl"

/* --- the output directory --- */

static assay_status in_dir(char **path, const assay_run *r, const char *name, assay_err *err) {
    *path = assay_path_join(r->out.dir, name);
    return *path ? ASSAY_OK : assay_nomem(err);
}

/* --- identity --- */

static assay_status make_key(assay_run *r, assay_err *err) {
    assay_hasher *h;
    if (r->o->source_hash)
        snprintf(r->res->source_hash, sizeof r->res->source_hash, "%s", r->o->source_hash);
    else
        ASSAY_TRY(assay_checkpoint_hash(r->res->source_hash, r->source, err));
    ASSAY_TRY(assay_recipe_hash(r->res->recipe_hash, r->recipe, err));
    ASSAY_TRY(assay_hasher_new(&h, err));
    uint64_t shard = r->o->shard_bytes;
    assay_hasher_put_str(h, "assay.quantize " ASSAY_VERSION);
    assay_hasher_put_str(h, r->res->source_hash);
    assay_hasher_put_str(h, r->res->recipe_hash);
    assay_hasher_put(h, &shard, sizeof shard);
    if (r->calibration) {
        assay_hasher_put_str(h, r->calibration->hash);
        assay_hasher_put_str(h, r->original_inputs ? "original" : "quantized");
    }
    if (r->imatrix) assay_hasher_put_str(h, r->imatrix_info.hash);
    assay_hasher_finish(h, r->out.key);
    return ASSAY_OK;
}

/* llama.cpp's quantizer writes one file, whatever its size: a GGUF is split only when asked for. */
static uint64_t shard_bytes(const assay_run *r) {
    return r->head && !r->o->shard_bytes ? UINT64_C(1) << 62 : r->o->shard_bytes;
}

static assay_status open_spool(assay_run *r, assay_err *err) {
    char *losses = NULL;
    assay_status s;
    ASSAY_GO(assay_outdir_begin(&r->out, err));
    ASSAY_GO(in_dir(&losses, r, PARTIAL_LOSSES, err));
    ASSAY_GO(assay_losses_read(&r->before, losses, true, err));
    r->journal = fopen(losses, "ae");
    if (!r->journal) {
        s = assay_fail_errno(err, errno, "cannot write '%s'", losses);
        goto out;
    }
    fputc('\n', r->journal); /* ends a line that a kill cut short; empty lines are skipped when read */
    ASSAY_GO(assay_ckpt_writer_open(&r->writer, r->out.dir, shard_bytes(r), err));
    if (r->head) s = assay_gguf_head_set(r->writer, r->head, r->config_json, assay_mix_file_type(r->steps.mix), err);
out:
    assay_free(losses);
    return s;
}

/* --- steps --- */

#define SYNC_SECONDS 5

/* A kill loses nothing that was written; this is for a power cut. */
static assay_status sync_spool(assay_run *r, assay_err *err) {
    if (assay_now() - r->synced_at < SYNC_SECONDS) return ASSAY_OK;
    if (fsync(fileno(r->journal)))
        return assay_fail_errno(err, errno, "cannot write '%s/%s'", r->out.dir, PARTIAL_LOSSES);
    ASSAY_TRY(assay_ckpt_writer_sync(r->writer, err));
    r->synced_at = assay_now();
    return ASSAY_OK;
}

static double ranking(const assay_loss *l) {
    return l->output_error >= 0 ? l->output_error : l->weight_error;
}

/* Keeps the worst few, the worst first. */
static void rank_loss(assay_quantize_result *res, const assay_loss *l) {
    size_t at = res->n_worst;
    while (at > 0 && ranking(&res->worst[at - 1]) < ranking(l))
        at--;
    if (at == ASSAY_N_WORST) return;
    if (res->n_worst < ASSAY_N_WORST) res->n_worst++;
    memmove(&res->worst[at + 1], &res->worst[at], (res->n_worst - at - 1) * sizeof *l);
    res->worst[at] = *l;
}

/* Does what a matrix sees in calibration decide how it is encoded? */
static bool is_calibrated(const assay_choice *c) {
    const assay_method *m = assay_method_get(c->method);
    return m->needs || (m->wants & ASSAY_WANT_IMPORTANCE) || c->activations == ASSAY_ACTIVATIONS_STATIC;
}

/* Counts an expert once, by the first of its matrices. */
static void count_expert(assay_run *r, const assay_loss *l) {
    assay_quantize_result *res = r->res;
    bool again = res->n_experts && l->layer == r->expert_layer && l->expert == r->expert;
    if (l->tokens < 0 || again || !is_calibrated(&l->choice)) return;
    r->expert_layer = l->layer;
    r->expert = l->expert;
    res->n_experts++;
    res->n_unseen += l->tokens == 0;
    if (l->tokens >= l->cols) return;
    if (!res->n_starved || l->tokens < res->least_tokens) {
        res->least_tokens = l->tokens;
        snprintf(res->least_expert, sizeof res->least_expert, "%s", l->name);
    }
    res->n_starved++;
}

bool assay_quantize_warning(char *text, size_t size, const assay_quantize_result *res) {
    char unseen[96] = "";
    if (!res->n_starved) return false;
    if (res->n_unseen) snprintf(unseen, sizeof unseen, "; %zu saw none and %s rounded without", res->n_unseen, res->n_unseen > 1 ? "were" : "was");
    snprintf(text, size,
             "%zu of %zu experts saw fewer calibration tokens than their inputs have channels (the least %lld: '%s'%s): give more "
             "calibration text, of more kinds",
             res->n_starved, res->n_experts, (long long)res->least_tokens, res->least_expert, unseen);
    return true;
}

static assay_status record_loss(assay_run *r, const assay_loss *l, assay_err *err) {
    ASSAY_TRY(assay_losses_put(&r->losses, l, err));
    rank_loss(r->res, l);
    count_expert(r, l);
    if (r->o->on_loss) r->o->on_loss(r->o->on_loss_ctx, l);
    return ASSAY_OK;
}

static assay_status append_loss(assay_run *r, const assay_loss *l, assay_err *err) {
    assay_str line = {0};
    assay_status s = assay_loss_print(&line, l, err);
    if (s == ASSAY_OK && (fwrite(line.s, 1, line.len, r->journal) != line.len || fflush(r->journal)))
        s = assay_fail_errno(err, errno, "cannot write '%s/%s'", r->out.dir, PARTIAL_LOSSES);
    assay_str_free(&line);
    return s;
}

assay_status assay_run_note(assay_run *r, const assay_loss *l, assay_err *err) {
    return append_loss(r, l, err);
}

assay_status assay_run_count(assay_run *r, const assay_loss *l, assay_err *err) {
    double error = l->weight_error * l->weight_norm;
    r->error2 += error * error;
    r->weight2 += l->weight_norm * l->weight_norm;
    return record_loss(r, l, err);
}

assay_status assay_run_take_over(assay_run *r, const assay_step *step, assay_err *err) {
    r->res->n_resumed++;
    return assay_run_count(r, assay_losses_find(&r->before, step->tensor->name), err);
}

bool assay_run_has(const assay_run *r, const assay_step *step) {
    return assay_ckpt_writer_has(r->writer, step->tensor->name) &&
           (step->choice.method == ASSAY_METHOD_NONE || assay_losses_find(&r->before, step->tensor->name));
}

assay_status assay_run_measure(assay_run *r, assay_loss *l, const assay_step *step, const assay_item *item, assay_err *err) {
    assay_loss_sums sums;
    bool sampled = item->in && item->in->n_sample; /* an expert may have seen nothing */
    ASSAY_TRY(assay_loss_measure(&sums, item, r->n_threads, err));
    *l = (assay_loss){.layer = step->layer, .expert = -1, .tokens = -1, .rows = item->out.rows, .cols = item->out.cols, .choice = step->choice};
    snprintf(l->name, sizeof l->name, "%s", step->tensor->name);
    snprintf(l->chosen, sizeof l->chosen, "%s", item->chosen);
    l->weight_error = assay_relative_error(sums.error2, sums.weight2);
    l->max_error = sums.max_error;
    l->output_error = sampled ? assay_relative_error(sums.output2, sums.reference2) : -1;
    l->bits_per_weight = assay_matrix_bits(&item->out, NULL, NULL) / ((double)l->rows * (double)l->cols);
    l->weight_norm = sqrt(sums.weight2);
    if (!assay_role_is_expert(step->role)) return ASSAY_OK;
    l->expert = step->expert;
    l->tokens = item->in ? (int64_t)item->in->n_tokens : -1;
    return ASSAY_OK;
}

/* A matrix that was given another float type. */
static assay_status put_dense(assay_run *r, const assay_tensor *t, const assay_matrix *m, assay_err *err) {
    assay_dtype type = m->precision == ASSAY_PRECISION_F16 ? ASSAY_DTYPE_F16 : m->precision == ASSAY_PRECISION_BF16 ? ASSAY_DTYPE_BF16 : ASSAY_DTYPE_F32;
    return assay_ckpt_writer_put(r->writer, t->name, type, t->n_dims, t->dims, m->data, err);
}

/* A changed tensor that stays unquantized: its floats in the model's dtype. */
static assay_status put_floats(assay_run *r, const assay_step *step, const float *w, assay_err *err) {
    const assay_tensor *t = step->tensor;
    size_t n = (size_t)assay_tensor_n_elements(t);
    void *data = assay_mallocn(n, assay_dtype_size(t->dtype));
    if (!data) return assay_nomem(err);
    assay_from_f32(data, t->dtype, w, n);
    assay_status s = assay_ckpt_writer_put(r->writer, t->name, t->dtype, t->n_dims, t->dims, data, err);
    assay_free(data);
    return s;
}

assay_status assay_run_put(assay_run *r, const assay_step *step, const assay_item *item, assay_err *err) {
    const assay_tensor *t = step->tensor;
    /* It can be there without its loss after a power cut, which loses the two files' ends apart. */
    if (assay_ckpt_writer_has(r->writer, t->name)) return ASSAY_OK;
    if (item && assay_item_is_encoded(item) && assay_precision_get_kind(item->out.precision) == ASSAY_KIND_DENSE)
        return put_dense(r, t, &item->out, err);
    if (item && assay_item_is_encoded(item))
        return assay_ckpt_writer_put_matrix(r->writer, r->steps.convention, t->name, &item->out, r->steps.model_dtype, err);
    if (item && item->w) return put_floats(r, step, item->w, err);
    return assay_ckpt_writer_copy(r->writer, r->source, t, err);
}

assay_status assay_run_steps_done(assay_run *r, const assay_step *steps, size_t n, assay_err *err) {
    for (size_t i = 0; i < n; i++) {
        assay_checkpoint_release(r->source, steps[i].tensor);
        r->done_bytes += (double)steps[i].tensor->n_bytes;
    }
    ASSAY_TRY(sync_spool(r, err));
    return assay_progress_report(r->o->progress, "quantizing", r->done_bytes, (double)r->res->input_bytes, "bytes", err);
}

/* One tensor that concerns no other. */
static assay_status work_alone(assay_run *r, const assay_step *step, assay_err *err) {
    assay_item item = {.weight = step->tensor, .choice = &step->choice, .role = step->role, .model_dtype = r->steps.model_dtype};
    assay_item *items = &item;
    assay_ticker ticker = {.progress = r->o->progress, .phase = "quantizing", .unit = "bytes", .base = r->done_bytes,
                           .size = (double)step->tensor->n_bytes, .total = (double)r->res->input_bytes, .to = 1};
    assay_layer layer = {.config = &r->config, .index = -1, .items = &item, .n_items = 1, .n_threads = r->n_threads, .ticker = &ticker};
    bool embeds = step->role == ASSAY_ROLE_EMBED && r->calibration;
    double begin = assay_now();
    assay_loss l;
    assay_status s = ASSAY_OK;
    ASSAY_GO(assay_run_weights(&item.importance, r, step, err));
    if (r->rotator && step->role != ASSAY_ROLE_COUNT) {
        ASSAY_GO(assay_item_own(&item, err));
        ASSAY_GO(assay_rotator_apply(r->rotator, item.w, step->role, step->layer, step->tensor->dims[0],
                                     step->tensor->n_dims > 1 ? step->tensor->dims[1] : 1, r->n_threads, err));
    }
    if (step->choice.method != ASSAY_METHOD_NONE) {
        ASSAY_GO(assay_fuse_step(&item.fused_absmax, r, step, err));
        ASSAY_GO(assay_method_get(step->choice.method)->quantize(&layer, &items, 1, err));
        ASSAY_GO(assay_run_measure(r, &l, step, &item, err));
        l.seconds = assay_now() - begin;
        ASSAY_GO(assay_run_note(r, &l, err));
        r->worked_bytes += (double)step->tensor->n_bytes;
    }
    if (embeds) ASSAY_GO(assay_layered_begin(r, &item, err));
    ASSAY_GO(assay_run_put(r, step, &item, err));
    if (step->choice.method != ASSAY_METHOD_NONE) {
        r->worked_seconds += assay_now() - begin;
        s = assay_run_count(r, &l, err);
    }
out:
    assay_matrix_deinit(&item.out);
    assay_free(item.w);
    assay_free(item.clip);
    assay_free(item.importance);
    return s;
}

static assay_status run_step(assay_run *r, const assay_step *step, assay_err *err) {
    if (!assay_run_has(r, step))
        ASSAY_TRY(work_alone(r, step, err));
    else if (step->choice.method != ASSAY_METHOD_NONE)
        ASSAY_TRY(assay_run_take_over(r, step, err));
    return assay_run_steps_done(r, step, 1, err);
}

static assay_status run_steps(assay_run *r, assay_err *err) {
    r->synced_at = assay_now();
    ASSAY_TRY(assay_progress_report(r->o->progress, "quantizing", 0, (double)r->res->input_bytes, "bytes", err));
    for (size_t i = 0, n; i < r->steps.n; i += n) {
        int layer = r->steps.v[i].layer;
        for (n = 1; r->calibration && layer >= 0 && i + n < r->steps.n && r->steps.v[i + n].layer == layer;)
            n++;
        if (r->calibration && layer >= 0)
            ASSAY_TRY(assay_layered_work(r, i, n, layer, err));
        else
            ASSAY_TRY(run_step(r, &r->steps.v[i], err));
    }
    return ASSAY_OK;
}

/* --- from beginning to end --- */

static assay_status forget_spool(assay_run *r, assay_err *err) {
    uint64_t bytes;
    ASSAY_TRY(assay_outdir_end(&bytes, &r->out, err));
    r->res->output_bytes = bytes;
    return ASSAY_OK;
}

static assay_status finish(assay_run *r, assay_err *err) {
    assay_quantize_result *res = r->res;
    res->weight_error = assay_relative_error(r->error2, r->weight2);
    ASSAY_TRY(assay_losses_save(r->out.dir, &r->losses, err));
    ASSAY_TRY(assay_sidecars_write(res->note, &r->out, r->model_dir, r->config_json, &r->steps, err));
    ASSAY_TRY(assay_manifest_write(&r->out, r->model_dir, r->recipe, res, r->calibration ? r->calibration->manifest : NULL,
                                   r->imatrix ? &r->imatrix_info : NULL, err));
    if (r->o->before_commit) r->o->before_commit(r->o->before_commit_ctx, res);
    assay_ckpt_writer *w = r->writer;
    r->writer = NULL;
    ASSAY_TRY(assay_ckpt_writer_commit(w, err));
    return forget_spool(r, err);
}

/* OUT_DIR holds the result of exactly this call: read it back. */
static assay_status reuse(assay_run *r, assay_err *err) {
    assay_losses l;
    char *path;
    ASSAY_TRY(in_dir(&path, r, "layers.jsonl", err));
    assay_status s = assay_losses_read(&l, path, false, err);
    assay_free(path);
    for (size_t i = 0; s == ASSAY_OK && i < l.n; i++)
        s = record_loss(r, &l.v[i], err);
    if (s == ASSAY_OK) assay_losses_deinit(&l);
    assay_manifest_loss(&r->res->weight_error, r->out.dir);
    r->res->reused = true;
    return s == ASSAY_OK ? forget_spool(r, err) : s;
}

static assay_status execute(assay_run *r, assay_err *err) {
    bool done;
    ASSAY_TRY(assay_outdir_init(&r->out, r->out_dir, r->model_dir, err));
    ASSAY_TRY(make_key(r, err));
    ASSAY_TRY(assay_outdir_claim(&done, &r->out, r->o->overwrite, err));
    if (done) return reuse(r, err);
    ASSAY_TRY(assay_outdir_check_space(&r->out, (double)r->res->output_bytes, err));
    ASSAY_TRY(open_spool(r, err));
    ASSAY_TRY(run_steps(r, err));
    return finish(r, err);
}

void assay_run_deinit(assay_run *r) {
    assay_bench_close(r->bench);
    assay_rotator_close(r->rotator);
    if (r->head) assay_gguf_head_free(r->head);
    assay_free(r->head);
    json_decref(r->config_json);
    assay_imatrix_close(r->imatrix);
    assay_ckpt_writer_close(r->writer);
    if (r->journal) fclose(r->journal);
    assay_outdir_deinit(&r->out);
    assay_losses_deinit(&r->before);
    assay_losses_deinit(&r->losses);
    assay_steps_deinit(&r->steps);
    assay_free(r->lengths);
    assay_checkpoint_close(r->source);
    assay_config_deinit(&r->config);
}

static assay_status check_calibration(assay_run *r, assay_err *err) {
    const assay_calibration *c = r->calibration;
    assay_method_id method;
    if (!c && assay_recipe_needs_calibration(r->recipe, &method))
        return assay_fail(err, ASSAY_EUSAGE,
                          "method %s needs calibration data, which shows it what the matrices see: give some, or take rtn with mse, hqq, "
                          "nf4 or fp8, which need none",
                          assay_method_name(method));
    if (!c) return ASSAY_OK;
    if (!(r->lengths = assay_mallocn(c->n_seqs + 1, sizeof *r->lengths))) return assay_nomem(err);
    for (size_t i = 0; i < c->n_seqs; i++) {
        size_t n = c->first[i + 1] - c->first[i];
        if (n < 1 || n > (size_t)r->config.max_position_embeddings)
            return assay_fail(err, ASSAY_EINPUT, "calibration sequence %zu has %zu tokens; the model takes 1 to %lld", i, n,
                              (long long)r->config.max_position_embeddings);
        for (size_t k = c->first[i]; k < c->first[i + 1]; k++)
            if (c->ids[k] < 0 || c->ids[k] >= r->config.vocab_size)
                return assay_fail(err, ASSAY_EINPUT, "calibration sequence %zu holds token %d; the vocabulary has %lld", i, c->ids[k],
                                  (long long)r->config.vocab_size);
        r->lengths[i] = (int32_t)n;
        r->n_tokens += n;
    }
    if (r->n_tokens == 0) return assay_fail(err, ASSAY_EINPUT, "the calibration data holds no tokens");
    for (size_t i = 0; i < r->steps.n; i++)
        if (assay_method_get(r->steps.v[i].choice.method)->needs & ASSAY_NEED_REFERENCE) r->keep_reference = true;
    return ASSAY_OK;
}

/* Methods that learn need the architecture's backward pass. */
static assay_status check_gradients(const assay_run *r, assay_err *err) {
    for (size_t i = 0; i < r->steps.n; i++) {
        const assay_choice *c = &r->steps.v[i].choice;
        assay_err why = {0};
        if (!(assay_method_get(c->method)->needs & ASSAY_NEED_LAYER) || c->iters == 0) continue;
        assay_status s = assay_tape_check(&r->config, &why);
        if (s == ASSAY_OK) return s;
        return assay_fail(err, s, "method %s: %s: take one that needs no gradients, such as gptq", assay_method_name(c->method), why.message);
    }
    return ASSAY_OK;
}

static assay_status open_imatrix(assay_run *r, assay_err *err) {
    if (!r->o->imatrix) return ASSAY_OK;
    if (r->steps.convention != ASSAY_CONVENTION_GGUF)
        return assay_fail(err, ASSAY_EUSAGE, "an importance matrix is for method gguf alone: the others see the calibration data itself");
    ASSAY_TRY(assay_imatrix_open(&r->imatrix, r->o->imatrix, err));
    assay_imatrix_describe(&r->imatrix_info, r->imatrix);
    return ASSAY_OK;
}

/* The keys that llama.cpp's quantizer leaves of it. */
static void put_imatrix(assay_gguf_head *h, const char *path, const assay_imatrix_info *info) {
    const char *name = assay_path_base(path);
    assay_gguf_put_string(&h->values, "quantize.imatrix.file", name, strlen(name));
    assay_gguf_put_string(&h->values, "quantize.imatrix.dataset", info->dataset, strlen(info->dataset));
    assay_gguf_put_int(&h->values, "quantize.imatrix.entries_count", ASSAY_GGUF_U32, (int64_t)info->n_entries);
    assay_gguf_put_int(&h->values, "quantize.imatrix.chunks_count", ASSAY_GGUF_U32, info->n_chunks);
    h->n += 4;
}

assay_status assay_run_weights(float **out, const assay_run *r, const assay_step *step, assay_err *err) {
    assay_gguf_place place;
    bool wants = assay_method_get(step->choice.method)->wants & ASSAY_WANT_IMPORTANCE;
    *out = NULL;
    if (!r->imatrix || !wants || !assay_gguf_place_of(&place, r->config_json, step->tensor->name)) return ASSAY_OK;
    float *v = assay_mallocn((size_t)step->tensor->dims[1], sizeof *v);
    if (!v) return assay_nomem(err);
    assay_status s = assay_imatrix_weights(v, r->imatrix, place.name, step->tensor->dims[1], place.expert, r->config.n_experts, err);
    if (s == ASSAY_OK)
        *out = v;
    else
        assay_free(v);
    return s == ASSAY_ENOTFOUND ? ASSAY_OK : s;
}

/* config.json's object, also of a GGUF file, as the output will have it. */
static assay_status load_config(assay_run *r, assay_err *err) {
    bool is_gguf = assay_checkpoint_is_gguf(r->source);
    char *path = NULL;
    assay_status s;
    if (is_gguf)
        s = assay_gguf_find_file(&path, r->model_dir, err);
    else
        s = (path = assay_path_join(r->model_dir, "config.json")) ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK) s = is_gguf ? assay_gguf_config(&r->config_json, path, err) : assay_json_load(&r->config_json, path, err);
    assay_free(path);
    if (s == ASSAY_OK && r->steps.head && json_object_set_new(r->config_json, "tie_word_embeddings", json_false())) s = assay_nomem(err);
    return s;
}

/* What a file has transposed or in two parts is read whole alone. */
static assay_status check_orders(const assay_run *r, assay_err *err) {
    for (size_t i = 0; i < r->steps.n; i++) {
        const assay_tensor *t = r->steps.v[i].tensor;
        if (t->order == ASSAY_ORDER_TURNED || t->order == ASSAY_ORDER_JOINED)
            return assay_fail(err, ASSAY_EUNSUPPORTED, "the GGUF file has '%s' in another form: make safetensors of it first (convert --to hf)",
                              t->name);
    }
    return ASSAY_OK;
}

/* What a GGUF file takes: its metadata, and the types that llama.cpp's rules give. */
static assay_status prepare_gguf(assay_run *r, assay_err *err) {
    if (!(r->head = assay_calloc(1, sizeof *r->head))) return assay_nomem(err);
    ASSAY_TRY(assay_gguf_head_make(r->head, r->model_dir, r->config_json, err));
    if (r->imatrix) put_imatrix(r->head, r->o->imatrix, &r->imatrix_info);
    r->steps.head_bytes = (double)r->head->values.len;
    return assay_gguf_plan(&r->steps, &r->config, r->config_json, r->imatrix, err);
}

assay_status assay_run_prepare(assay_run *r, assay_err *err) {
    assay_rotation rotation = assay_recipe_rotation(r->recipe);
    ASSAY_TRY(assay_config_open(&r->config, r->model_dir, err));
    ASSAY_TRY(assay_checkpoint_open(&r->source, r->model_dir, err));
    ASSAY_TRY(assay_steps_plan(&r->steps, &r->config, r->source, r->recipe, err));
    ASSAY_TRY(check_orders(r, err));
    ASSAY_TRY(load_config(r, err));
    r->original_inputs = r->o->original_inputs || r->steps.convention == ASSAY_CONVENTION_GGUF;
    ASSAY_TRY(open_imatrix(r, err));
    r->steps.has_importance = r->calibration || r->imatrix;
    r->weighs = r->calibration && !r->imatrix && r->steps.convention == ASSAY_CONVENTION_GGUF;
    if (r->steps.convention == ASSAY_CONVENTION_GGUF) ASSAY_TRY(prepare_gguf(r, err));
    ASSAY_TRY(check_gradients(r, err));
    ASSAY_TRY(check_calibration(r, err));
    if (!rotation.on) return ASSAY_OK;
    if (rotation.online) r->config.down_hadamard = assay_rotation_down_block(&r->config); /* for the layers that are run meanwhile */
    return assay_rotator_open(&r->rotator, &r->config, r->source, rotation, err);
}

assay_status assay_quantize(assay_quantize_result *out, const char *model_dir, const char *out_dir,
                            const assay_recipe *recipe, const assay_quantize_opts *o, assay_err *err) {
    static const assay_quantize_opts none;
    assay_run r = {.model_dir = model_dir, .out_dir = out_dir, .recipe = recipe, .o = o ? o : &none, .res = out, .out = {.lock = -1}};
    assay_status s;
    *out = (assay_quantize_result){0};
    r.n_threads = r.o->n_threads > 0 ? r.o->n_threads : assay_n_cores();
    r.calibration = r.o->calibration;
    double begin = assay_now();
    ASSAY_GO(assay_run_prepare(&r, err));
    ASSAY_GO(assay_steps_estimate(out, &r.steps, r.n_threads, r.o->dry_run && !r.calibration, err));
    if (r.o->dry_run) {
        if (r.calibration) ASSAY_GO(assay_layered_estimate(out, &r, err));
        s = assay_recipe_hash(out->recipe_hash, recipe, err);
        goto out;
    }
    ASSAY_GO(execute(&r, err));
    out->seconds = assay_now() - begin;
    out->bytes_per_second = r.worked_seconds > 0 ? r.worked_bytes / r.worked_seconds : 0;
    out->peak_rss = assay_peak_rss();
out:
    assay_run_deinit(&r);
    return s;
}
