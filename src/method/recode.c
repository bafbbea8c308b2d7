/* recode.c: see recode.h. Pieces are rows whose floats fill a few MiB; each is decoded, rounded, and compared with what it was by one
 * thread. Pieces are numbered and their sums are added in order, so the number of threads changes nothing. */
#include "method/recode.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/thread.h"
#include "num/convert.h"
#include "precision/block.h"

enum { PIECE_FLOATS = 1 << 20 };

typedef struct job {
    const assay_matrix *m;
    const assay_grid_spec *spec; /* NULL: decode to dtype */
    assay_matrix *out;
    uint8_t *dense;
    assay_dtype dtype;
    int64_t piece; /* rows */
    float *rooms;  /* [threads][2][piece * cols] */
    assay_recode_loss *losses;
    float *largest; /* of pieces, when that is what is looked for */
    assay_err *errs;
} job;

static void add_loss(assay_recode_loss *l, const float *was, const float *is, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double d = (double)is[i] - (double)was[i];
        l->error2 += d * d;
        l->weight2 += (double)was[i] * (double)was[i];
        l->n_changed += is[i] != was[i];
    }
}

static assay_status encode(assay_matrix *part, const float *w, int64_t rows, int64_t cols, const assay_grid_spec *s, assay_err *err) {
    switch (assay_precision_get_kind(s->precision)) {
    case ASSAY_KIND_INT: {
        assay_int_opts o = {.bits = assay_precision_bits(s->precision),
                            .group_size = s->group_size,
                            .asymmetric = s->asymmetric,
                            .rule = s->rule,
                            .scale_dtype = s->scale_dtype};
        return assay_encode_int(part, w, rows, cols, &o, err);
    }
    case ASSAY_KIND_CODEBOOK:
        return assay_encode_codebook(part, w, rows, cols, s->precision, s->group_size, false, err);
    case ASSAY_KIND_BLOCK:
        return assay_encode_block(part, w, rows, cols, s->precision, NULL, err);
    default:
        return assay_encode_float(part, w, rows, cols, s, err);
    }
}

/* Puts a piece that begins at that row into the whole. */
static void place(assay_matrix *whole, const assay_matrix *part, int64_t row) {
    if (part->data) {
        size_t n = assay_block_row_bytes(part->precision, part->cols);
        memcpy((uint8_t *)(uintptr_t)whole->data + (size_t)row * n, part->data, (size_t)part->rows * n);
        return;
    }
    int64_t at = assay_matrix_scale_index(whole, row, 0);
    memcpy(whole->codes + row * whole->cols, part->codes, (size_t)(part->rows * part->cols));
    memcpy(whole->scales + at, part->scales, (size_t)part->n_scales * sizeof *part->scales);
    if (whole->zeros) memcpy(whole->zeros + at, part->zeros, (size_t)part->n_scales);
}

static void encode_piece(job *j, const float *was, float *is, int64_t row, int64_t n, size_t task) {
    assay_matrix part = {0};
    int64_t cols = j->m->cols;
    assay_grid_spec s = *j->spec;
    if (encode(&part, was, n, cols, &s, &j->errs[task]) == ASSAY_OK) {
        assay_matrix_decode_rows(is, &part, 0, n);
        add_loss(&j->losses[task], was, is, (size_t)(n * cols));
        place(j->out, &part, row);
    }
    assay_matrix_deinit(&part);
}

static void decode_piece(job *j, const float *was, float *is, int64_t row, int64_t n, size_t task) {
    size_t count = (size_t)(n * j->m->cols), size = assay_dtype_size(j->dtype);
    uint8_t *to = j->dense + (size_t)row * (size_t)j->m->cols * size;
    assay_from_f32(to, j->dtype, was, count);
    int64_t bad = assay_find_nonfinite(to, j->dtype, count);
    if (bad >= 0) {
        assay_fail(&j->errs[task], ASSAY_EINPUT, "the weight at row %lld, column %lld is beyond %s", (long long)(row + bad / j->m->cols),
                   (long long)(bad % j->m->cols), assay_dtype_name(j->dtype));
        return;
    }
    assay_to_f32(is, to, j->dtype, count);
    add_loss(&j->losses[task], was, is, count);
}

static void run_piece(void *ctx, size_t task, int thread) {
    job *j = ctx;
    size_t room = (size_t)(j->piece * j->m->cols);
    float *was = j->rooms + (size_t)thread * 2 * room, *is = was + room;
    int64_t row = (int64_t)task * j->piece, n = ASSAY_MIN(j->piece, j->m->rows - row);
    assay_matrix_decode_rows(was, j->m, row, n);
    if (j->largest)
        j->largest[task] = assay_absmax(was, (size_t)(n * j->m->cols));
    else if (j->spec)
        encode_piece(j, was, is, row, n, task);
    else
        decode_piece(j, was, is, row, n, task);
}

