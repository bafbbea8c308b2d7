/* The paged KV cache: pages are shared by forks, partial pages are copied, nothing leaks, the budget holds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "model/kv.h"

enum { PAGE = ASSAY_KV_PAGE, LAYERS = 2, HEADS = 2, HEAD = 8, PAGES = 40 };

typedef struct fixture {
    assay_backend *b;
    assay_config c;
    assay_kv *kv;
    size_t page; /* bytes of one page of keys in one layer */
} fixture;

static int set_up(void **state) {
    static fixture f;
    assay_cpu_opts o = {.n_threads = 1, .isa = "ref"};
    f.c = (assay_config){.n_layers = LAYERS, .n_kv_heads = HEADS, .head_dim = HEAD};
    f.page = assay_kv_page_bytes(ASSAY_KV_F32, HEADS, HEAD);
    if (assay_backend_open_cpu(&f.b, &o, NULL) != ASSAY_OK) return -1;
    if (assay_kv_open(&f.kv, f.b, &f.c, ASSAY_KV_F32, PAGES * 2 * LAYERS * f.page, NULL) != ASSAY_OK)
        return -1;
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    assay_kv_close(f->kv);
    assay_backend_close(f->b);
    return 0;
}

/* Marks a whole page of a sequence, in every layer. */
static void mark(fixture *f, const assay_seq *s, size_t index, uint8_t value) {
    uint8_t *bytes = assay_malloc(f->page);
    for (int64_t l = 0; l < LAYERS; l++) {
        memset(bytes, value + (int)l, f->page);
        assay_buf_write(f->b, assay_kv_get_layer(f->kv, l).k, (size_t)s->pages[index] * f->page, bytes, f->page);
        memset(bytes, value + 16 + (int)l, f->page);
        assay_buf_write(f->b, assay_kv_get_layer(f->kv, l).v, (size_t)s->pages[index] * f->page, bytes, f->page);
    }
    assay_free(bytes);
}

static void check_mark(fixture *f, const assay_seq *s, size_t index, uint8_t value) {
    uint8_t *bytes = assay_malloc(f->page);
    for (int64_t l = 0; l < LAYERS; l++) {
        assay_buf_read(f->b, bytes, assay_kv_get_layer(f->kv, l).k, (size_t)s->pages[index] * f->page, f->page);
        assert_int_equal(bytes[0], value + l);
        assert_int_equal(bytes[f->page - 1], value + l);
        assay_buf_read(f->b, bytes, assay_kv_get_layer(f->kv, l).v, (size_t)s->pages[index] * f->page, f->page);
        assert_int_equal(bytes[f->page - 1], value + 16 + l);
    }
    assay_free(bytes);
}

static void pages_follow_positions(void **state) {
    fixture *f = *state;
    assay_seq s = {0};
    assert_int_equal(assay_kv_max_pages(f->kv), PAGES);
    assert_int_equal(assay_seq_extend(f->kv, &s, 1, NULL), ASSAY_OK);
    assert_int_equal(s.n_pages, 1);
    assert_int_equal(assay_seq_extend(f->kv, &s, PAGE, NULL), ASSAY_OK);
    assert_int_equal(s.n_pages, 1);
    assert_int_equal(assay_seq_extend(f->kv, &s, PAGE + 1, NULL), ASSAY_OK);
    assert_int_equal(s.n_pages, 2);
    assert_int_equal(assay_kv_used_pages(f->kv), 2);
    assay_seq_release(f->kv, &s);
    assert_int_equal(assay_kv_used_pages(f->kv), 0);
}

static void forks_share_full_pages_and_copy_the_last(void **state) {
    fixture *f = *state;
    assay_seq a = {0}, b = {0}, c = {0};
    assert_int_equal(assay_seq_extend(f->kv, &a, 3 * PAGE, NULL), ASSAY_OK);
    a.n = 3 * PAGE - 5;
    for (size_t p = 0; p < 3; p++)
        mark(f, &a, p, (uint8_t)(32 * (p + 1)));
    assert_int_equal(assay_seq_fork(f->kv, &b, &a, 2 * PAGE + 7, NULL), ASSAY_OK);
    assert_int_equal(b.n, 2 * PAGE + 7);
    assert_int_equal(b.n_pages, 3);
    assert_int_equal(b.pages[0], a.pages[0]);
    assert_int_equal(b.pages[1], a.pages[1]);
    assert_int_not_equal(b.pages[2], a.pages[2]);
    assert_int_equal(assay_kv_used_pages(f->kv), 4);
    check_mark(f, &b, 2, 96);
    mark(f, &b, 2, 200); /* what b writes a does not see */
    check_mark(f, &a, 2, 96);
    /* a boundary needs no copy, and the pages outlive whoever made them */
    assert_int_equal(assay_seq_fork(f->kv, &c, &a, PAGE, NULL), ASSAY_OK);
    assert_int_equal(c.n_pages, 1);
    assert_int_equal(assay_kv_used_pages(f->kv), 4);
    assay_seq_release(f->kv, &a);
    assert_int_equal(assay_kv_used_pages(f->kv), 3);
    check_mark(f, &c, 0, 32);
    assay_seq_release(f->kv, &b);
    assert_int_equal(assay_kv_used_pages(f->kv), 1);
    check_mark(f, &c, 0, 32);
    assay_seq_release(f->kv, &c);
    assert_int_equal(assay_kv_used_pages(f->kv), 0);
}

