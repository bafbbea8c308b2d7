/* test_smoothquant.c: the scales are the paper's formula, folding them changes no output, and with outliers
 * in the inputs 8-bit activations lose less; searched alphas are never worse than none on the tokens tried.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "method/fold_layer.h"

static void the_scales_are_the_formula(void **state) {
    (void)state;
    static const double alphas[] = {0.5, 0.85};
    for (size_t k = 0; k < ASSAY_LEN(alphas); k++) {
        fold_layer f;
        assay_err err = {0};
        char recipe[64];
        float norm[FL_HIDDEN], xmax[FL_HIDDEN];
        snprintf(recipe, sizeof recipe, "smoothquant,alpha=%g", alphas[k]);
        fl_open(&f, recipe, ASSAY_DTYPE_F32, 2);
        memcpy(norm, f.layer.vector[ASSAY_ROLE_ATTN_NORM], sizeof norm);
        fl_must(assay_layer_collect(&f.layer, ASSAY_ROLE_BIT(ASSAY_ROLE_Q), ASSAY_COLLECT_STATS, &err), &err);
        memcpy(xmax, f.layer.inputs[ASSAY_ROLE_Q].absmax, sizeof xmax);
        fl_must(assay_smooth_prepare(&f.layer, &err), &err);
        for (int c = 0; c < FL_HIDDEN; c++) {
            double wmax = 0;
            for (int m = 0; m < 3; m++) /* q, k, v */
                for (int64_t r = 0; r < f.tensor[m].dims[0]; r++)
                    wmax = fmax(wmax, fabs((double)((const float *)f.tensor[m].data)[r * FL_HIDDEN + c]));
            double s = pow((double)xmax[c], alphas[k]) / pow(wmax, 1 - alphas[k]);
            assert_true(fabs((double)norm[c] / (double)f.layer.vector[ASSAY_ROLE_ATTN_NORM][c] / s - 1) <
                        1e-5);
            assert_true(
                fabs((double)f.layer.items[1].w[c] / (double)((const float *)f.tensor[1].data)[c] / s - 1) <
                1e-5);
        }
        assert_null(fl_item(&f, ASSAY_ROLE_O)->w); /* the original leaves o and down alone */
        assert_null(fl_item(&f, ASSAY_ROLE_DOWN)->w);
        assert_non_null(strstr(f.layer.items[0].chosen, "smooth_alpha"));
        fl_close(&f);
    }
}

static void smoothing_changes_no_output(void **state) {
    (void)state;
    static const char *const recipes[] = {"smoothquant", "smoothquant,alpha_search",
                                          "smoothquant,alpha_search,activations=static"};
    for (size_t k = 0; k < ASSAY_LEN(recipes); k++) {
        fold_layer f;
        assay_err err = {0};
        fl_open(&f, recipes[k], ASSAY_DTYPE_F32, 2);
        float *before = fl_output(&f);
        fl_must(assay_smooth_prepare(&f.layer, &err), &err);
        float *after = fl_output(&f);
        assert_true(fl_distance(&f, after, before) < 1e-5);
        assay_free(before);
        assay_free(after);
        fl_close(&f);
    }
}

static void outliers_cost_less_when_smoothed(void **state) {
    (void)state;
    static const char *const modes[] = {"dynamic", "static"};
    for (size_t k = 0; k < ASSAY_LEN(modes); k++) {
        char plain[80], fixed[80], searched[80];
        snprintf(plain, sizeof plain, "smoothquant,smooth=false,activations=%s", modes[k]);
        snprintf(fixed, sizeof fixed, "smoothquant,activations=%s", modes[k]);
        snprintf(searched, sizeof searched, "smoothquant,alpha_search,activations=%s", modes[k]);
        double e0 = fl_error(plain, NULL), e1 = fl_error(fixed, assay_smooth_prepare),
               e2 = fl_error(searched, assay_smooth_prepare);
        if (!(e1 < 0.7 * e0)) fail_msg("%s: %g smoothed, %g not", modes[k], e1, e0);
        if (!(e2 < 0.7 * e0)) fail_msg("%s: %g with alphas searched, %g not smoothed", modes[k], e2, e0);
    }
}

