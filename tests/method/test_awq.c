/* test_awq.c: folding changes no output, with shared heads and biases too; the search finds a scaling under
 * which the weights lie on their grid, and is never worse than none; clipping is the best of ten for every
 * row and group; and on the demo model the matrices lose less than by rounding alone. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/file.h"
#include "method/awq.h"
#include "method/calibrate.h"
#include "method/fold_layer.h"
#include "method/tiny.h"

static const assay_tensor_role inputs[] = {ASSAY_ROLE_Q, ASSAY_ROLE_O, ASSAY_ROLE_GATE, ASSAY_ROLE_DOWN};

/* --- folding --- */

static void folding_changes_no_output(void **state) {
    (void)state;
    fold_layer f;
    assay_err err = {0};
    assay_rng rng;
    assay_rng_init(&rng, 3);
    fl_open(&f, "awq,int4,group_size=64", ASSAY_DTYPE_F32, 2);
    float *before = fl_output(&f);
    for (size_t i = 0; i < ASSAY_LEN(inputs); i++) {
        assay_fold fold;
        float s[FL_FFN];
        assert_null(assay_fold_open(&fold, &f.layer, inputs[i]));
        assert_int_equal(fold.n_scales, inputs[i] == ASSAY_ROLE_O ? FL_KV : fold.cols);
        for (int64_t k = 0; k < fold.n_scales; k++)
            s[k] = (float)exp(assay_rng_normal(&rng));
        assay_fold_exact(s, &fold);
        fl_must(assay_fold_apply(&fold, s, &err), &err);
        float *after = fl_output(&f);
        double d = fl_distance(&f, after, before);
        if (!(d < 1e-5)) fail_msg("input %d: outputs moved by %g", (int)inputs[i], d);
        assay_free(after);
    }
    assay_free(before);
    fl_close(&f);
}

static void query_heads_of_a_group_share_their_scales(void **state) {
    (void)state;
    fold_layer f;
    assay_fold fold;
    assay_err err = {0};
    float s[FL_KV], x[FL_HIDDEN], mean[FL_KV];
    fl_open(&f, "awq,int4,group_size=64", ASSAY_DTYPE_F32, 1);
    assert_null(assay_fold_open(&fold, &f.layer, ASSAY_ROLE_O));
    /* Heads 0 and 1 read value head 0, heads 2 and 3 value head 1. */
    const int64_t col[] = {0, 31, 32, 63, 64, 127}, row[] = {0, 31, 0, 31, 32, 63};
    for (int i = 0; i < 6; i++)
        assert_int_equal(assay_fold_index(&fold, col[i]), row[i]);
    for (int c = 0; c < FL_HIDDEN; c++)
        x[c] = (float)c;
    assay_fold_mean(mean, &fold, x);
    assert_true(mean[0] == 16 && mean[33] == 81);
    assay_fold_max(mean, &fold, x);
    assert_true(mean[0] == 32 && mean[33] == 97);
    for (int i = 0; i < FL_KV; i++)
        s[i] = (float)(1 << (i % 3)); /* powers of two: exact */
    const float *o = f.tensor[3].data, *v = f.tensor[2].data, bias = f.layer.vector[ASSAY_ROLE_V_BIAS][5];
    fl_must(assay_fold_apply(&fold, s, &err), &err);
    for (int c = 0; c < FL_HIDDEN; c++)
        assert_true(fl_item(&f, ASSAY_ROLE_O)->w[7 * FL_HIDDEN + c] ==
                    o[7 * FL_HIDDEN + c] * s[c / 64 * 32 + c % 32]);
    for (int r = 0; r < FL_KV; r++)
        assert_true(fl_item(&f, ASSAY_ROLE_V)->w[r * FL_HIDDEN + 9] == v[r * FL_HIDDEN + 9] / s[r]);
    assert_true(f.layer.vector[ASSAY_ROLE_V_BIAS][5] == bias / s[5]);
    fl_close(&f);
}

