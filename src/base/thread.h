/* base/thread.h: splitting work over a pool of threads. Results must not depend on n_threads: a task
 * writes only what is its own, and tasks are numbered, not assigned. */
#ifndef ASSAY_BASE_THREAD_H
#define ASSAY_BASE_THREAD_H

#include <stddef.h>

/* fn(ctx, task, thread) for every task in [0, n_tasks), each exactly once; thread < n_threads indexes scratch
 * memory. */
typedef void (*assay_task_fn)(void *ctx, size_t task, int thread);
void assay_parallel(int n_threads, size_t n_tasks, assay_task_fn fn, void *ctx);
/* Like it, with contiguous ranges [begin, end) of n items in multiples of `grain`; fewer, larger calls for
 * tiny bodies. */
typedef void (*assay_range_fn)(void *ctx, size_t begin, size_t end, int thread);
void assay_parallel_range(int n_threads, size_t n, size_t grain, assay_range_fn fn, void *ctx);
/* Cores this process may use; at most the limit. */
int assay_n_cores(void);
/* No job takes more threads from now on, whatever it asks for; 0 = no limit. For the program's --threads: what has no option of its own
 * (packing, copying) keeps to it, too. */
void assay_threads_limit(int n);

#endif
