/* convert.c: see convert.h. First every matrix's outline (all but its codes) is held against the target, so that a refusal comes before
 * anything is written and the quantization_config is known; then tensors go through the format room's spool in the source's order:
 *
 *   COPY     a plain tensor, as it is
 *   CARRY    a quantized matrix with its codes, as the target has it
 *   DECODE   a quantized matrix as a plain tensor (--to hf)
 *   ROUND    a matrix rounded to nearest anew, because it does not fit and that was asked for
 *
 * The folder's key is of the source's files (names, sizes, times) and not of their contents: reading everything twice would be half of the
 * work. */
#include "format/writer_plan.h"
#include "method/convert_impl.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/thread.h"

/* --- the folder's key --- */

static assay_status hash_file(assay_hasher *h, const char *dir, const char *name, assay_err *err) {
    struct stat st;
    char text[100], *path = dir ? assay_path_join(dir, name) : assay_strdup(name);
    if (!path) return assay_nomem(err);
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
        snprintf(text, sizeof text, "%lld %lld.%09ld", (long long)st.st_size, (long long)st.st_mtim.tv_sec, (long)st.st_mtim.tv_nsec);
        assay_hasher_put_str(h, name);
        assay_hasher_put_str(h, text);
    }
    assay_free(path);
    return ASSAY_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static assay_status hash_folder(assay_hasher *h, const char *dir, assay_err *err) {
    char **names = NULL;
    size_t n = 0, cap = 0;
    assay_status s = ASSAY_OK;
    DIR *d = opendir(dir);
    for (struct dirent *e; s == ASSAY_OK && d && (e = readdir(d));) {
        if (!strstr(e->d_name, ".safetensors") && !strstr(e->d_name, ".gguf") && strcmp(e->d_name, "config.json") != 0) continue;
        s = assay_grow(&names, &cap, n + 1, sizeof *names, err);
        if (s == ASSAY_OK && !(names[n] = assay_strdup(e->d_name))) s = assay_nomem(err);
        n += s == ASSAY_OK;
    }
    if (d) closedir(d);
    if (n) qsort(names, n, sizeof *names, by_text);
    for (size_t i = 0; i < n; i++) {
        if (s == ASSAY_OK) s = hash_file(h, dir, names[i], err);
        assay_free(names[i]);
    }
    assay_free(names);
    return s;
}

static assay_status make_key(convert_run *r, assay_err *err) {
    assay_hasher *h;
    char text[200];
    const assay_convert_opts *o = r->o;
    ASSAY_TRY(assay_hasher_new(&h, err));
    assay_hasher_put_str(h, "assay.convert " ASSAY_VERSION);
    assay_status s = assay_path_is_dir(r->model) ? hash_folder(h, r->model, err) : hash_file(h, NULL, r->model, err);
    snprintf(text, sizeof text, "%.60s %.20s %lld %d %llu", o->to, o->dtype ? o->dtype : "", (long long)o->group_size, o->requantize,
             (unsigned long long)o->shard_bytes);
    assay_hasher_put_str(h, text);
    assay_hasher_finish(h, r->out.key);
    return s;
}

/* --- losses: kept in a journal, so that a resumed run tells the same --- */

#define JOURNAL ".assay-convert.jsonl"

static const convert_loss *find_loss(const convert_run *r, const char *name) {
    for (size_t i = r->n_losses; i-- > 0;)
        if (strcmp(r->losses[i].name, name) == 0) return &r->losses[i];
    return NULL;
}

static assay_status add_loss(convert_run *r, const char *name, const assay_recode_loss *l, assay_err *err) {
    ASSAY_TRY(assay_grow(&r->losses, &r->cap_losses, r->n_losses + 1, sizeof *r->losses, err));
    char *copy = assay_arena_strndup(&r->names, name, strlen(name));
    if (!copy) return assay_nomem(err);
    r->losses[r->n_losses++] = (convert_loss){.name = copy, .loss = *l};
    return ASSAY_OK;
}