/* Norms before the MLP in bfloat16, or small ones stored as their distance from one, which has few digits then. */
static void check_stored_norms(float offset) {
    fold_layer f;
    assay_fold fold;
    assay_err err = {0};
    float s[FL_HIDDEN], norm[FL_HIDDEN];
    fl_open(&f, "awq,int4,group_size=64", ASSAY_DTYPE_BF16, 1);
    assay_arch arch = *f.config.arch;
    float *v = f.layer.vector[ASSAY_ROLE_MLP_NORM];
    if (offset != 0) {
        arch.norm = ASSAY_NORM_RMS_PLUS_ONE;
        f.config.arch = &arch;
        for (int i = 0; i < FL_HIDDEN; i++) v[i] = offset + assay_bf16_to_f32(assay_f32_to_bf16(0.2f * v[i] - offset));
    }
    assert_null(assay_fold_open(&fold, &f.layer, ASSAY_ROLE_GATE));
    v[3] = 0;
    memcpy(norm, v, sizeof norm);
    for (int i = 0; i < FL_HIDDEN; i++)
        s[i] = 0.3f + 0.01f * (float)i;
    s[1] = NAN;
    s[2] = 0;
    assay_fold_exact(s, &fold);
    assert_true(s[1] == 1 && s[2] == 1 && s[3] == 1);
    fl_must(assay_fold_apply(&fold, s, &err), &err);
    assert_true(f.layer.vector_changed[ASSAY_ROLE_MLP_NORM]);
    for (int i = 0; i < FL_HIDDEN; i++) {
        float stored = v[i] - offset;
        assert_true(assay_bf16_to_f32(assay_f32_to_bf16(stored)) == stored);
        assert_true(fabsf(v[i] * s[i] - norm[i]) <= 1e-6f * fabsf(norm[i]));
        if (i > 3 && offset == 0) assert_true(fabsf(s[i] / (0.3f + 0.01f * (float)i) - 1) < 1.0f / 128);
    }
    fl_close(&f);
}

static void a_norm_of_16_bits_takes_scales_without_loss(void **state) {
    (void)state;
    check_stored_norms(0);
    check_stored_norms(1);
}

static void what_stays_as_it_is_is_not_scaled(void **state) {
    (void)state;
    fold_layer f;
    assay_fold fold;
    fl_open(&f, "awq,int4,group_size=64", ASSAY_DTYPE_F32, 1);
    f.choice[2].method = ASSAY_METHOD_NONE; /* v */
    f.choice[5].method = ASSAY_METHOD_NONE; /* up */
    for (size_t i = 0; i < ASSAY_LEN(inputs); i++)
        assert_non_null(assay_fold_open(&fold, &f.layer, inputs[i]));
    fl_must(assay_awq_prepare(&f.layer, NULL), &(assay_err){0});
    for (int i = 0; i < FL_ITEMS; i++)
        assert_null(f.layer.items[i].w);
    assert_false(f.layer.vector_changed[ASSAY_ROLE_ATTN_NORM] || f.layer.vector_changed[ASSAY_ROLE_MLP_NORM]);
    assert_non_null(strstr(fl_item(&f, ASSAY_ROLE_O)->chosen, "awq_unscaled"));
    assert_non_null(fl_item(&f, ASSAY_ROLE_O)->clip); /* ranges are its own affair */
    fl_close(&f);
}

/* --- encoding --- */

static void encoding_is_rounding_to_nearest(void **state) {
    (void)state;
    static const char *const recipes[] = {"awq,int4,group_size=64",
                                          "awq,int3,group_size=32,symmetric=true",
                                          "awq,int8,group_size=channel",
                                          "awq,int2,group_size=128",
                                          "awq,mxfp4",
                                          "awq,nvfp4"};
    for (size_t i = 0; i < ASSAY_LEN(recipes); i++) {
        fold_layer f;
        assay_err err = {0};
        assay_matrix whole;
        fl_open(&f, recipes[i], ASSAY_DTYPE_F32, 1);
        assay_item *item = fl_item(&f, ASSAY_ROLE_DOWN);
        assay_grid_spec spec = assay_choice_grid(item->choice, ASSAY_DTYPE_F32);
        assay_int_opts o = {.bits = assay_precision_bits(spec.precision),
                            .group_size = spec.group_size,
                            .asymmetric = spec.asymmetric};
        if (assay_precision_get_kind(spec.precision) == ASSAY_KIND_INT)
            fl_must(assay_encode_int(&whole, f.tensor[6].data, FL_HIDDEN, FL_FFN, &o, &err), &err);
        else
            fl_must(assay_encode_float(&whole, f.tensor[6].data, FL_HIDDEN, FL_FFN, &spec, &err), &err);
        for (int threads = 1; threads <= 3; threads += 2) {
            fl_must(assay_fold_encode(item, NULL, NULL, threads, &err), &err);
            assert_int_equal(item->out.n_scales, whole.n_scales);
            assert_memory_equal(item->out.codes, whole.codes, FL_HIDDEN * FL_FFN);
            assert_memory_equal(item->out.scales, whole.scales, (size_t)whole.n_scales * sizeof(float));
            if (spec.asymmetric) assert_memory_equal(item->out.zeros, whole.zeros, (size_t)whole.n_scales);
            assert_true(item->out.global_scale == whole.global_scale);
            assay_matrix_deinit(&item->out);
        }
        item->out = (assay_matrix){0};
        assay_matrix_deinit(&whole);
        fl_close(&f);
    }
}

