/* mem.c: the only callers of malloc and free, so that one place can count, check and fail allocations. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Fault injection for tests: the countdown is negative when off. Set before threads start. */
static long fail_countdown = -1;

void assay_mem_fail_after(long n) {
    fail_countdown = n;
}

static bool must_fail(void) {
    if (__builtin_expect(fail_countdown < 0, 1)) return false;
    return fail_countdown-- == 0;
}

bool assay_mul_size(size_t *out, size_t a, size_t b) {
    return !__builtin_mul_overflow(a, b, out);
}

bool assay_add_size(size_t *out, size_t a, size_t b) {
    return !__builtin_add_overflow(a, b, out);
}

void *assay_malloc(size_t size) {
    return must_fail() ? NULL : malloc(size ? size : 1);
}

void *assay_calloc(size_t n, size_t size) {
    if (must_fail()) return NULL;
    return n && size ? calloc(n, size) : calloc(1, 1);
}

void *assay_mallocn(size_t n, size_t size) {
    size_t total;
    return assay_mul_size(&total, n, size) ? assay_malloc(total) : NULL;
}

void *assay_realloc(void *p, size_t size) {
    return must_fail() ? NULL : realloc(p, size ? size : 1);
}

void *assay_reallocn(void *p, size_t n, size_t size) {
    size_t total;
    return assay_mul_size(&total, n, size) ? assay_realloc(p, total) : NULL;
}

void assay_free(void *p) {
    free(p);
}

char *assay_strndup(const char *s, size_t n) {
    char *p = n < SIZE_MAX ? assay_malloc(n + 1) : NULL;
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *assay_strdup(const char *s) {
    return assay_strndup(s, strlen(s));
}

void *assay_malloc_aligned(size_t size) {
    size_t padded;
    if (must_fail() || !assay_add_size(&padded, size, 63)) return NULL;
    padded &= ~(size_t)63;
    if (!padded) padded = 64;
    char *p = aligned_alloc(64, padded);
    if (p) memset(p + padded - 64, 0, 64); /* covers the tail: size > padded - 64 */
    return p;
}

void assay_free_aligned(void *p) {
    free(p);
}

assay_status assay_nomem(assay_err *err) {
    return assay_fail(err, ASSAY_ENOMEM, "out of memory");
}

assay_status assay_grow(void *p_to_pointer, size_t *cap, size_t need, size_t size, assay_err *err) {
    if (need <= *cap) return ASSAY_OK;
    size_t n = *cap ? *cap : 8;
    while (n < need) {
        if (n > SIZE_MAX / 2) return assay_nomem(err);
        n *= 2;
    }
    void *old;
    memcpy(&old, p_to_pointer, sizeof old);
    void *p = assay_reallocn(old, n, size);
    if (!p) return assay_nomem(err);
    memcpy(p_to_pointer, &p, sizeof p);
    *cap = n;
    return ASSAY_OK;
}

/* Arena: a chain of blocks, the newest first; a request larger than a block gets one of its own. */
struct assay_arena_block {
    struct assay_arena_block *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

#define ARENA_BLOCK ((size_t)64 * 1024)

void *assay_arena_alloc(assay_arena *a, size_t size) {
    if (size > SIZE_MAX - ARENA_BLOCK) return NULL;
    size = (size + 15) & ~(size_t)15;
    struct assay_arena_block *b = a->head;
    if (!b || b->size - b->used < size) {
        size_t want = size > ARENA_BLOCK ? size : ARENA_BLOCK;
        b = assay_calloc(1, sizeof *b + want);
        if (!b) return NULL;
        b->size = want;
        b->next = a->head;
        a->head = b;
    }
    void *p = b->bytes + b->used;
    b->used += size;
    return p;
}

char *assay_arena_strndup(assay_arena *a, const char *s, size_t n) {
    char *p = assay_arena_alloc(a, n + 1);
    if (p) memcpy(p, s, n);
    return p;
}

void assay_arena_free(assay_arena *a) {
    while (a->head) {
        struct assay_arena_block *next = a->head->next;
        assay_free(a->head);
        a->head = next;
    }
}

size_t assay_peak_rss(void) {
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) ? 0 : (size_t)u.ru_maxrss * 1024;
}
