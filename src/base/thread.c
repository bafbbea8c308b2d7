/* thread.c: the one place with OpenMP. Tasks are dealt by a shared counter (dynamic), so uneven tasks balance; who computes
 * what never changes a result because tasks own their outputs. Without OpenMP everything runs in the calling thread. */
#include "base/thread.h"

#include <sched.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

void assay_parallel(int n_threads, size_t n_tasks, assay_task_fn fn, void *ctx) {
    if (n_threads <= 1 || n_tasks <= 1) {
        for (size_t i = 0; i < n_tasks; i++) fn(ctx, i, 0);
        return;
    }
    int team = (size_t)n_threads < n_tasks ? n_threads : (int)n_tasks;
    size_t next = 0;
    (void)team;
#ifdef _OPENMP
#pragma omp parallel num_threads(team)
#endif
    {
        int thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        for (;;) {
            size_t i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
            if (i >= n_tasks) break;
            fn(ctx, i, thread);
        }
    }
}

struct range_job {
    assay_range_fn fn;
    void *ctx;
    size_t n, chunk;
};

static void range_task(void *p, size_t task, int thread) {
    const struct range_job *j = p;
    size_t begin = task * j->chunk, end = begin + j->chunk;
    j->fn(j->ctx, begin, end < j->n ? end : j->n, thread);
}

void assay_parallel_range(int n_threads, size_t n, size_t grain, assay_range_fn fn, void *ctx) {
    if (!n) return;
    if (!grain) grain = 1;
    size_t grains = (n + grain - 1) / grain;
    /* Four chunks a thread: enough to even out a noisy machine, few enough to keep the calls large. */
    size_t want = n_threads > 1 ? (size_t)n_threads * 4 : 1;
    size_t per = (grains + want - 1) / want;
    struct range_job j = {fn, ctx, n, per * grain};
    assay_parallel(n_threads, (n + j.chunk - 1) / j.chunk, range_task, &j);
}

int assay_n_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int n = CPU_COUNT(&set);
        if (n > 0) return n;
    }
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}
