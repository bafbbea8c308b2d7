/* test_adapter.c: what a damaged or foreign adapter is refused for, and what its names and scales come to. That the numbers are peft's is
 * held by tests/runtime/test_adapter and tests/method/test_merge. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include "format/adapter.h"
#include "format/support.h"

/* A safetensors file of float32 tensors from "NAME rows cols" lines; cols 0: a vector. All elements are 1. */
static assay_str weights(const char *list) {
    assay_str head = {0}, out = {0};
    uint64_t at = 0, n;
    char name[200];
    long rows, cols;
    int used;
    for (const char *p = list; sscanf(p, " %199s %ld %ld%n", name, &rows, &cols, &used) == 3; p += used) {
        uint64_t bytes = 4u * (uint64_t)rows * (uint64_t)(cols ? cols : 1);
        assay_str_printf(&head, "%s\"base_model.model.%s\":{\"dtype\":\"F32\",\"shape\":", at || head.len ? "," : "{", name);
        cols ? assay_str_printf(&head, "[%ld,%ld]", rows, cols) : assay_str_printf(&head, "[%ld]", rows);
        assay_str_printf(&head, ",\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + bytes));
        at += bytes;
    }
    assay_str_putc(&head, '}');
    n = head.len;
    assay_str_putn(&out, &n, 8);
    assay_str_putn(&out, head.s, head.len);
    for (uint64_t i = 0; i < at / 4; i++) assay_str_putn(&out, &(float){1}, 4);
    assay_str_free(&head);
    return out;
}

static assay_status open_adapter(assay_adapter **out, const char *config, const assay_str *file, assay_err *err) {
    *err = (assay_err){0};
    return assay_adapter_parse(out, config, strlen(config), (const uint8_t *)file->s, file->len, err);
}

#define Q    "model.layers.0.self_attn.q_proj"
#define PAIR Q ".lora_A.weight 2 8 " Q ".lora_B.weight 4 2 "
#define LORA(MORE) "{\"peft_type\":\"LORA\",\"lora_alpha\":6" MORE "}"

static void what_is_damaged_or_foreign_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *config, *list;
        assay_status status;
        const char *says;
    } cases[] = {
        {LORA(), Q ".lora_A.weight 2 8", ASSAY_EINPUT, "one half"},
        {LORA(), Q ".lora_A.weight 0 8 " Q ".lora_B.weight 4 0", ASSAY_EINPUT, "shape"},
        {LORA(), Q ".lora_A.weight 2 8 " Q ".lora_B.weight 4 3", ASSAY_EINPUT, "partner"},
        {LORA(",\"use_dora\":true"), PAIR, ASSAY_EINPUT, "no lora_magnitude_vector"},
        {LORA(), PAIR Q ".lora_magnitude_vector 4 0", ASSAY_EINPUT, "use_dora is not"},
        {LORA(",\"use_dora\":true"), PAIR Q ".lora_magnitude_vector 3 0", ASSAY_EINPUT, "one element for each of 4"},
        {LORA(",\"use_dora\":true"), PAIR Q ".lora_magnitude_vector 4 0 " Q ".lora_magnitude_vector.weight 4 0", ASSAY_EINPUT, "twice"},
        {LORA(), PAIR Q ".bias 4 0 " Q ".base_layer.bias 4 0", ASSAY_EINPUT, "twice"},
        {LORA(), PAIR Q ".lora_C.weight 4 4", ASSAY_EUNSUPPORTED, "of a kind"},
        {LORA(",\"lora_bias\":true"), PAIR, ASSAY_EUNSUPPORTED, "lora_bias"},
        {LORA(",\"init_lora_weights\":\"pissa\""), PAIR, ASSAY_EUNSUPPORTED, "pissa"},
        {LORA(",\"alpha_pattern\":{\"q_proj\":1e300}"), PAIR, ASSAY_EINPUT, "no usable number"},
        {LORA(",\"alpha_pattern\":{\"q_proj\":\"x\"}"), PAIR, ASSAY_EINPUT, "is no number"},
        {"{\"peft_type\":\"IA3\"}", PAIR, ASSAY_EUNSUPPORTED, "IA3"},
        {"{}", PAIR, ASSAY_EINPUT, "peft_type"},
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_adapter *a = NULL;
        assay_err err;
        assay_str file = weights(cases[i].list);
        expect_error(open_adapter(&a, cases[i].config, &file, &err), cases[i].status, &err, cases[i].says);
        assert_null(a);
        assay_str_free(&file);
    }
}

static void scales_follow_rank_alpha_and_patterns(void **state) {
    (void)state;
    static const struct {
        const char *config;
        double scale;
    } cases[] = {
        {LORA(), 3}, {"{\"peft_type\":\"LORA\"}", 4}, {LORA(",\"alpha_pattern\":{\"q_proj\":5}"), 2.5}, {LORA(",\"alpha_pattern\":{\"proj\":5}"), 3},
    };
    assay_str file = weights(PAIR);
    assay_adapter *a;
    assay_err err;
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        if (open_adapter(&a, cases[i].config, &file, &err) != ASSAY_OK) fail_msg("%s", err.message);
        assert_true(assay_adapter_find(a, Q ".weight")->scale == cases[i].scale);
        assay_adapter_close(a);
    }
    assert_int_equal(open_adapter(&a, LORA(",\"use_rslora\":true"), &file, &err), ASSAY_OK);
    assert_true(fabs(assay_adapter_find(a, Q ".weight")->scale - 6 / sqrt(2)) < 1e-12);
    assay_adapter_close(a);
    assay_str_free(&file);
}

/* modules_to_save stand under the base's names; the wrapper of an adapted layer's bias is taken out of its name, and only the wrapper. */
static void whole_tensors_have_the_base_s_names(void **state) {
    (void)state;
    assay_str file = weights(PAIR "lm_head.weight 4 8 " Q ".base_layer.bias 4 0 stack.base_layers.0.weight 2 2");
    assay_adapter *a;
    assay_err err;
    if (open_adapter(&a, LORA(), &file, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_int_equal(assay_adapter_n_whole(a), 3);
    assert_non_null(assay_adapter_whole(a, "lm_head.weight"));
    assert_non_null(assay_adapter_whole(a, Q ".bias"));
    assert_non_null(assay_adapter_whole(a, "stack.base_layers.0.weight"));
    assert_null(assay_adapter_whole(a, "model.norm.weight"));
    assert_null(assay_adapter_find(a, "lm_head.weight"));
    assay_adapter_close(a);
    assay_str_free(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_damaged_or_foreign_is_refused),
        cmocka_unit_test(scales_follow_rank_alpha_and_patterns),
        cmocka_unit_test(whole_tensors_have_the_base_s_names),
    };
    return cmocka_run_group_tests_name("adapters", tests, NULL, NULL);
}