static void a_damaged_weight_is_named(void **state) {
    (void)state;
    fold_layer f;
    assay_err err = {0};
    fl_open(&f, "awq,int4,group_size=64", ASSAY_DTYPE_F32, 1);
    ((float *)(uintptr_t)f.tensor[6].data)[3 * FL_FFN + 17] = INFINITY;
    assert_int_equal(assay_fold_encode(fl_item(&f, ASSAY_ROLE_DOWN), NULL, NULL, 2, &err), ASSAY_EINPUT);
    assert_string_equal(err.message,
                        "tensor 'down': NaN or infinity at row 3, column 17: the checkpoint is damaged");
    fl_close(&f);
}

static void recipes_that_cannot_be(void **state) {
    (void)state;
    static const char *const bad[] = {"awq,nf4", "awq,mxfp4,group_size=64", "awq,nvfp4,symmetric=false",
                                      "awq,threshold=6"};
    for (size_t i = 0; i < ASSAY_LEN(bad); i++) {
        assay_recipe *r = NULL;
        assay_err err = {0};
        assert_int_equal(assay_recipe_from_string(&r, bad[i], &err), ASSAY_EINPUT);
    }
    assay_choice c = fl_choice("awq");
    assert_true(c.awq_scale && c.awq_clip && c.duo_scaling && c.asymmetric && c.group_size == 128 &&
                c.precision == ASSAY_PRECISION_INT4);
}

/* --- scales --- */

/* gate and up such that scaling them by mean|x|^0.5 (llm-awq's form) puts every weight on its grid. */
static void plant(fold_layer *f) {
    assay_err err = {0};
    assay_rng rng;
    double s[FL_HIDDEN], most = 0, least = INFINITY;
    assay_rng_init(&rng, 8);
    fl_must(assay_layer_collect(&f->layer, ASSAY_ROLE_BIT(ASSAY_ROLE_GATE), ASSAY_COLLECT_STATS, &err), &err);
    for (int c = 0; c < FL_HIDDEN; c++) {
        s[c] = sqrt((double)f->layer.inputs[ASSAY_ROLE_GATE].absmean[c]);
        most = fmax(most, s[c]);
        least = fmin(least, s[c]);
    }
    for (int m = 4; m <= 5; m++)
        for (int r = 0; r < FL_FFN; r++)
            for (int c = 0; c < FL_HIDDEN; c++) {
                int code = c % 64 == 0   ? 0
                           : c % 64 == 1 ? 15
                                         : (int)assay_rng_below(&rng, 16); /* both ends in every group */
                ((float *)(uintptr_t)f->tensor[m].data)[r * FL_HIDDEN + c] =
                    (float)((code - 6) * 0.02 / (s[c] / sqrt(most * least)));
            }
    assay_layer_forget(&f->layer, ~0u);
    assay_item_touch(&f->layer, &f->layer.items[4]);
    assay_item_touch(&f->layer, &f->layer.items[5]);
}

static void the_search_finds_the_planted_scales(void **state) {
    (void)state;
    fold_layer f;
    assay_err err = {0};
    fl_open(&f, "awq,int4,group_size=64", ASSAY_DTYPE_F32, 2);
    plant(&f);
    fl_must(assay_awq_prepare(&f.layer, &err), &err);
    for (int m = 4; m <= 5; m++) {
        assert_non_null(
            strstr(f.layer.items[m].chosen, "\"awq_ratio\": 0.50, \"awq_duo\": false, \"awq_gain\": 0.000"));
        assert_int_equal(strncmp(f.layer.items[m].chosen, "\"awq_ratio\"", 11), 0);
    }
    fl_close(&f);
}

