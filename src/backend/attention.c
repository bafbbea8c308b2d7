/* backend/attention.c: the paged KV cache and causal attention over it.
 *
 * A page holds 64 positions of all KV heads. Per head, keys lie transposed, [head_dim][64], so that a score
 * has a lane; values lie [64][head_pad], head_pad being head_dim rounded up to 16, so that an output
 * dimension has one.
 *
 * A task is a KV head and a block of rows; it walks pages outermost, so that a page is read once for the
 * block's queries (all heads of a group, and neighbouring rows of one sequence). Queries that see a whole
 * page share a tile; those at its edges go one row at a time. A query's own sums only depend on absolute
 * positions (kern.h), so none of this shows in a result.
 *
 * Where the values are the keys there is one page of both, the keys'; what is walked as the page of values is made from it in the thread's
 * scratch, for each page once a task.
 *
 * With packing, pages before a query's own are read in their packed form (backend.h): unpacked to float32 in
 * the thread's scratch, then walked by the same kernel. Choosing codes is kvpack.c's. */
#include <math.h>
#include <string.h>
#include "backend/internal.h"
#include "base/thread.h"
#include "num/convert.h"

static const int kv_kinds[] = {[ASSAY_KV_F32] = ASSAY_KERN_KV_F32,
                               [ASSAY_KV_BF16] = ASSAY_KERN_KV_BF16,
                               [ASSAY_KV_F16] = ASSAY_KERN_KV_F16};
_Static_assert(ASSAY_KV_PAGE == ASSAY_KERN_PAGE, "the kernels' page is the cache's");

static size_t kv_size(assay_kv_type type) {
    return type == ASSAY_KV_F32 ? 4 : 2;
}
static size_t head_bytes(assay_kv_type type, int head_dim) {
    return kv_size(type) * ASSAY_KV_PAGE * backend_up((size_t)head_dim, 16);
}

size_t assay_kv_page_bytes(assay_kv_type type, int n_kv_heads, int head_dim) {
    return head_bytes(type, head_dim) * (size_t)n_kv_heads;
}

typedef struct att_job {
    assay_backend *b;
    float *y;
    const float *q;
    uint8_t *k, *v, *packed_k, *packed_v;
    const float *new_k, *new_v;
    assay_kv_type type;
    assay_kv_pack pack;
    const int32_t *const *pages;
    const int32_t *pos;
    size_t n_rows, rows_per_task;
    int n_heads, n_kv_heads, head_dim, window;
    int group, heads_per_task, n_parts; /* query heads of a KV head; of a task; tasks that they are */
    float scale, soft_cap;
} att_job;

static att_job job_of(assay_backend *b, const assay_kv_layer *c, const int32_t *const *pages,
                      const int32_t *pos, size_t n_rows, int n_kv_heads, int head_dim) {
    att_job j = {.b = b,
                 .k = c->k->p,
                 .v = c->v ? c->v->p : NULL,
                 .type = c->type,
                 .pack = c->pack,
                 .pages = pages,
                 .pos = pos,
                 .n_rows = n_rows,
                 .n_kv_heads = n_kv_heads,
                 .head_dim = head_dim};
    if (c->pack == ASSAY_KV_PACK_NONE) return j;
    j.packed_k = c->packed_k->p;
    if (c->packed_v) j.packed_v = c->packed_v->p;
    return j;
}

/* Where a page of row r's sequence lies: in type, and packed. */
static size_t page_of(const att_job *j, size_t r, size_t page) {
    return (size_t)(j->pack ? j->pages[r][2 * page + 1] : j->pages[r][page]);
}
static size_t packed_page_of(const att_job *j, size_t r, size_t page) {
    return (size_t)j->pages[r][2 * page];
}

static void convert(const assay_kern *k, uint8_t *out, const float *x, size_t n, assay_kv_type type) {
    if (type == ASSAY_KV_BF16)
        k->to_bf16((uint16_t *)out, x, n);
    else
        assay_from_f32(out, type == ASSAY_KV_F16 ? ASSAY_DTYPE_F16 : ASSAY_DTYPE_F32, x, n);
}

/* Writes one position of one head: a column of the keys, converted aside first, and a row of the values, if any. */
static void store_head(const assay_kern *kern, uint8_t *k, uint8_t *v, uint8_t *aside, const float *new_k,
                       const float *new_v, size_t slot, size_t dim, assay_kv_type type) {
    size_t size = kv_size(type);
    if (v) convert(kern, v + slot * backend_up(dim, 16) * size, new_v, dim, type);
    convert(kern, aside, new_k, dim, type);
    k += slot * size;
    if (size == 4)
        for (size_t d = 0; d < dim; d++)
            memcpy(k + d * ASSAY_KV_PAGE * 4, aside + 4 * d, 4);
    else
        for (size_t d = 0; d < dim; d++)
            memcpy(k + d * ASSAY_KV_PAGE * 2, aside + 2 * d, 2);
}