/* Rows that a piece must be a multiple of: whole blocks of the flattened matrix, whole blocks of rows. */
static int64_t row_unit(const assay_matrix *m, const assay_grid_spec *s) {
    if (!s) return 1;
    if (assay_precision_get_kind(s->precision) != ASSAY_KIND_CODEBOOK) return ASSAY_MAX(s->row_block, 1);
    int64_t unit = 1;
    while (m->cols * unit % s->group_size != 0 && unit < s->group_size) unit *= 2;
    return unit;
}

static assay_status for_pieces(job *j, assay_recode_loss *loss, const char *name, int n_threads, assay_err *err) {
    int64_t unit = row_unit(j->m, j->spec), cols = j->m->cols;
    j->piece = ASSAY_MAX(PIECE_FLOATS / cols / unit, 1) * unit;
    size_t n = (size_t)((j->m->rows + j->piece - 1) / j->piece);
    assay_status s = ASSAY_OK;
    j->rooms = assay_mallocn((size_t)n_threads * 2, (size_t)(j->piece * cols) * sizeof *j->rooms);
    j->losses = assay_calloc(n, sizeof *j->losses);
    j->errs = assay_calloc(n, sizeof *j->errs);
    if (!j->rooms || !j->losses || !j->errs) {
        s = assay_nomem(err);
        goto out;
    }
    assay_parallel(n_threads, n, run_piece, j);
    for (size_t i = 0; i < n && s == ASSAY_OK; i++) {
        if (j->errs[i].code != ASSAY_OK) s = assay_fail(err, j->errs[i].code, "%s: %s", name, j->errs[i].message);
        loss->error2 += j->losses[i].error2;
        loss->weight2 += j->losses[i].weight2;
        loss->n_changed += j->losses[i].n_changed;
    }
out:
    assay_free(j->rooms);
    assay_free(j->losses);
    assay_free(j->errs);
    return s;
}

/* NVFP4's scale of the whole matrix. */
static assay_status find_global(assay_grid_spec *s, const assay_matrix *m, const char *name, int n_threads, assay_err *err) {
    if (s->precision != ASSAY_PRECISION_NVFP4) return ASSAY_OK;
    job j = {.m = m};
    assay_recode_loss ignored = {0};
    j.largest = assay_calloc((size_t)m->rows, sizeof *j.largest);
    if (!j.largest) return assay_nomem(err);
    assay_status status = for_pieces(&j, &ignored, name, n_threads, err);
    s->global_scale = assay_grid_spec_global(s, assay_absmax(j.largest, (size_t)m->rows));
    assay_free(j.largest);
    return status;
}

static bool is_block(const assay_grid_spec *s) {
    return assay_precision_get_kind(s->precision) == ASSAY_KIND_BLOCK;
}

static assay_status check_columns(const char *name, const assay_matrix *m, const assay_grid_spec *s, assay_err *err) {
    if (assay_precision_get_kind(s->precision) == ASSAY_KIND_INT && s->group_size > 0 && m->cols % s->group_size != 0)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has %lld columns, which groups of %lld do not divide", name, (long long)m->cols,
                          (long long)s->group_size);
    if (is_block(s) && !assay_block_row_bytes(s->precision, m->cols))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "%s has %lld columns, which blocks of %s do not divide", name, (long long)m->cols,
                          assay_precision_name(s->precision));
    return ASSAY_OK;
}

assay_status assay_recode_sketch(assay_matrix *out, const char *name, const assay_matrix *m, const assay_grid_spec *spec, assay_err *err) {
    *out = (assay_matrix){0};
    ASSAY_TRY(check_columns(name, m, spec, err));
    if (is_block(spec))
        *out = (assay_matrix){.precision = spec->precision, .rows = m->rows, .cols = m->cols};
    else
        ASSAY_TRY(assay_grid_matrix_new(out, spec, m->rows, m->cols, err));
    out->act_bits = 16;
    out->act_dtype = m->act_dtype;
    return ASSAY_OK;
}

static assay_status alloc_blocks(assay_matrix *m, assay_err *err) {
    m->data = assay_mallocn((size_t)m->rows, assay_block_row_bytes(m->precision, m->cols));
    m->owns_data = true;
    return m->data ? ASSAY_OK : assay_nomem(err);
}

assay_status assay_recode(assay_matrix *out, assay_recode_loss *loss, const char *name, const assay_matrix *m, const assay_grid_spec *spec,
                          int n_threads, assay_err *err) {
    assay_grid_spec s = *spec;
    job j = {.m = m, .spec = &s, .out = out};
    *out = (assay_matrix){0};
    assay_status status = find_global(&s, m, name, n_threads, err);
    if (status == ASSAY_OK) status = assay_recode_sketch(out, name, m, &s, err);
    if (status == ASSAY_OK && is_block(&s)) status = alloc_blocks(out, err);
    if (status == ASSAY_OK) status = for_pieces(&j, loss, name, n_threads, err);
    if (status != ASSAY_OK) assay_matrix_deinit(out);
    return status;
}

assay_status assay_decode_to(void *out, assay_recode_loss *loss, const char *name, const assay_matrix *m, assay_dtype dtype, int n_threads,
                             assay_err *err) {
    job j = {.m = m, .dense = out, .dtype = dtype};
    return for_pieces(&j, loss, name, n_threads, err);
}
