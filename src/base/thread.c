/* thread.c: a pool of threads that share out numbered tasks; who computes what never changes a result because
 * tasks own their outputs.
 *
 * Each thread begins with its own contiguous share of the tasks and then helps the others with theirs
 * (affinity scheduling, Markatos and LeBlanc 1994): uneven tasks balance, and operations that number their
 * tasks alike, by rows, find in a core's cache what the same core wrote. Where a line takes 400 ns from core
 * to core, which was measured on a virtual machine, that is worth more than the balance.
 *
 * Why not OpenMP: a forward pass of a small model is thousands of regions of some ten microseconds. libgomp's
 * threads spin at every region's end (on a machine that is busy with anything else that was measured to cost
 * a factor of ten) or, told not to, sleep at once, which costs more than the region. Here a worker spins for
 * a while that follows what it met lately, SPIN_LEAST to SPIN_MOST, and then sleeps; and the caller never
 * waits for a worker that has not taken a task: on a busy machine it simply does the tasks itself.
 *
 * One job at a time: a second caller, or a task that calls in again, runs its tasks alone. Threads are made
 * when first asked for and stay; a forked child makes its own. */
#include "base/thread.h"

#include "base/clock.h"
#include "base/status.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#define MAX_WORKERS 255
#define SPINS       1000   /* of the caller, while workers end their last tasks, before it yields */
#define SPIN_LEAST  10e-6  /* seconds that a worker looks for the next job before it sleeps */
#define SPIN_MOST   200e-6 /* bridges what a forward pass does on one thread; an idle pool is soon asleep */
#define LINE        64     /* bytes of a cache line */
#define CLOSED      0x10000u /* in `active`: no worker may join */

static struct {
    pthread_mutex_t busy; /* held by the caller whose job runs */
    pthread_mutex_t lock; /* of sleeping */
    pthread_cond_t wake;
    pid_t owner; /* of the threads */
    int n_workers;
    /* the job; written while closed and empty */
    assay_task_fn fn;
    void *ctx;
    size_t n_tasks;
    int team;
    _Atomic int cpu; /* that the last job's caller ran on */
    _Alignas(LINE) _Atomic unsigned active;     /* workers in the job, and CLOSED */
    _Alignas(LINE) _Atomic uint64_t generation; /* of jobs; in a line of its own, for workers watch it */
    _Atomic int sleepers;
    struct {
        _Alignas(LINE) _Atomic size_t next; /* task of this thread's share */
    } share[MAX_WORKERS + 1];
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .active = CLOSED};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* The first task of a thread's share; that of thread `team` is n_tasks. */
static size_t share_begin(size_t thread) {
    size_t team = (size_t)pool.team;
    return pool.n_tasks / team * thread + ASSAY_MIN(thread, pool.n_tasks % team);
}

static void run_tasks(int thread) {
    for (int i = 0; i < pool.team; i++) {
        int t = (thread + i) % pool.team;
        size_t end = share_begin((size_t)t + 1), task;
        while ((task = atomic_fetch_add_explicit(&pool.share[t].next, 1, memory_order_relaxed)) < end)
            pool.fn(pool.ctx, task, thread);
    }
}

static bool join_job(void) {
    unsigned v = atomic_load(&pool.active);
    do
        if (v & CLOSED) return false;
    while (!atomic_compare_exchange_weak(&pool.active, &v, v + 1));
    return true;
}

/* Whether a job after the one numbered `seen` came before `end`. None can while this thread holds the core
 * that the caller wants, as happens on a busy machine. The clock costs more than a look, so it is read at
 * every 32nd. */
static bool spin_for_job(uint64_t seen, double end) {
    for (unsigned i = 0; atomic_load(&pool.generation) == seen; i++) {
        if (i % 32 == 0 && (sched_getcpu() == atomic_load(&pool.cpu) || assay_now() > end)) return false;
        relax();
    }
    return true;
}