static void store_rows(void *ctx, size_t begin, size_t end, int thread) {
    att_job *j = ctx;
    size_t dim = (size_t)j->head_dim, heads = (size_t)j->n_kv_heads, head = head_bytes(j->type, j->head_dim);
    uint8_t *aside = (uint8_t *)(j->b->att + (size_t)thread * (ATT_FLOATS + ATT_TILES));
    for (size_t r = begin; r < end; r++) {
        size_t slot = (size_t)j->pos[r] % ASSAY_KV_PAGE,
               page = page_of(j, r, (size_t)j->pos[r] / ASSAY_KV_PAGE);
        for (size_t h = 0; h < heads; h++) {
            size_t at = (page * heads + h) * head, from = (r * heads + h) * dim;
            store_head(&j->b->k, j->k + at, j->v ? j->v + at : NULL, aside, j->new_k + from,
                       j->v ? j->new_v + from : NULL, slot, dim, j->type);
        }
    }
}

/* Task r * n_kv_heads + h packs a head of the page that row r completes, if it does. */
static void pack_task(void *ctx, size_t task, int thread) {
    const att_job *j = ctx;
    size_t heads = (size_t)j->n_kv_heads, dim = (size_t)j->head_dim, r = task / heads, h = task % heads,
           page = (size_t)j->pos[r] / ASSAY_KV_PAGE, head = head_bytes(j->type, j->head_dim);
    (void)thread;
    if ((size_t)j->pos[r] % ASSAY_KV_PAGE != ASSAY_KV_PAGE - 1) return;
    size_t from = (page_of(j, r, page) * heads + h) * head, to = packed_page_of(j, r, page) * heads + h;
    backend_pack_head(j->packed_k + to * backend_packed_head(j->pack, dim, false),
                      j->v ? j->packed_v + to * backend_packed_head(j->pack, dim, true) : NULL, j->k + from,
                      j->v ? j->v + from : NULL, j->type, j->pack, dim);
}

void assay_op_kv_store(assay_backend *b, const assay_kv_layer *cache, const assay_buf *k, const assay_buf *v,
                       const int32_t *const *pages, const int32_t *pos, size_t n_rows, int n_kv_heads,
                       int head_dim) {
    att_job j = job_of(b, cache, pages, pos, n_rows, n_kv_heads, head_dim);
    size_t work = n_rows * (size_t)(n_kv_heads * head_dim), complete = 0;
    j.new_k = (const float *)k->p;
    j.new_v = v ? (const float *)v->p : NULL;
    assay_parallel_range(work < 8192 ? 1 : b->n_threads, n_rows, 1, store_rows, &j);
    if (j.pack == ASSAY_KV_PACK_NONE) return;
    for (size_t r = 0; r < n_rows; r++)
        complete += (size_t)pos[r] % ASSAY_KV_PAGE == ASSAY_KV_PAGE - 1;
    if (complete) assay_parallel(b->n_threads, n_rows * (size_t)n_kv_heads, pack_task, &j);
}

/* --- attention --- */

static size_t first_key(const att_job *j, size_t row) {
    return j->window > 0 && j->pos[row] >= j->window ? (size_t)(j->pos[row] - j->window + 1) : 0;
}

/* What a row sees of a page: keys [lo, hi) of it, packed or not. */
typedef struct sight {
    size_t lo, hi;
    bool packed;
} sight;

static sight sight_of(const att_job *j, size_t row, size_t page) {
    size_t start = page * ASSAY_KV_PAGE, from = first_key(j, row), to = (size_t)j->pos[row] + 1;
    if (to <= start || from >= start + ASSAY_KV_PAGE) return (sight){0};
    return (sight){.lo = from > start ? from - start : 0,
                   .hi = ASSAY_MIN(to - start, (size_t)ASSAY_KV_PAGE),
                   .packed = j->pack && (size_t)j->pos[row] >= start + ASSAY_KV_PAGE};
}
static bool is_whole(sight s) {
    return s.lo == 0 && s.hi == ASSAY_KV_PAGE;
}

