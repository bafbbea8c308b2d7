/* Keys of steps: the same for the same work on every machine and day (pinned values), different for different work. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "study/keys.h"

static const char model[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void quantize_key(char hex[ASSAY_HASH_HEX], const char *checkpoint, const char *line) {
    assay_err err = {0};
    assay_recipe *r;
    assert_int_equal(assay_recipe_from_string(&r, line, &err), ASSAY_OK);
    assert_int_equal(study_quantize_key(hex, checkpoint, r, NULL, NULL, &err), ASSAY_OK);
    assay_recipe_free(r);
}

static void quantizing_is_keyed_by_checkpoint_and_recipe(void **state) {
    (void)state;
    char a[ASSAY_HASH_HEX], b[ASSAY_HASH_HEX];
    quantize_key(a, model, "rtn,int4,group_size=128");
    quantize_key(b, model, "rtn,precision=int4g128"); /* the same recipe in other words */
    assert_string_equal(a, b);
    static const char *const others[] = {"rtn,int4,group_size=64", "rtn,int3,group_size=128", "nf4", "rtn,int4,group_size=128,mse",
                                         "rtn,int4,group_size=128;match=mlp,precision=int8"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        quantize_key(b, model, others[i]);
        assert_string_not_equal(a, b);
    }
    quantize_key(b, "other", "rtn,int4,group_size=128");
    assert_string_not_equal(a, b);
}

static const study_identity plain = {.checkpoint = "c", .text = "t", .activations = "auto", .kv = "bf16", .isa = "avx2", .context = 0};

static void score_key(char hex[ASSAY_HASH_HEX], study_identity m, const char *suite, const study_identity *base, int rerun) {
    assay_err err = {0};
    assert_int_equal(study_score_key(hex, &m, suite, base, rerun, &err), ASSAY_OK);
}

static void scoring_is_keyed_by_all_that_changes_an_answer(void **state) {
    (void)state;
    char a[ASSAY_HASH_HEX], b[9][ASSAY_HASH_HEX];
    study_identity m = plain;
    score_key(a, plain, "s", NULL, 0);
    score_key(b[0], plain, "s", NULL, 0);
    assert_string_equal(a, b[0]);
    strcpy(m.checkpoint, "d");
    score_key(b[0], m, "s", NULL, 0);
    m = plain;
    strcpy(m.text, "u");
    score_key(b[1], m, "s", NULL, 0);
    m = plain;
    m.activations = "int8";
    score_key(b[2], m, "s", NULL, 0);
    m = plain;
    m.isa = "avx512";
    score_key(b[3], m, "s", NULL, 0);
    m = plain;
    m.context = 128;
    score_key(b[4], m, "s", NULL, 0);
    score_key(b[5], plain, "r", NULL, 0);
    score_key(b[6], plain, "s", &plain, 0); /* with kl against a baseline */
    score_key(b[7], plain, "s", NULL, 7);   /* the rerun is a scorecard of its own */
    m = plain;
    m.kv = "int4";
    score_key(b[8], m, "s", NULL, 0);
    for (size_t i = 0; i < 9; i++) {
        assert_string_not_equal(a, b[i]);
        for (size_t k = 0; k < i; k++) assert_string_not_equal(b[i], b[k]);
    }
}

/* AUTO and the kind that it comes to are one; the context is what can be held, so that a small KV budget is another key. */
static void options_are_resolved(void **state) {
    (void)state;
    assay_native_opts o = {0};
    study_identity a, b;
    assert_int_equal(study_identify(&a, "models/demo", "models/demo", model, &o, NULL), ASSAY_OK);
    assert_string_equal(a.kv, "bf16");
    assert_int_equal(a.context, 512);
    o.context = 512;
    o.kv = ASSAY_KV_KIND_BF16;
    assert_int_equal(study_identify(&b, "models/demo", "models/demo", model, &o, NULL), ASSAY_OK);
    assert_string_equal(a.kv, b.kv);
    assert_int_equal(a.context, b.context);
    o.kv_bytes = 3 * 64 * 4 * 2 * 4 * 32 * 2; /* three pages of 64 positions */
    assert_int_equal(study_identify(&b, "models/demo", "models/demo", model, &o, NULL), ASSAY_OK);
    assert_int_equal(b.context, 3 * 64);
    o = (assay_native_opts){.kv = ASSAY_KV_KIND_INT4};
    assert_int_equal(study_identify(&b, "models/demo", "models/demo", model, &o, NULL), ASSAY_OK);
    assert_string_equal(b.kv, "int4");
    o = (assay_native_opts){.activations = ASSAY_ACT_F32};
    assert_int_equal(study_identify(&b, "models/demo", "models/demo", model, &o, NULL), ASSAY_OK);
    assert_string_equal(b.kv, "f32");
}

/* Whoever changes these values on purpose raises STUDY_..._VERSION: every study then scores everything again. */
static void keys_do_not_move(void **state) {
    (void)state;
    char a[ASSAY_HASH_HEX];
    score_key(a, plain, "s", &plain, 0);
    assert_string_equal(a, "c08552bb8c1928608afca92642ad985d475581c9de1f60a904159e5a2b3b0b34");
    quantize_key(a, model, "nf4,double_quant");
    assert_string_equal(a, "c8171806c8ad51a543b25e299639ac0095677f8b76b866ee6f0076c08d2d19c2");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantizing_is_keyed_by_checkpoint_and_recipe), cmocka_unit_test(scoring_is_keyed_by_all_that_changes_an_answer),
        cmocka_unit_test(options_are_resolved), cmocka_unit_test(keys_do_not_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