/* Inputs of a role for the tokens tried; the caller frees. */
static float *inputs_of(fold_layer *f, assay_fold_tokens *t, assay_tensor_role role) {
    assay_err err = {0};
    assay_excerpt_swap(&t->excerpt, &f->layer);
    fl_must(assay_layer_collect(&f->layer, ASSAY_ROLE_BIT(role), ASSAY_COLLECT_SAMPLE, &err), &err);
    assay_excerpt_swap(&t->excerpt, &f->layer);
    float *x = f->layer.inputs[role].sample;
    f->layer.inputs[role].sample = NULL;
    assay_layer_forget(&f->layer, ASSAY_ROLE_BIT(role));
    return x;
}

/* Sum over tokens of weight * |x W^T - x' W'^T|^2, in double; what is NULL is as without. */
static double difference(const assay_fold_tokens *t, const float *x, const float *w, const float *x2,
                         const float *w2, size_t rows, size_t cols) {
    double sum = 0;
    for (size_t i = 0; i < t->excerpt.n_tokens; i++)
        for (size_t r = 0; r < rows; r++) {
            double d = 0;
            for (size_t c = 0; c < cols; c++)
                d += (double)x[i * cols + c] * (double)w[r * cols + c] - (double)x2[i * cols + c] * (double)w2[r * cols + c];
            sum += t->weight[i] * d * d;
        }
    return sum;
}

/* The layer with the fold's matrices encoded and its norm divided, or of o and down the product itself: all
 * that fold_delta.c does without. */
static double error_at_length(fold_layer *f, assay_fold_tokens *t, const assay_fold *fold, const float *s) {
    assay_err err = {0};
    assay_tensor_role at = fold->before ? fold->input : ASSAY_ROLE_DOWN;
    assay_item *item = fl_item(f, at);
    size_t rows = (size_t)item->weight->dims[0], cols = (size_t)item->weight->dims[1];
    float col_scale[FL_FFN], *w = item->weight->data ? (float *)(uintptr_t)item->weight->data : NULL;
    float *x = inputs_of(f, t, at), *x2 = NULL, *w2 = w, *decoded = assay_mallocn(rows * cols, sizeof *decoded);
    for (int64_t c = 0; c < fold->cols; c++)
        col_scale[c] = s[assay_fold_index(fold, c)];
    for (size_t i = 0; i < fold->n_into; i++)
        fl_must(assay_fold_encode(fold->into[i], col_scale, NULL, 1, &err), &err);
    if (fold->before) {
        x2 = assay_mallocn(t->excerpt.n_tokens * cols, sizeof *x2);
        for (size_t i = 0; i < t->excerpt.n_tokens * cols; i++)
            x2[i] = x[i] / col_scale[i % cols];
        assay_matrix_decode_rows(w2 = decoded, &item->out, 0, (int64_t)rows);
    } else {
        for (int64_t i = 0; i < fold->n_scales; i++)
            f->layer.vector[fold->vector][i] /= s[i];
        for (size_t i = 0; i < fold->n_into; i++)
            assay_item_touch(&f->layer, fold->into[i]);
        x2 = inputs_of(f, t, at);
    }
    double e = difference(t, x, w, x2, w2, rows, cols);
    assay_free(x);
    assay_free(x2);
    assay_free(decoded);
    return e;
}

static void the_change_alone_says_what_the_layer_says(void **state) {
    (void)state;
    static const char *const recipes[] = {"awq,int4,group_size=64", "awq,int8,group_size=channel", "awq,nvfp4"};
    for (size_t k = 0; k < ASSAY_LEN(recipes) * 3; k++) {
        fold_layer f;
        assay_fold fold;
        assay_fold_tokens tokens;
        assay_fold_trial trial;
        assay_err err = {0};
        float s[FL_FFN];
        double e;
        fl_open(&f, recipes[k / 3], ASSAY_DTYPE_F32, 2);
        assert_null(assay_fold_open(&fold, &f.layer, inputs[1 + k % 3]));
        assert_true(assay_fold_delta_can(&fold));
        fl_must(assay_fold_tokens_open(&tokens, &f.layer, &err), &err);
        fl_must(assay_fold_trial_open(&trial, &fold, &tokens, &err), &err);
        for (int64_t i = 0; i < fold.n_scales; i++)
            s[i] = 0.5f + 0.02f * (float)(i % 70);
        fl_must(assay_fold_trial_error(&e, &trial, s, &err), &err);
        assay_fold_trial_close(&trial);
        double full = error_at_length(&f, &tokens, &fold, s);
        if (!(fabs(e / full - 1) < 0.01)) fail_msg("%s: %g by the change alone, %g at length", recipes[k / 3], e, full);
        assay_fold_tokens_close(&tokens);
        fl_close(&f);
    }
}

