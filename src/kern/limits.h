/* kern/limits.h: this machine's own limits, measured: what speeds are compared with. */
#ifndef ASSAY_KERN_LIMITS_H
#define ASSAY_KERN_LIMITS_H

#include "base/status.h"

/* Of n_threads threads together, best of several runs. */
typedef struct assay_limits {
    int n_threads;
    double read_gbs;    /* 1e9 bytes per second from memory (buffer larger than the caches) */
    double f32_gflops;  /* fused multiply-adds, two operations each */
    double bf16_gflops; /* pair products of bf16 as this CPU's kernels do them */
    double int8_gops;   /* products of unsigned and signed bytes */
} assay_limits;

/* Takes about a second and 512 MiB. ENOMEM; EUSAGE for n_threads < 1. */
assay_status assay_limits_measure(assay_limits *out, int n_threads, assay_err *err);

#endif
