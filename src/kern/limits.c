/* kern/limits.c: measuring the machine. Memory: every thread sums its part of a buffer that no cache holds.
 * Peaks: every thread runs the register-only loops of the table. Other programs only lower a figure, so the
 * best of several runs is kept. */
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "kern/kern.h"
#include "kern/limits.h"

#define BUFFER ((size_t)512 << 20)
#define RUNS 20
#define PEAK_ROUNDS 400000 /* about 10 ms a loop on a 3 GHz core */

typedef struct job {
    const assay_kern *k;
    double (*peak)(size_t n);
    uint8_t *buffer;
    size_t part;    /* bytes of a task */
    double ops[64]; /* of a task; also keeps the reads from being optimized away */
    bool fill;
} job;

static void read_task(void *ctx, size_t task, int thread) {
    job *j = ctx;
    (void)thread;
    if (j->fill)
        memset(j->buffer + task * j->part, 1, j->part);
    else
        j->ops[task] = (double)j->k->read(j->buffer + task * j->part, j->part);
}
static void peak_task(void *ctx, size_t task, int thread) {
    job *j = ctx;
    (void)thread;
    j->ops[task] = j->peak(PEAK_ROUNDS);
}

static double best_rate(job *j, int n, double (*peak)(size_t)) {
    double best = 0;
    j->peak = peak;
    for (int r = 0; r < RUNS; r++) {
        double t = assay_now(), ops = 0;
        assay_parallel(n, (size_t)n, peak_task, j);
        t = assay_now() - t;
        for (int i = 0; i < n; i++) ops += j->ops[i];
        best = ASSAY_MAX(best, ops / t * 1e-9);
    }
    return best;
}

assay_status assay_limits_measure(assay_limits *out, int n_threads, assay_err *err) {
    assay_kern k;
    job j = {.k = &k};
    memset(out, 0, sizeof *out);
    if (n_threads < 1) return assay_fail(err, ASSAY_EUSAGE, "cannot measure with %d threads", n_threads);
    n_threads = ASSAY_MIN(n_threads, (int)ASSAY_LEN(j.ops));
    ASSAY_TRY(assay_kern_init(&k, NULL, err));
    out->n_threads = n_threads;
    out->f32_gflops = best_rate(&j, n_threads, k.peak_f32);
    out->bf16_gflops = best_rate(&j, n_threads, k.peak_bf16);
    out->int8_gops = best_rate(&j, n_threads, k.peak_i8);

    j.part = BUFFER / (size_t)n_threads / 512 * 512;
    j.buffer = assay_malloc_aligned(j.part * (size_t)n_threads);
    if (!j.buffer) return assay_nomem(err);
    j.fill = true;
    assay_parallel(n_threads, (size_t)n_threads, read_task, &j);
    j.fill = false;
    for (int r = 0; r < RUNS; r++) {
        double t = assay_now();
        assay_parallel(n_threads, (size_t)n_threads, read_task, &j);
        t = assay_now() - t;
        out->read_gbs = ASSAY_MAX(out->read_gbs, (double)j.part * n_threads / t * 1e-9);
    }
    assay_free_aligned(j.buffer);
    return ASSAY_OK;
}