static assay_status take_line(convert_run *r, const char *line, size_t n, assay_err *err) {
    json_t *j = json_loadb(line, n, 0, NULL);
    const char *name = json_string_value(json_object_get(j, "name"));
    assay_recode_loss l = {.error2 = json_number_value(json_object_get(j, "error2")),
                           .weight2 = json_number_value(json_object_get(j, "weight2")),
                           .n_changed = json_integer_value(json_object_get(j, "changed"))};
    assay_status s = name && json_object_get(j, "changed") ? add_loss(r, name, &l, err) : ASSAY_OK;
    json_decref(j);
    return s;
}

/* Lines that a kill cut short are left out. */
static assay_status read_journal(convert_run *r, const char *path, assay_err *err) {
    char *text = NULL;
    size_t n = 0;
    if (!assay_path_exists(path)) return ASSAY_OK;
    assay_status s = assay_read_file(&text, &n, path, 0, err);
    for (size_t at = 0; at < n && s == ASSAY_OK;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - (text + at)) : n - at;
        s = take_line(r, text + at, len, err);
        at += len + 1;
    }
    assay_free(text);
    return s;
}

static assay_status open_journal(convert_run *r, assay_err *err) {
    char *path = assay_path_join(r->out.dir, JOURNAL);
    assay_status s = path ? read_journal(r, path, err) : assay_nomem(err);
    if (s == ASSAY_OK && !(r->journal = fopen(path, "ae"))) s = assay_fail_errno(err, errno, "cannot write '%s'", path);
    if (s == ASSAY_OK) fputc('\n', r->journal); /* ends a line that a kill cut short */
    assay_free(path);
    return s;
}

/* Before the matrix goes into the spool: a matrix that is there has its loss here. */
static assay_status note_loss(convert_run *r, const char *name, const assay_recode_loss *l, assay_err *err) {
    fprintf(r->journal, "{\"name\": \"%s\", \"error2\": %.17g, \"weight2\": %.17g, \"changed\": %lld}\n", name, l->error2, l->weight2,
            (long long)l->n_changed);
    if (fflush(r->journal) != 0) return assay_fail_errno(err, errno, "cannot write '%s/%s'", r->out.dir, JOURNAL);
    return add_loss(r, name, l, err);
}

/* --- one tensor --- */

static assay_status get_matrix(assay_matrix *m, const convert_run *r, const char *name, assay_err *err) {
    return assay_checkpoint_matrix(m, r->source, r->quant, name, 0, 0, r->target.model_dtype, err);
}

static assay_status put_matrix(convert_run *r, const char *name, const assay_matrix *m, assay_err *err) {
    return assay_ckpt_writer_put_matrix(r->writer, r->target.convention, name, m, r->target.model_dtype, err);
}

/* Reads a matrix and makes it the target's. Nothing of the run changes, so others can do the same beside. */
static assay_status make_ready(assay_matrix *m, const convert_run *r, const convert_step *step, assay_err *err) {
    ASSAY_TRY(get_matrix(m, r, step->name, err));
    assay_status s = assay_convert_apply(step->name, m, &r->target, err);
    if (s != ASSAY_OK) assay_matrix_deinit(m);
    return s;
}

static assay_status carry(convert_run *r, const convert_step *step, assay_err *err) {
    assay_matrix m;
    ASSAY_TRY(make_ready(&m, r, step, err));
    assay_status s = put_matrix(r, step->name, &m, err);
    assay_matrix_deinit(&m);
    return s;
}