static void searched_scales_lose_less_than_none(void **state) {
    (void)state;
    for (int bits = 3; bits <= 4; bits++) {
        char with[80], without[80];
        snprintf(with, sizeof with, "awq,int%d,group_size=64", bits);
        snprintf(without, sizeof without, "awq,int%d,group_size=64,awq_scale=false,awq_clip=false", bits);
        double e = fl_error(with, assay_awq_prepare), plain = fl_error(without, assay_awq_prepare);
        if (!(e < 0.8 * plain)) fail_msg("%d bits: %g with scales and clipping, %g without", bits, e, plain);
    }
    assert_true(fl_error("awq,mxfp4", assay_awq_prepare) < fl_error("awq,mxfp4", NULL));
    assert_true(fl_error("awq,nvfp4", assay_awq_prepare) < fl_error("awq,nvfp4", NULL));
}

static void threads_change_nothing(void **state) {
    (void)state;
    fold_layer one, three;
    assay_err err = {0};
    fl_open(&one, "awq,int4,group_size=64", ASSAY_DTYPE_BF16, 1);
    fl_open(&three, "awq,int4,group_size=64", ASSAY_DTYPE_BF16, 3);
    fl_must(assay_awq_prepare(&one.layer, &err), &err);
    fl_must(assay_awq_prepare(&three.layer, &err), &err);
    fl_quantize(&one);
    fl_quantize(&three);
    for (int i = 0; i < FL_ITEMS; i++) {
        const assay_item *a = &one.layer.items[i], *b = &three.layer.items[i];
        assert_string_equal(a->chosen, b->chosen);
        assert_memory_equal(a->out.codes, b->out.codes, (size_t)(a->out.rows * a->out.cols));
        assert_memory_equal(a->out.scales, b->out.scales, (size_t)a->out.n_scales * sizeof(float));
    }
    assert_memory_equal(one.layer.vector[ASSAY_ROLE_ATTN_NORM], three.layer.vector[ASSAY_ROLE_ATTN_NORM],
                        FL_HIDDEN * sizeof(float));
    fl_close(&one);
    fl_close(&three);
}

/* --- clipping --- */

/* |X_g (q - w)|^2 of one row and group, range drawn in to `clip`, in double. */
static double group_error(const fold_layer *f, const assay_item *item, int64_t row, int64_t g, float clip) {
    assay_grid_spec spec = assay_choice_grid(item->choice, item->model_dtype);
    const assay_inputs *in = &f->layer.inputs[ASSAY_ROLE_DOWN];
    int64_t n = assay_item_group(item);
    const float *w = (const float *)item->weight->data + row * FL_FFN + g * n;
    float lo = 0, hi = 0, q[FL_FFN];
    assay_grid grid;
    double error = 0;
    for (int64_t c = 0; c < n; c++) {
        lo = fminf(lo, w[c]);
        hi = fmaxf(hi, w[c]);
    }
    assay_grid_from_range(&grid, &spec, fmaxf(lo, -clip), fminf(hi, clip));
    assay_grid_round(NULL, q, &spec, &grid, w, (size_t)n);
    for (size_t t = 0; t < in->n_sample; t++) {
        double y = 0;
        for (int64_t c = 0; c < n; c++)
            y += (double)in->sample[t * FL_FFN + (size_t)(g * n + c)] * ((double)q[c] - (double)w[c]);
        error += y * y;
    }
    return error;
}

/* With a Gram matrix of all inputs, one made of the sample, and the sample itself (a whole row is wider than
 * it is long). */