/* A page of values from one of keys: [dim][PAGE] -> [PAGE][dim up to 16], in squares that are turned in 64-bit words. */
static void turn_page_2(uint16_t *v, const uint16_t *k, size_t dim) {
    const uint64_t even = UINT64_C(0x0000ffff0000ffff), low = UINT64_C(0x00000000ffffffff);
    size_t pad = backend_up(dim, 16);
    for (size_t d = 0; d < pad; d += 4)
        for (size_t p = 0; p < ASSAY_KV_PAGE; p += 4) {
            uint64_t r[4] = {0}, t[4];
            for (size_t i = 0; i < 4 && d + i < dim; i++) memcpy(&r[i], k + (d + i) * ASSAY_KV_PAGE + p, 8);
            for (size_t i = 0; i < 4; i += 2) { /* pairs of rows */
                t[i] = (r[i] & even) | (r[i + 1] & even) << 16;
                t[i + 1] = (r[i] >> 16 & even) | (r[i + 1] & ~even);
            }
            const uint64_t out[4] = {(t[0] & low) | t[2] << 32, (t[1] & low) | t[3] << 32, t[0] >> 32 | (t[2] & ~low),
                                     t[1] >> 32 | (t[3] & ~low)};
            for (size_t i = 0; i < 4; i++) memcpy(v + (p + i) * pad + d, &out[i], 8);
        }
}
static void turn_page_4(uint32_t *v, const uint32_t *k, size_t dim) {
    const uint64_t low = UINT64_C(0x00000000ffffffff);
    size_t pad = backend_up(dim, 16);
    for (size_t d = 0; d < pad; d += 2)
        for (size_t p = 0; p < ASSAY_KV_PAGE; p += 2) {
            uint64_t r[2] = {0};
            for (size_t i = 0; i < 2 && d + i < dim; i++) memcpy(&r[i], k + (d + i) * ASSAY_KV_PAGE + p, 8);
            const uint64_t out[2] = {(r[0] & low) | r[1] << 32, r[0] >> 32 | (r[1] & ~low)};
            for (size_t i = 0; i < 2; i++) memcpy(v + (p + i) * pad + d, &out[i], 8);
        }
}

/* What a thread's scratch holds as floats or values: the number of a page, in which of its forms. */
typedef struct loaded {
    size_t number;
    bool packed;
} loaded;

/* Keys and values of a KV head as row r sees page `page`, and the kind they are in. Packed ones, and values that are made from keys, go
 * to scratch, where they may be already: *have. */
static assay_kern_kv load_page(const void **k, const void **v, const att_job *j, float *scratch, loaded *have,
                               size_t r, size_t page, size_t kv_head, bool packed) {
    size_t dim = (size_t)j->head_dim, number = packed ? packed_page_of(j, r, page) : page_of(j, r, page),
           at = number * (size_t)j->n_kv_heads + kv_head;
    float *to_k = scratch, *to_v = scratch + ASSAY_KV_PAGE * dim;
    bool there = have->number == number && have->packed == packed;
    *have = (loaded){number, packed};
    *v = to_v;
    if (!packed) {
        *k = j->k + at * head_bytes(j->type, j->head_dim);
        if (j->v)
            *v = j->v + at * head_bytes(j->type, j->head_dim);
        else if (!there && kv_size(j->type) == 4)
            turn_page_4((uint32_t *)to_v, *k, dim);
        else if (!there)
            turn_page_2((uint16_t *)to_v, *k, dim);
        return kv_kinds[j->type];
    }
    *k = to_k;
    if (there) return ASSAY_KERN_KV_F32;
    assay_kern_pack f = backend_pack_form(j->pack);
    j->b->k.unpack_kv[f](to_k, ASSAY_KV_PAGE, j->packed_k + at * backend_packed_head(j->pack, dim, false), dim,
                         ASSAY_KV_PAGE);
    if (j->v)
        j->b->k.unpack_kv[f](to_v, backend_up(dim, 16),
                             j->packed_v + at * backend_packed_head(j->pack, dim, true), ASSAY_KV_PAGE, dim);
    else
        turn_page_4((uint32_t *)to_v, (const uint32_t *)to_k, dim);
    return ASSAY_KERN_KV_F32;
}

/* Page `page` for the rows [begin, end) of a block whose queries are in a: those of one sequence that see all
 * of it in the same form together, else row by row. */
static void walk_page(const att_job *j, const assay_att *a, float *tiles, size_t kv_head, size_t begin,
                      size_t end, size_t page, size_t heads) {
    loaded have = {SIZE_MAX, false};
    for (size_t r = begin, next; r < end; r = next) {
        sight s = sight_of(j, r, page);
        const void *k, *v;
        next = r + 1;
        if (s.hi == 0) continue;
        for (sight t; is_whole(s) && next < end && j->pages[next] == j->pages[r]; next++) {
            t = sight_of(j, next, page);
            if (!is_whole(t) || t.packed != s.packed) break;
        }
        assay_kern_kv kind = load_page(&k, &v, j, tiles, &have, r, page, kv_head, s.packed);
        j->b->k.att_page[kind](a, (r - begin) * heads, (next - r) * heads, k, v, s.lo, s.hi);
    }
}