static assay_status decode(convert_run *r, const convert_step *step, assay_err *err) {
    assay_matrix m;
    assay_recode_loss loss = {0};
    ASSAY_TRY(get_matrix(&m, r, step->name, err));
    void *out = assay_mallocn((size_t)(m.rows * m.cols), assay_dtype_size(r->dtype));
    assay_status s = out ? assay_decode_to(out, &loss, step->name, &m, r->dtype, r->n_threads, err) : assay_nomem(err);
    int64_t dims[2] = {m.rows, m.cols};
    assay_matrix_deinit(&m);
    if (s == ASSAY_OK) s = note_loss(r, step->name, &loss, err);
    if (s == ASSAY_OK) s = assay_ckpt_writer_put(r->writer, step->name, r->dtype, 2, dims, out, err);
    assay_free(out);
    return s;
}

static assay_status round_anew(convert_run *r, const convert_step *step, assay_err *err) {
    assay_matrix m, out;
    assay_recode_loss loss = {0};
    ASSAY_TRY(get_matrix(&m, r, step->name, err));
    assay_status s = assay_recode(&out, &loss, step->name, &m, &r->spec, r->n_threads, err);
    assay_matrix_deinit(&m);
    if (s != ASSAY_OK) return s;
    assay_quant_entry e = convert_rounded_entry(r, step->name);
    out.act_bits = e.act_bits;
    out.act_group = e.act_group;
    out.outlier_threshold = e.outlier_threshold;
    s = note_loss(r, step->name, &loss, err);
    if (s == ASSAY_OK) s = put_matrix(r, step->name, &out, err);
    assay_matrix_deinit(&out);
    return s;
}

static assay_status run_step(convert_run *r, const convert_step *step, assay_err *err) {
    if (assay_ckpt_writer_has(r->writer, step->name)) return ASSAY_OK;
    switch (step->action) {
    case CONVERT_COPY:
        return assay_ckpt_writer_copy(r->writer, r->source, step->tensor, err);
    case CONVERT_CARRY:
        return carry(r, step, err);
    case CONVERT_DECODE:
        return decode(r, step, err);
    default:
        return round_anew(r, step, err);
    }
}

/* --- the plan of the files --- */

static assay_status sketch_carried(convert_run *r, const convert_step *step, assay_err *err) {
    assay_matrix m, out = {0};
    ASSAY_TRY(assay_checkpoint_outline(&m, r->source, r->quant, step->name, r->target.model_dtype, err));
    assay_status s = ASSAY_OK;
    if (step->action == CONVERT_DECODE) {
        s = assay_ckpt_writer_put(r->writer, step->name, r->dtype, 2, (int64_t[]){m.rows, m.cols}, NULL, err);
    } else {
        s = assay_convert_sketch(&out, step->name, &m, &r->target, err);
        if (s == ASSAY_OK) s = put_matrix(r, step->name, &out, err);
    }
    assay_matrix_deinit(&out);
    assay_matrix_deinit(&m);
    return s;
}

static assay_status sketch_rounded(convert_run *r, const convert_step *step, assay_err *err) {
    assay_matrix m, out = {0};
    ASSAY_TRY(assay_checkpoint_outline(&m, r->source, r->quant, step->name, r->target.model_dtype, err));
    assay_status s = assay_recode_sketch(&out, step->name, &m, &r->spec, err);
    assay_matrix_deinit(&m);
    if (s != ASSAY_OK) return s;
    assay_quant_entry e = convert_rounded_entry(r, step->name);
    out.act_bits = e.act_bits;
    out.act_group = e.act_group;
    for (int64_t i = 0; i < out.n_scales; i++) out.scales[i] = 1;
    if (out.zeros) memset(out.zeros, 1, (size_t)out.n_scales);
    s = put_matrix(r, step->name, &out, err);
    assay_matrix_deinit(&out);
    return s;
}

