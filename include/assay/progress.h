/* assay/progress.h: how long work tells how far it is, and how a caller stops it. */
#ifndef ASSAY_PROGRESS_H
#define ASSAY_PROGRESS_H

typedef struct assay_progress {
    /* Called from the calling thread, often; phase and unit are borrowed for the call ("scoring nf4",
     * "items"). total 0 means unknown. Returning non-zero stops the work at the next safe point with
     * ASSAY_EINTR. */
    int (*fn)(void *ctx, const char *phase, double done, double total, const char *unit);
    void *ctx;
} assay_progress;

#endif