static void eight_bits_of_both_are_encoded(void **state) {
    (void)state;
    fold_layer f;
    assay_err err = {0};
    fl_open(&f, "smoothquant,activations=static", ASSAY_DTYPE_F32, 1);
    fl_must(assay_smooth_prepare(&f.layer, &err), &err);
    fl_quantize(&f);
    for (int i = 0; i < FL_ITEMS; i++) {
        const assay_matrix *m = &f.layer.items[i].out;
        assert_int_equal(m->precision, ASSAY_PRECISION_INT8);
        assert_int_equal(m->n_scales, m->rows);
        assert_null(m->zeros);
        assert_int_equal(m->act_bits, 8);
        assert_true(m->input_scale > 0);
    }
    float most = 0; /* of the inputs as smoothed */
    fl_must(assay_layer_collect(&f.layer, ASSAY_ROLE_BIT(ASSAY_ROLE_Q), ASSAY_COLLECT_STATS, &err), &err);
    for (int c = 0; c < FL_HIDDEN; c++)
        most = fmaxf(most, f.layer.inputs[ASSAY_ROLE_Q].absmax[c]);
    assert_true(fl_item(&f, ASSAY_ROLE_K)->out.input_scale == most / 127);
    fl_close(&f);
}

static void a_trial_leaves_the_layer_as_it_was(void **state) {
    (void)state;
    static const assay_tensor_role inputs[] = {ASSAY_ROLE_Q, ASSAY_ROLE_O, ASSAY_ROLE_GATE, ASSAY_ROLE_DOWN};
    fold_layer f;
    assay_err err = {0};
    fl_open(&f, "smoothquant,activations=static", ASSAY_DTYPE_F32, 2);
    float *before = fl_output(&f);
    assay_fold_tokens tokens;
    fl_must(assay_fold_tokens_open(&tokens, &f.layer, &err), &err);
    for (size_t i = 0; i < ASSAY_LEN(inputs); i++) {
        assay_fold fold;
        assay_fold_trial trial;
        float s[FL_FFN];
        double e1, e2, scaled;
        assert_null(assay_fold_open(&fold, &f.layer, inputs[i]));
        fl_must(assay_layer_collect(&f.layer, ASSAY_ROLE_BIT(inputs[i]), ASSAY_COLLECT_STATS, &err), &err);
        float absmax = f.layer.inputs[inputs[i]].absmax[7];
        fl_must(assay_fold_trial_open(&trial, &fold, &tokens, &err), &err);
        for (int64_t k = 0; k < fold.n_scales; k++)
            s[k] = 1;
        fl_must(assay_fold_trial_error(&e1, &trial, s, &err), &err);
        s[7] = 100;
        fl_must(assay_fold_trial_error(&scaled, &trial, s, &err), &err);
        s[7] = 1;
        fl_must(assay_fold_trial_error(&e2, &trial, s, &err), &err);
        assert_true(e1 > 0 && e1 == e2 && scaled != e1);
        assert_true(f.layer.inputs[inputs[i]].absmax[7] == absmax);
        assert_ptr_equal(fl_item(&f, inputs[i])->in, &f.layer.inputs[inputs[i]]);
        assay_fold_trial_close(&trial);
    }
    assay_fold_tokens_close(&tokens);
    float *after = fl_output(&f);
    assert_memory_equal(before, after, f.layer.n_tokens * FL_HIDDEN * sizeof *after);
    assay_free(before);
    assay_free(after);
    fl_close(&f);
}

static void options_of_smoothquant(void **state) {
    (void)state;
    static const char *const bad[] = {"smoothquant,int4", "smoothquant,activations=16bit",
                                      "smoothquant,alpha=1.5", "smoothquant,group_size=128"};
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        assay_recipe *r = NULL;
        assay_err err = {0};
        assert_int_equal(assay_recipe_from_string(&r, bad[i], &err), ASSAY_EINPUT);
    }
    assay_choice c = fl_choice("smoothquant");
    assert_true(c.smooth && c.alpha == 0.5 && !c.alpha_search && c.activations == ASSAY_ACTIVATIONS_DYNAMIC &&
                c.group_size == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_scales_are_the_formula),
        cmocka_unit_test(smoothing_changes_no_output),
        cmocka_unit_test(outliers_cost_less_when_smoothed),
        cmocka_unit_test(eight_bits_of_both_are_encoded),
        cmocka_unit_test(a_trial_leaves_the_layer_as_it_was),
        cmocka_unit_test(options_of_smoothquant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