/* The pool starts with fewer pages than the budget and grows: contents and page numbers stay. */
static void growing_keeps_contents(void **state) {
    fixture *f = *state;
    assay_seq s = {0};
    assert_int_equal(assay_seq_extend(f->kv, &s, 2 * PAGE, NULL), ASSAY_OK);
    mark(f, &s, 0, 10);
    mark(f, &s, 1, 60);
    int32_t first = s.pages[0];
    assert_int_equal(assay_seq_extend(f->kv, &s, PAGES * PAGE, NULL), ASSAY_OK);
    assert_int_equal(s.pages[0], first);
    check_mark(f, &s, 0, 10);
    check_mark(f, &s, 1, 60);
    assay_seq_release(f->kv, &s);
}

static void the_budget_holds(void **state) {
    fixture *f = *state;
    assay_err err = {0};
    assay_seq s = {0}, t = {0};
    assert_int_equal(assay_seq_extend(f->kv, &s, (PAGES - 1) * PAGE, NULL), ASSAY_OK);
    s.n = s.n_pages * PAGE;
    assert_int_equal(assay_seq_extend(f->kv, &t, 2 * PAGE, &err), ASSAY_ENOMEM);
    assert_non_null(strstr(err.message, "kv cache"));
    assert_int_equal(t.n_pages, 0);
    assert_int_equal(assay_kv_used_pages(f->kv), PAGES - 1);
    assay_seq_release(f->kv, &t);
    assert_int_equal(assay_seq_extend(f->kv, &t, PAGE, NULL), ASSAY_OK);
    assay_seq u = {0};
    assert_int_equal(assay_seq_fork(f->kv, &u, &s, PAGE + 1, NULL), ASSAY_ENOMEM);
    assert_int_equal(u.n_pages, 0);
    assay_seq_release(f->kv, &u);
    assay_seq_release(f->kv, &s);
    assay_seq_release(f->kv, &t);
    assert_int_equal(assay_kv_used_pages(f->kv), 0);
    assay_kv *none = NULL;
    memset(&err, 0, sizeof err);
    assert_int_equal(assay_kv_open(&none, f->b, &f->c, ASSAY_KV_F32, 100, &err), ASSAY_EINPUT);
    assert_null(none);
    assert_non_null(strstr(err.message, "100 B"));
}

/* --- quantized --- */

