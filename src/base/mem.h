/* base/mem.h: allocation. The only room that calls malloc. Every function may return NULL: callers report
 * ENOMEM (assay_nomem(err) does). A test can make the N-th allocation fail (assay_mem_fail_after). */
#ifndef ASSAY_BASE_MEM_H
#define ASSAY_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

void *assay_malloc(size_t size);            /* size 0 gives a unique pointer */
void *assay_calloc(size_t n, size_t size);  /* NULL on overflow of n*size */
void *assay_mallocn(size_t n, size_t size); /* n*size bytes, NULL on overflow */
void *assay_realloc(void *p, size_t size);
void *assay_reallocn(void *p, size_t n, size_t size);
void assay_free(void *p); /* NULL is fine */
char *assay_strdup(const char *s);
char *assay_strndup(const char *s, size_t n);
/* 64-byte aligned, size rounded up to 64 and that tail zeroed; free with assay_free_aligned. */
void *assay_malloc_aligned(size_t size);
void assay_free_aligned(void *p);

/* *out = a*b or a+b; false on overflow. */
bool assay_mul_size(size_t *out, size_t a, size_t b);
bool assay_add_size(size_t *out, size_t a, size_t b);

/* Fills err with "out of memory" and returns ASSAY_ENOMEM. */
assay_status assay_nomem(assay_err *err);

/* Grows a vector so that it holds at least `need` elements of `size` bytes: *p and *cap are updated,
 * doubling. */
assay_status assay_grow(void *p_to_pointer, size_t *cap, size_t need, size_t size, assay_err *err);

/* Tests only: the n-th allocation from now on fails (0 = the next), once; negative switches it off. Not
 * thread-safe. */
void assay_mem_fail_after(long n);

/* A bump allocator for many small things freed together. All-zero is an empty arena. */
typedef struct assay_arena {
    struct assay_arena_block *head;
} assay_arena;
void *assay_arena_alloc(assay_arena *a, size_t size); /* 16-byte aligned, zeroed; NULL when out of memory */
char *assay_arena_strndup(assay_arena *a, const char *s, size_t n);
void assay_arena_free(assay_arena *a);

/* Peak resident set of this process in bytes, 0 when unknown. */
size_t assay_peak_rss(void);

#endif