/* Tells the writer every tensor that will come, so that each byte is written once. */
static assay_status plan_files(convert_run *r, assay_err *err) {
    bool planning;
    ASSAY_TRY(assay_ckpt_writer_plan_begin(&planning, r->writer, err));
    for (size_t i = 0; planning && i < r->n_steps; i++) {
        const convert_step *step = &r->steps[i];
        if (step->action == CONVERT_COPY)
            ASSAY_TRY(assay_ckpt_writer_copy(r->writer, r->source, step->tensor, err));
        else
            ASSAY_TRY(step->action == CONVERT_ROUND ? sketch_rounded(r, step, err) : sketch_carried(r, step, err));
    }
    return assay_ckpt_writer_plan_end(r->writer, err);
}

/* Calls fn for each of a step's tensors. */
static void for_tensors(const convert_run *r, const convert_step *step, void (*fn)(const assay_checkpoint *c, const assay_tensor *t)) {
    for (size_t i = 0; i < step->n_parts; i++) fn(r->source, step->parts[i]);
}

#define SYNC_SECONDS 120

/* A kill loses nothing that was written; this is for a power cut, and waits for the disk. */
static assay_status sync_spool(convert_run *r, assay_err *err) {
    if (assay_now() - r->synced_at < SYNC_SECONDS) return ASSAY_OK;
    if (fsync(fileno(r->journal)) != 0) return assay_fail_errno(err, errno, "cannot write '%s/%s'", r->out.dir, JOURNAL);
    ASSAY_TRY(assay_ckpt_writer_sync(r->writer, err));
    r->synced_at = assay_now();
    return ASSAY_OK;
}

/* What is around a step, wherever it runs. */
static assay_status before_step(convert_run *r, size_t i, assay_err *err) {
    enum { AHEAD = 4 }; /* codes are read across the file's order, which no kernel guesses */
    ASSAY_TRY(assay_progress_report(r->o->progress, "converting", (double)i, (double)r->n_steps, "tensors", err));
    if (i + AHEAD < r->n_steps && r->steps[i + AHEAD].action != CONVERT_COPY) for_tensors(r, &r->steps[i + AHEAD], assay_checkpoint_prefetch);
    return ASSAY_OK;
}

static assay_status after_step(convert_run *r, size_t i, assay_err *err) {
    for_tensors(r, &r->steps[i], assay_checkpoint_release);
    return sync_spool(r, err);
}

/* --- matrices side by side --- */

/* Steps that two threads share: each takes the next, makes its matrix ready beside the other, and has the writer to itself while it puts
 * it. What is written does not depend on the order of putting. */
typedef struct flock {
    convert_run *r;
    size_t next, end;
    pthread_mutex_t lock; /* of all of it, the writer and the run's journal */
    size_t failed;        /* the first step that failed; r->n_steps: none */
    assay_status status;
    assay_err err;
} flock;

/* Under the lock; steps are taken in order, so that all before a failed one are done or on their way. */
static bool take_step(size_t *i, flock *f) {
    assay_err err = {0};
    *i = f->next;
    if (f->next >= f->end || f->status != ASSAY_OK) return false;
    f->next++;
    assay_status s = before_step(f->r, *i, &err);
    if (s == ASSAY_OK) return true;
    f->failed = *i;
    f->status = s;
    f->err = err;
    return false;
}

static assay_status put_step(convert_run *r, size_t i, const assay_matrix *m, assay_err *err) {
    const convert_step *step = &r->steps[i];
    ASSAY_TRY(m ? put_matrix(r, step->name, m, err) : run_step(r, step, err));
    return after_step(r, i, err);
}

static void run_flock(void *ctx, size_t task, int thread) {
    flock *f = ctx;
    size_t i;
    (void)task, (void)thread;
    pthread_mutex_lock(&f->lock);
    while (take_step(&i, f)) {
        const convert_step *step = &f->r->steps[i];
        assay_matrix m;
        assay_err err = {0};
        assay_status s = ASSAY_OK;
        bool carried = step->action == CONVERT_CARRY && !assay_ckpt_writer_has(f->r->writer, step->name);
        if (carried) {
            pthread_mutex_unlock(&f->lock);
            s = make_ready(&m, f->r, step, &err);
            pthread_mutex_lock(&f->lock);
            if (s != ASSAY_OK) carried = false;
        }
        if (s == ASSAY_OK && i < f->failed) s = put_step(f->r, i, carried ? &m : NULL, &err);
        if (carried) assay_matrix_deinit(&m);
        if (s == ASSAY_OK || i > f->failed) continue;
        f->failed = i;
        f->status = s;
        f->err = err;
    }
    pthread_mutex_unlock(&f->lock);
}