/* Query heads [h0, h0 + heads) of rows [begin, end), all of one KV head. */
static void attend(const att_job *j, float *scratch, size_t kv_head, size_t h0, size_t heads, size_t begin,
                   size_t end) {
    size_t dim = (size_t)j->head_dim, pad = backend_up(dim, 16), n = (end - begin) * heads, first = SIZE_MAX,
           last = 0;
    assay_att a = {.head_dim = dim,
                   .head_pad = pad,
                   .scale = j->scale,
                   .soft_cap = j->soft_cap,
                   .q = scratch,
                   .acc = scratch + n * pad,
                   .sum = scratch + 2 * n * pad,
                   .max = scratch + 2 * n * pad + 16 * n};
    memset(a.acc, 0, n * pad * sizeof(float));
    memset(a.sum, 0, n * 16 * sizeof(float));
    for (size_t r = begin, i = 0; r < end; r++) {
        for (size_t h = 0; h < heads; h++, i++) {
            memcpy(a.q + i * pad, j->q + (r * (size_t)j->n_heads + h0 + h) * dim, dim * sizeof(float));
            a.max[i] = -INFINITY;
        }
        first = ASSAY_MIN(first, first_key(j, r) / ASSAY_KV_PAGE);
        last = ASSAY_MAX(last, (size_t)j->pos[r] / ASSAY_KV_PAGE);
    }
    for (size_t page = first; page <= last; page++)
        walk_page(j, &a, scratch + ATT_FLOATS, kv_head, begin, end, page, heads);
    for (size_t r = begin, i = 0; r < end; r++)
        for (size_t h = 0; h < heads; h++, i++)
            j->b->k.att_finish(j->y + (r * (size_t)j->n_heads + h0 + h) * dim, &a, i);
}

static void attention_task(void *ctx, size_t task, int thread) {
    const att_job *j = ctx;
    size_t part = task % (size_t)j->n_parts, kv_head = task / (size_t)j->n_parts % (size_t)j->n_kv_heads,
           block = task / (size_t)j->n_parts / (size_t)j->n_kv_heads, group = (size_t)j->group,
           step = (size_t)j->heads_per_task, h = part * step;
    size_t begin = block * j->rows_per_task, end = ASSAY_MIN(begin + j->rows_per_task, j->n_rows);
    attend(j, j->b->att + (size_t)thread * (ATT_FLOATS + ATT_TILES), kv_head, kv_head * group + h,
           ASSAY_MIN(step, group - h), begin, end);
}

void assay_op_attention(assay_backend *b, assay_buf *y, const assay_buf *q, const assay_kv_layer *cache,
                        const int32_t *const *pages, const int32_t *pos, size_t n_rows, int n_heads,
                        int n_kv_heads, int head_dim, float scale, int window, float soft_cap) {
    size_t pad = backend_up((size_t)head_dim, 16), work = 0;
    size_t most =
        ASSAY_MAX((size_t)1, ASSAY_MIN((size_t)ATT_QUERIES,
                                       ATT_FLOATS / (2 * pad + 32))); /* queries that scratch holds */
    att_job j = job_of(b, cache, pages, pos, n_rows, n_kv_heads, head_dim);
    j.y = (float *)y->p;
    j.q = (const float *)q->p;
    j.n_heads = n_heads;
    j.window = window;
    j.group = n_heads / n_kv_heads;
    j.scale = scale;
    j.soft_cap = soft_cap;
    j.heads_per_task = (int)ASSAY_MIN((size_t)j.group, most);
    j.rows_per_task = ASSAY_MAX((size_t)1, most / (size_t)j.heads_per_task);
    for (size_t r = 0; r < n_rows; r++)
        work += ((size_t)pos[r] + 1 - first_key(&j, r)) * (size_t)(n_heads * head_dim);
    size_t blocks = (n_rows + j.rows_per_task - 1) / j.rows_per_task, tasks = blocks * (size_t)n_kv_heads;
    int n_threads = work < SERIAL_MACS / 4 ? 1 : b->n_threads;
    if (tasks > 0 && tasks < (size_t)n_threads) { /* few keys for many heads: each thread takes some */
        int parts = (int)(((size_t)n_threads + tasks - 1) / tasks);
        j.heads_per_task = ASSAY_MIN(j.heads_per_task, (j.group + parts - 1) / parts);
    }
    j.n_parts = (j.group + j.heads_per_task - 1) / j.heads_per_task;
    assay_parallel(n_threads, tasks * (size_t)j.n_parts, attention_task, &j);
}