static assay_kv *open_packed(fixture *f, assay_kv_pack pack, size_t raw_pages, size_t max_bytes) {
    assay_err err = {0};
    assay_kv *kv = NULL;
    assay_kv_opts o = {.type = ASSAY_KV_BF16, .pack = pack, .raw_pages = raw_pages, .max_bytes = max_bytes};
    if (assay_kv_open_with(&kv, f->b, &f->c, &o, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return kv;
}

static void sizes_include_scales(void **state) {
    fixture *f = *state;
    assay_config c = {.n_layers = 32, .n_kv_heads = 8, .head_dim = 128}; /* Llama 3.1 8B */
    static const struct {
        assay_kv_pack pack;
        double bits;
    } cases[] = {
        {ASSAY_KV_PACK_INT8, 8.5}, {ASSAY_KV_PACK_INT4, 4.5}, {ASSAY_KV_PACK_FP8, 8 + 32.0 / (64 * 128)}};
    (void)f;
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_kv_opts o = {.type = ASSAY_KV_BF16, .pack = cases[i].pack, .max_bytes = (size_t)1 << 30};
        assay_kv_size z;
        assert_int_equal(assay_kv_measure(&z, &c, &o, NULL), ASSAY_OK);
        assert_true((double)z.page / PAGE * 8 == 2.0 * 32 * 8 * 128 * cases[i].bits);
        assert_int_equal(z.raw_page, PAGE * 2 * 32 * 8 * 128 * 2);
        assert_int_equal(z.max_raw, 64);
        assert_int_equal(z.max_pages, (((size_t)1 << 30) - 64 * z.raw_page) / z.page);
    }
}

/* A sequence costs its quantized pages and one raw page; what a call wrote is given back when it is over. */
static void raw_pages_are_given_back(void **state) {
    fixture *f = *state;
    assay_kv *kv = open_packed(f, ASSAY_KV_PACK_INT4, 8, 1 << 20);
    const assay_kv_size *z = assay_kv_get_size(kv);
    assay_seq s = {0}, t = {0}, u = {0};
    assert_int_equal(assay_seq_extend(kv, &s, 5 * PAGE + 3, NULL), ASSAY_OK);
    assert_int_equal(assay_kv_used_pages(kv), 6);
    assert_int_equal(assay_kv_free_raw(kv), 2);
    assay_seq_advance(kv, &s, 5 * PAGE + 3);
    assert_int_equal(s.n, 5 * PAGE + 3);
    assert_int_equal(assay_kv_free_raw(kv), 7);
    assert_int_equal(assay_kv_used_bytes(kv), 6 * z->page + z->raw_page);
    assert_true(z->page * 2 < z->raw_page); /* heads of 8 are mostly scales and padding */
    for (size_t p = 0; p < 5; p++)
        assert_int_equal(s.pages[2 * p + 1], -1);
    /* the edge: nothing raw is left, nothing raw is needed */
    assert_int_equal(assay_seq_fork(kv, &t, &s, 5 * PAGE, NULL), ASSAY_OK);
    assert_int_equal(assay_kv_used_bytes(kv), 6 * z->page + z->raw_page);
    /* within the partial page it is copied; within one that is only quantized there is no fork */
    assert_int_equal(assay_seq_forkable(kv, &s, 5 * PAGE + 2), 5 * PAGE + 2);
    assert_int_equal(assay_seq_fork(kv, &u, &s, 5 * PAGE + 2, NULL), ASSAY_OK);
    assert_int_equal(assay_kv_free_raw(kv), 6);
    assert_int_not_equal(u.pages[11], s.pages[11]);
    assay_seq_release(kv, &u);
    assert_int_equal(assay_seq_forkable(kv, &s, 4 * PAGE + 2), 4 * PAGE);
    assay_err err = {0};
    assert_int_equal(assay_seq_fork(kv, &u, &s, 4 * PAGE + 2, &err), ASSAY_EINPUT);
    assert_non_null(strstr(err.message, "quantized"));
    assert_int_equal(u.n_pages, 0);
    assay_seq_release(kv, &s);
    assert_int_equal(assay_kv_used_pages(kv), 5);
    assay_seq_release(kv, &t);
    assert_int_equal(assay_kv_used_bytes(kv), 0);
    assay_kv_close(kv);
}

static void raw_pages_run_out(void **state) {
    fixture *f = *state;
    assay_err err = {0};
    assay_kv *kv = open_packed(f, ASSAY_KV_PACK_INT8, 3, 1 << 20), *none = NULL;
    assay_seq s = {0};
    assert_int_equal(assay_seq_extend(kv, &s, 4 * PAGE, &err), ASSAY_ENOMEM);
    assert_non_null(strstr(err.message, "not quantized"));
    assert_int_equal(s.n_pages, 0);
    assert_int_equal(assay_kv_used_bytes(kv), 0);
    for (size_t at = 0; at < 10 * PAGE; at += PAGE) { /* page by page there is no end but the budget's */
        assert_int_equal(assay_seq_extend(kv, &s, at + PAGE, &err), ASSAY_OK);
        assay_seq_advance(kv, &s, at + PAGE);
    }
    assay_seq_release(kv, &s);
    assay_kv_opts o = {
        .type = ASSAY_KV_F32, .pack = ASSAY_KV_PACK_INT8, .max_bytes = 2 * assay_kv_get_size(kv)->raw_page};
    memset(&err, 0, sizeof err);
    assert_int_equal(assay_kv_open_with(&none, f->b, &f->c, &o, &err), ASSAY_EINPUT);
    assert_null(none);
    assay_kv_close(kv);
}

/* Raw contents follow a fork and survive the growing of their pool. */
static void a_fork_copies_the_raw_page(void **state) {
    fixture *f = *state;
    assay_kv *kv = open_packed(f, ASSAY_KV_PACK_FP8, 100, 8 << 20);
    size_t page = assay_kv_page_bytes(ASSAY_KV_BF16, HEADS, HEAD);
    uint8_t *bytes = assay_malloc(page);
    assay_seq s = {0}, t = {0}, many = {0};
    assert_int_equal(assay_seq_extend(kv, &s, 10, NULL), ASSAY_OK);
    assay_seq_advance(kv, &s, 10);
    memset(bytes, 77, page);
    assay_buf_write(f->b, assay_kv_get_layer(kv, 1).v, (size_t)s.pages[1] * page, bytes, page);
    assert_int_equal(assay_seq_extend(kv, &many, 60 * PAGE, NULL), ASSAY_OK);
    assert_int_equal(assay_seq_fork(kv, &t, &s, 7, NULL), ASSAY_OK);
    memset(bytes, 0, page);
    assay_buf_read(f->b, bytes, assay_kv_get_layer(kv, 1).v, (size_t)t.pages[1] * page, page);
    assert_int_equal(bytes[0], 77);
    assert_int_equal(bytes[page - 1], 77);
    assay_free(bytes);
    assay_seq_release(kv, &s), assay_seq_release(kv, &t), assay_seq_release(kv, &many);
    assay_kv_close(kv);
}

/* Latent attention keeps one latent and the keys' turning part for all heads, once: DeepSeek-V2-Lite's 576 numbers a position. */
static void latents_are_kept_once(void **state) {
    fixture *f = *state;
    assay_config c = {.n_layers = 3, .n_heads = 16, .n_kv_heads = 16, .head_dim = 192, .v_head_dim = 128, .rotary_dim = 64, .nope_dim = 128, .kv_rank = 512};
    assay_kv_size size;
    assay_kv *kv = NULL;
    assay_seq s = {0}, t = {0};
    uint8_t x[16];
    const assay_kv_opts plain = {.type = ASSAY_KV_BF16, .max_bytes = 16 << 20}, packed = {.type = ASSAY_KV_BF16, .pack = ASSAY_KV_PACK_FP8, .max_bytes = 8 << 20};
    assert_int_equal(assay_kv_measure(&size, &c, &plain, NULL), ASSAY_OK);
    assert_int_equal(size.page, 3 * PAGE * 576 * 2);
    assert_int_equal(assay_kv_measure(&size, &c, &packed, NULL), ASSAY_OK);
    assert_int_equal(size.raw_page, 3 * PAGE * 576 * 2);
    assert_int_equal(size.page, 3 * (PAGE * 576 + 4));
    assert_int_equal(assay_kv_open_with(&kv, f->b, &c, &plain, NULL), ASSAY_OK);
    assert_null(assay_kv_get_layer(kv, 2).v);
    assert_int_equal(assay_seq_extend(kv, &s, 40 * PAGE, NULL), ASSAY_OK); /* grows the pool */
    assay_seq_advance(kv, &s, 40 * PAGE);
    assay_buf_write(f->b, assay_kv_get_layer(kv, 2).k, (size_t)s.pages[1] * PAGE * 576 * 2, "latent", 7);
    assert_int_equal(assay_seq_fork(kv, &t, &s, PAGE + 5, NULL), ASSAY_OK);
    assay_buf_read(f->b, x, assay_kv_get_layer(kv, 2).k, (size_t)t.pages[1] * PAGE * 576 * 2, 7);
    assert_string_equal((char *)x, "latent");
    assay_seq_release(kv, &s), assay_seq_release(kv, &t);
    assay_kv_close(kv);
}

static void kinds_have_words(void **state) {
    (void)state;
    assay_kv_kind k;
    assert_string_equal(assay_kv_kind_list(), "auto, f32, bf16, f16, int8, fp8, int4");
    assert_true(assay_kv_kind_parse(&k, "int4"));
    assert_int_equal(k, ASSAY_KV_KIND_INT4);
    assert_false(assay_kv_kind_parse(&k, "int5"));
    assay_kv_opts o = assay_kv_opts_of(ASSAY_KV_KIND_INT4, ASSAY_KV_BF16, 5);
    assert_int_equal(o.type, ASSAY_KV_BF16);
    assert_int_equal(o.pack, ASSAY_KV_PACK_INT4);
    o = assay_kv_opts_of(ASSAY_KV_KIND_F16, ASSAY_KV_BF16, 5);
    assert_int_equal(o.type, ASSAY_KV_F16);
    assert_int_equal(o.pack, ASSAY_KV_PACK_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_follow_positions), cmocka_unit_test(forks_share_full_pages_and_copy_the_last),
        cmocka_unit_test(growing_keeps_contents), cmocka_unit_test(the_budget_holds),
        cmocka_unit_test(sizes_include_scales),   cmocka_unit_test(raw_pages_are_given_back),
        cmocka_unit_test(raw_pages_run_out),      cmocka_unit_test(a_fork_copies_the_raw_page),
        cmocka_unit_test(latents_are_kept_once),
        cmocka_unit_test(kinds_have_words),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
