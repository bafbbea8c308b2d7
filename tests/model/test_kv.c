/* The paged KV cache: pages are shared by forks, partial pages are copied, nothing leaks, the budget holds. */
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
        assay_buf_write(f->b, assay_kv_keys(f->kv, l), (size_t)s->pages[index] * f->page, bytes, f->page);
        memset(bytes, value + 16 + (int)l, f->page);
        assay_buf_write(f->b, assay_kv_values(f->kv, l), (size_t)s->pages[index] * f->page, bytes, f->page);
    }
    assay_free(bytes);
}

static void check_mark(fixture *f, const assay_seq *s, size_t index, uint8_t value) {
    uint8_t *bytes = assay_malloc(f->page);
    for (int64_t l = 0; l < LAYERS; l++) {
        assay_buf_read(f->b, bytes, assay_kv_keys(f->kv, l), (size_t)s->pages[index] * f->page, f->page);
        assert_int_equal(bytes[0], value + l);
        assert_int_equal(bytes[f->page - 1], value + l);
        assay_buf_read(f->b, bytes, assay_kv_values(f->kv, l), (size_t)s->pages[index] * f->page, f->page);
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
    for (size_t p = 0; p < 3; p++) mark(f, &a, p, (uint8_t)(32 * (p + 1)));
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_follow_positions),
        cmocka_unit_test(forks_share_full_pages_and_copy_the_last),
        cmocka_unit_test(growing_keeps_contents),
        cmocka_unit_test(the_budget_holds),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