static void clipping_is_the_best_of_ten(void **state) {
    (void)state;
    static const struct {
        const char *recipe;
        unsigned what;
        size_t most; /* rows of the sample that are used */
    } cases[] = {{"awq,int3,group_size=64", ASSAY_COLLECT_SAMPLE, 512},
                 {"awq,int4,group_size=128,symmetric=true", ASSAY_COLLECT_SAMPLE, 100},
                 {"awq,int3,group_size=channel", ASSAY_COLLECT_SAMPLE, 100}};
    for (size_t k = 0; k < ASSAY_LEN(cases); k++) {
        fold_layer f;
        assay_err err = {0};
        fl_open(&f, cases[k].recipe, ASSAY_DTYPE_F32, 2);
        assay_item *item = fl_item(&f, ASSAY_ROLE_DOWN);
        fl_must(assay_layer_collect(&f.layer, ASSAY_ROLE_BIT(ASSAY_ROLE_DOWN), cases[k].what, &err), &err);
        f.layer.inputs[ASSAY_ROLE_DOWN].n_sample =
            ASSAY_MIN(f.layer.inputs[ASSAY_ROLE_DOWN].n_sample, cases[k].most);
        fl_must(assay_awq_clip(item, 2, &err), &err);
        int64_t groups = assay_item_n_groups(item), n = assay_item_group(item);
        size_t drawn = 0;
        for (int64_t r = 0; r < FL_HIDDEN; r += 5)
            for (int64_t g = 0; g < groups; g++) {
                float most = 0;
                double least = INFINITY;
                for (int64_t c = 0; c < n; c++)
                    most = fmaxf(most, fabsf(((const float *)item->weight->data)[r * FL_FFN + g * n + c]));
                for (int i = 0; i < 10; i++)
                    least = fmin(least, group_error(&f, item, r, g, most * (1 - 0.05f * (float)i)));
                float clip = item->clip[r * groups + g];
                double chosen = group_error(&f, item, r, g, clip);
                assert_true(chosen <= least * (1 + 1e-4));
                drawn += clip < most;
            }
        assert_true(drawn > 0);
        fl_close(&f);
    }
}

static void a_gram_matrix_says_what_the_sample_says(void **state) {
    (void)state;
    fold_layer f;
    assay_err err = {0};
    float clip[FL_HIDDEN * 4];
    fl_open(&f, "awq,int3,group_size=64", ASSAY_DTYPE_F32, 2);
    f.layer.n_seqs = 8; /* 384 tokens: all of them are in the sample */
    f.layer.n_tokens = 8 * FL_LEN;
    assay_item *item = fl_item(&f, ASSAY_ROLE_DOWN);
    unsigned role = ASSAY_ROLE_BIT(ASSAY_ROLE_DOWN);
    fl_must(assay_layer_collect(&f.layer, role, ASSAY_COLLECT_SAMPLE, &err), &err);
    fl_must(assay_awq_clip(item, 1, &err), &err);
    memcpy(clip, item->clip, sizeof clip);
    fl_must(assay_layer_collect(&f.layer, role, ASSAY_COLLECT_GRAM, &err), &err);
    fl_must(assay_awq_clip(item, 3, &err), &err);
    size_t other = 0;
    for (size_t i = 0; i < ASSAY_LEN(clip); i++)
        other += clip[i] != item->clip[i];
    assert_true(other * 50 < ASSAY_LEN(clip)); /* near ties may fall otherwise */
    fl_close(&f);
}

static void clips_follow_the_rows_they_bound(void **state) {
    (void)state;
    fold_layer f;
    assay_err err = {0};
    assay_fold fold;
    float s[FL_KV], was;
    fl_open(&f, "awq,int4,group_size=64", ASSAY_DTYPE_F32, 1);
    assay_item *v = fl_item(&f, ASSAY_ROLE_V);
    fl_must(assay_layer_collect(&f.layer, ASSAY_ROLE_BIT(ASSAY_ROLE_Q), ASSAY_COLLECT_SAMPLE, &err), &err);
    fl_must(assay_awq_clip(v, 1, &err), &err);
    was = v->clip[6 * 2 + 1];
    for (int i = 0; i < FL_KV; i++)
        s[i] = 4;
    assert_null(assay_fold_open(&fold, &f.layer, ASSAY_ROLE_O));
    fl_must(assay_fold_apply(&fold, s, &err), &err);
    assert_true(v->clip[6 * 2 + 1] == was / 4);
    fl_close(&f);
}

/* --- the demo model --- */