static void sleep_for_job(uint64_t seen) {
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.sleepers, 1);
    while (atomic_load(&pool.generation) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.lock);
}

/* Returns the number of a job after the one numbered `seen`. *patience is how long to spin before sleeping:
 * it grows with waits that some spinning would have bridged and shrinks with longer ones, so that lone jobs,
 * or a core that others want, cost little. */
static uint64_t await_job(uint64_t seen, double *patience) {
    double start = assay_now();
    if (!spin_for_job(seen, start + *patience)) sleep_for_job(seen);
    if (assay_now() - start < SPIN_MOST)
        *patience = ASSAY_MIN(2 * *patience, SPIN_MOST);
    else
        *patience = ASSAY_MAX(*patience / 2, SPIN_LEAST);
    return atomic_load(&pool.generation);
}

static void *worker(void *arg) {
    int thread = (int)(intptr_t)arg;
    double patience = SPIN_LEAST;
    for (uint64_t seen = 0;;) {
        seen = await_job(seen, &patience);
        if (!join_job()) continue;
        if (thread < pool.team) run_tasks(thread);
        atomic_fetch_sub(&pool.active, 1);
    }
    return NULL;
}

/* Makes threads until there are `want` workers or the system refuses; signals stay with the caller's threads.
 */
static void grow(int want) {
    sigset_t all, before;
    if (pool.owner != getpid()) { /* the first time, or a forked child, whose parent's threads are not here */
        pool.owner = getpid();
        pool.n_workers = 0;
        atomic_store(&pool.sleepers, 0);
        pthread_mutex_init(&pool.lock, NULL);
        pthread_cond_init(&pool.wake, NULL); /* the parent's still counts its sleepers and would wait for them */
    }
    if (pool.n_workers >= want) return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.n_workers < want && pool.n_workers < MAX_WORKERS) {
        pthread_t t;
        if (pthread_create(&t, NULL, worker, (void *)(intptr_t)(pool.n_workers + 1))) break;
        pthread_detach(t);
        pool.n_workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void run_job(int n_threads, size_t n_tasks, assay_task_fn fn, void *ctx) {
    grow(n_threads - 1);
    pool.fn = fn;
    pool.ctx = ctx;
    pool.n_tasks = n_tasks;
    pool.team = n_threads;
    for (int t = 0; t < n_threads; t++)
        atomic_store_explicit(&pool.share[t].next, share_begin((size_t)t), memory_order_relaxed);
    atomic_store(&pool.active, 0);
    atomic_store_explicit(&pool.cpu, sched_getcpu(), memory_order_relaxed);
    atomic_fetch_add(&pool.generation, 1);
    if (atomic_load(&pool.sleepers)) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
    run_tasks(0);
    atomic_fetch_or(&pool.active, CLOSED);
    for (int i = 0; atomic_load(&pool.active) != CLOSED; i++) {
        if (i < SPINS)
            relax();
        else
            sched_yield(); /* a worker lost its core in the middle of a task */
    }
}

static _Atomic int limit; /* 0 = none */

void assay_threads_limit(int n) {
    atomic_store(&limit, n > 0 ? n : 0);
}

static int limited(int n) {
    int most = atomic_load_explicit(&limit, memory_order_relaxed);
    return most ? ASSAY_MIN(n, most) : n;
}

void assay_parallel(int n_threads, size_t n_tasks, assay_task_fn fn, void *ctx) {
    n_threads = limited(n_threads);
    if (n_threads > 1 && n_tasks > 1 && pthread_mutex_trylock(&pool.busy) == 0) {
        run_job((size_t)n_threads < n_tasks ? n_threads : (int)n_tasks, n_tasks, fn, ctx);
        pthread_mutex_unlock(&pool.busy);
        return;
    }
    for (size_t i = 0; i < n_tasks; i++)
        fn(ctx, i, 0);
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
        if (n > 0) return limited(n);
    }
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? limited((int)n) : 1;
}