/* The end of the steps from i on that can be shared: carried matrices, not so large that two at once would be felt, and small tensors among
 * them. */
static size_t end_of_flock(const convert_run *r, size_t i) {
    enum { LARGE_MATRIX = 1 << 27, LARGE_COPY = 1 << 22 };
    for (; i < r->n_steps; i++) {
        const convert_step *step = &r->steps[i];
        bool small = step->action == CONVERT_COPY ? step->tensor->n_bytes < LARGE_COPY
                                                  : step->action == CONVERT_CARRY && step->tensor->n_bytes < LARGE_MATRIX;
        if (!small) break;
    }
    return i;
}

static assay_status run_side_by_side(convert_run *r, size_t begin, size_t end, assay_err *err) {
    flock f = {.r = r, .next = begin, .end = end, .lock = PTHREAD_MUTEX_INITIALIZER, .failed = r->n_steps};
    assay_parallel(2, 2, run_flock, &f);
    return f.status == ASSAY_OK ? ASSAY_OK : assay_fail(err, f.status, "%s", f.err.message);
}

static assay_status run_alone(convert_run *r, size_t i, assay_err *err) {
    ASSAY_TRY(before_step(r, i, err));
    ASSAY_TRY(run_step(r, &r->steps[i], err));
    return after_step(r, i, err);
}

static assay_status run_steps(convert_run *r, assay_err *err) {
    r->synced_at = assay_now();
    for (size_t i = 0; i < r->n_steps;) {
        size_t end = r->n_threads > 1 ? end_of_flock(r, i) : i;
        if (end > i + 1) {
            ASSAY_TRY(run_side_by_side(r, i, end, err));
            i = end;
        } else {
            ASSAY_TRY(run_alone(r, i++, err));
        }
    }
    return ASSAY_OK;
}

/* --- from beginning to end --- */

static void count(convert_run *r) {
    assay_convert_result *res = r->res;
    double error2 = 0, weight2 = 0;
    res->n_tensors = assay_checkpoint_n_tensors(r->source);
    res->input_bytes = assay_checkpoint_n_bytes(r->source);
    res->from = r->from;
    res->to = r->target.convention;
    for (size_t i = 0; i < r->n_steps; i++) {
        const convert_loss *l = find_loss(r, r->steps[i].name);
        res->n_copied += r->steps[i].action == CONVERT_COPY;
        res->n_carried += r->steps[i].action == CONVERT_CARRY;
        res->n_decoded += r->steps[i].action == CONVERT_DECODE;
        res->n_rounded += r->steps[i].action == CONVERT_ROUND;
        if (!l) continue;
        error2 += l->loss.error2;
        weight2 += l->loss.weight2;
        res->n_changed += l->loss.n_changed;
    }
    res->error = weight2 > 0 ? sqrt(error2 / weight2) : 0;
}

static assay_status save_json(const convert_run *r, const char *name, const json_t *j, assay_err *err) {
    char *path = assay_path_join(r->out.dir, name);
    assay_status s = path ? assay_json_save(path, j, 2, err) : assay_nomem(err);
    assay_free(path);
    return s;
}

static const char *torch_name(assay_dtype t) {
    return t == ASSAY_DTYPE_F32 ? "float32" : t == ASSAY_DTYPE_F16 ? "float16" : "bfloat16";
}