static void quantize_demo(assay_loss **losses, size_t *n, const char *recipe) {
    assay_err err = {0};
    assay_quantize_result res;
    assay_calib_spec spec = {0};
    assay_calibrator c = {0};
    char *out = tiny_dir();
    fl_must(assay_calib_spec_from_string(&spec, "models/demo/calibration.jsonl,samples=16,length=128", &err),
            &err);
    fl_must(assay_calibrator_open(&c, "models/demo", &spec, &err), &err);
    assay_quantize_opts o = {.n_threads = 2, .calibration = &c.sequences};
    fl_must(tiny_quantize(&res, "models/demo", out, recipe, &o, &err), &err);
    fl_must(assay_losses_load(losses, n, out, &err), &err);
    assay_calibrator_close(&c);
    assay_calib_spec_deinit(&spec);
    tiny_remove(out);
    assay_free(out);
}

static void the_demo_loses_less_than_by_rounding_alone(void **state) {
    (void)state;
    assay_loss *awq, *rtn;
    size_t n, n_rtn, better = 0;
    if (!assay_path_exists("models/demo/config.json")) {
        print_message("# models/demo is not there\n");
        skip();
    }
    quantize_demo(&rtn, &n_rtn, "rtn,int4,group_size=128,symmetric=false");
    quantize_demo(&awq, &n, "awq,int4");
    assert_int_equal(n, n_rtn);
    for (size_t i = 0; i < n; i++) {
        better += awq[i].output_error <= rtn[i].output_error;
        assert_non_null(strstr(awq[i].chosen, "awq_ratio"));
    }
    /* q and k are scaled for the attention's output, not for their own */
    if (better < n - n / 7) fail_msg("only %d of %d matrices lose less", (int)better, (int)n);
    assay_free(awq);
    assay_free(rtn);
}

/* What else reads a norm's output would see it scaled: a router and its experts beside a shared expert, an MLP beside attention. */
static void a_norm_that_others_read_is_left_alone(void **state) {
    fold_layer f;
    assay_fold fold;
    (void)state;
    fl_open(&f, "awq,precision=int4,group_size=32", ASSAY_DTYPE_F32, 1);
    assay_item *items = assay_calloc(FL_ITEMS + 1, sizeof *items), *own = f.layer.items;
    memcpy(items, own, FL_ITEMS * sizeof *items);
    items[FL_ITEMS] = own[FL_ITEMS - 1];
    items[FL_ITEMS].role = ASSAY_ROLE_EXPERT_DOWN;
    f.layer.items = items;
    f.layer.n_items = FL_ITEMS + 1;
    assert_non_null(assay_fold_open(&fold, &f.layer, ASSAY_ROLE_GATE));
    assert_null(assay_fold_open(&fold, &f.layer, ASSAY_ROLE_Q)); /* attention's norm is its own */
    f.layer.items = own;
    f.layer.n_items = FL_ITEMS;
    assay_free(items);
    float *norm = f.layer.vector[ASSAY_ROLE_MLP_NORM];
    f.layer.vector[ASSAY_ROLE_MLP_NORM] = NULL;
    f.config.parallel_residual = true;
    assert_non_null(assay_fold_open(&fold, &f.layer, ASSAY_ROLE_Q));
    f.layer.vector[ASSAY_ROLE_MLP_NORM] = norm;
    assert_null(assay_fold_open(&fold, &f.layer, ASSAY_ROLE_Q));
    fl_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folding_changes_no_output),
        cmocka_unit_test(a_norm_that_others_read_is_left_alone),
        cmocka_unit_test(query_heads_of_a_group_share_their_scales),
        cmocka_unit_test(a_norm_of_16_bits_takes_scales_without_loss),
        cmocka_unit_test(what_stays_as_it_is_is_not_scaled),
        cmocka_unit_test(encoding_is_rounding_to_nearest),
        cmocka_unit_test(a_damaged_weight_is_named),
        cmocka_unit_test(recipes_that_cannot_be),
        cmocka_unit_test(the_search_finds_the_planted_scales),
        cmocka_unit_test(the_change_alone_says_what_the_layer_says),
        cmocka_unit_test(searched_scales_lose_less_than_none),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(clipping_is_the_best_of_ten),
        cmocka_unit_test(a_gram_matrix_says_what_the_sample_says),
        cmocka_unit_test(clips_follow_the_rows_they_bound),
        cmocka_unit_test(the_demo_loses_less_than_by_rounding_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