/* config.json, and GPTQ's quantize_config.json, which older loaders read. */
static assay_status write_configs(convert_run *r, assay_err *err) {
    json_object_del(r->config, "quantization_config");
    if (r->new_quant && json_object_set(r->config, "quantization_config", r->new_quant) != 0) return assay_nomem(err);
    if (r->target.convention == ASSAY_CONVENTION_HF && r->o->dtype &&
        json_object_set_new(r->config, json_object_get(r->config, "dtype") ? "dtype" : "torch_dtype", json_string(torch_name(r->dtype))) != 0)
        return assay_nomem(err);
    ASSAY_TRY(save_json(r, "config.json", r->config, err));
    bool gptq = r->target.convention == ASSAY_CONVENTION_GPTQ || r->target.convention == ASSAY_CONVENTION_GPTQ_V2;
    return gptq && r->new_quant ? save_json(r, "quantize_config.json", r->new_quant, err) : ASSAY_OK;
}

static json_t *describe(const convert_run *r) {
    const assay_convert_result *res = r->res;
    return json_pack("{s:{s:s, s:s}, s:s, s:{s:I, s:I, s:I, s:I}, s:f, s:I, s:s}", "source", "path", r->model, "convention",
                     assay_convention_name(res->from), "convention", assay_convention_name(res->to), "tensors", "copied",
                     (json_int_t)res->n_copied, "carried", (json_int_t)res->n_carried, "decoded", (json_int_t)res->n_decoded, "rounded",
                     (json_int_t)res->n_rounded, "weight_error", res->error, "weights_changed", (json_int_t)res->n_changed, "note", res->note);
}

static assay_status unpack_tokenizer(convert_run *r, assay_err *err) {
    char note[300];
    if (r->target.convention == ASSAY_CONVENTION_GGUF) return ASSAY_OK;
    ASSAY_TRY(assay_outdir_unpack_tokenizer(note, &r->out, r->model, err));
    if (note[0] && r->o->on_notice) r->o->on_notice(r->o->notice_ctx, note);
    return ASSAY_OK;
}

static assay_status finish(convert_run *r, assay_err *err) {
    char *folder = assay_path_is_dir(r->model) ? assay_strdup(r->model) : assay_path_dir(r->model);
    if (!folder) return assay_nomem(err);
    count(r);
    assay_status s = r->target.convention == ASSAY_CONVENTION_GGUF ? ASSAY_OK : write_configs(r, err);
    if (s == ASSAY_OK) s = assay_outdir_copy_sidecars(&r->out, folder, err);
    if (s == ASSAY_OK) s = unpack_tokenizer(r, err);
    if (s == ASSAY_OK) s = assay_outdir_put_manifest(&r->out, describe(r), err);
    assay_free(folder);
    ASSAY_TRY(s);
    assay_ckpt_writer *w = r->writer;
    r->writer = NULL;
    ASSAY_TRY(assay_ckpt_writer_commit(w, err));
    return assay_outdir_end(&r->res->output_bytes, &r->out, err);
}

/* What a finished folder says of itself. */
static void take_manifest(convert_run *r) {
    json_t *j = assay_outdir_get_manifest(r->out.dir);
    assay_err ignored;
    assay_json_get_double(&r->res->error, j, "weight_error", "assay.json", &ignored);
    assay_json_get_int(&r->res->n_changed, j, "weights_changed", "assay.json", &ignored);
    json_decref(j);
}

static assay_status set_gguf(convert_run *r, assay_err *err) {
    assay_gguf_head h;
    ASSAY_TRY(assay_gguf_head_make(&h, r->model, r->config, err));
    assay_status s = assay_gguf_head_set(r->writer, &h, r->config, -1, err);
    assay_gguf_head_free(&h);
    return s;
}

static assay_status execute(convert_run *r, const char *out_dir, assay_err *err) {
    bool done;
    ASSAY_TRY(assay_outdir_init(&r->out, out_dir, r->model, err));
    ASSAY_TRY(make_key(r, err));
    ASSAY_TRY(assay_outdir_claim(&done, &r->out, r->o->overwrite, err));
    if (done) {
        count(r);
        take_manifest(r);
        r->res->reused = true;
        return assay_outdir_end(&r->res->output_bytes, &r->out, err);
    }
    ASSAY_TRY(assay_outdir_check_space(&r->out, (double)assay_checkpoint_n_bytes(r->source), err));
    ASSAY_TRY(assay_outdir_begin(&r->out, err));
    ASSAY_TRY(open_journal(r, err));
    ASSAY_TRY(assay_ckpt_writer_open(&r->writer, out_dir, r->o->shard_bytes, err));
    if (r->target.convention == ASSAY_CONVENTION_GGUF) ASSAY_TRY(set_gguf(r, err));
    ASSAY_TRY(plan_files(r, err));
    ASSAY_TRY(run_steps(r, err));
    return finish(r, err);
}

static assay_status load_config(convert_run *r, assay_err *err) {
    char *path = NULL;
    assay_status s;
    if (assay_checkpoint_is_gguf(r->source)) {
        s = assay_gguf_find_file(&path, r->model, err);
        if (s == ASSAY_OK) s = assay_gguf_config(&r->config, path, err);
    } else {
        path = assay_path_join(r->model, "config.json");
        s = path ? assay_json_load(&r->config, path, err) : assay_nomem(err);
    }
    assay_free(path);
    return s;
}

static assay_status open_source(convert_run *r, assay_err *err) {
    ASSAY_TRY(assay_checkpoint_check_path(r->model, err));
    ASSAY_TRY(assay_checkpoint_open(&r->source, r->model, err));
    ASSAY_TRY(load_config(r, err));
    r->quant = json_object_get(r->config, "quantization_config");
    if (json_is_null(r->quant)) r->quant = NULL;
    ASSAY_TRY(assay_convention_detect(&r->from, r->quant, err));
    if (assay_checkpoint_is_gguf(r->source)) r->from = ASSAY_CONVENTION_GGUF;
    return ASSAY_OK;
}

static void notice(const convert_run *r) {
    char text[300];
    size_t rounded = 0;
    if (!r->o->on_notice) return;
    for (size_t i = 0; i < r->n_steps; i++) rounded += r->steps[i].action == CONVERT_ROUND;
    if (rounded) {
        snprintf(text, sizeof text, "%zu matrices do not fit and are ROUNDED ANEW to %s: their codes change and the model loses", rounded,
                 assay_precision_name(r->spec.precision));
        r->o->on_notice(r->o->notice_ctx, text);
    }
    if (r->res->note[0]) r->o->on_notice(r->o->notice_ctx, r->res->note);
}

static void run_deinit(convert_run *r) {
    assay_ckpt_writer_close(r->writer);
    if (r->journal) fclose(r->journal);
    assay_outdir_deinit(&r->out);
    json_decref(r->new_quant);
    json_decref(r->config);
    assay_checkpoint_close(r->source);
    assay_free(r->steps);
    assay_free(r->parts);
    assay_free(r->losses);
    assay_arena_free(&r->names);
}

assay_status assay_convert(assay_convert_result *out, const char *model, const char *out_dir, const assay_convert_opts *o, assay_err *err) {
    convert_run r = {.model = model, .o = o, .res = out, .out = {.lock = -1}};
    assay_status s;
    double begin = assay_now();
    *out = (assay_convert_result){0};
    r.n_threads = o->n_threads > 0 ? o->n_threads : assay_n_cores();
    ASSAY_GO(open_source(&r, err));
    ASSAY_GO(convert_target_parse(&r, err));
    ASSAY_GO(convert_plan(&r, err));
    notice(&r);
    if (o->dry_run)
        count(&r);
    else
        s = execute(&r, out_dir, err);
    out->seconds = assay_now() - begin;
    out->peak_rss = assay_peak_rss();
out:
    run_deinit(&r);
    return s;
}
