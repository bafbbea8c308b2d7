/* The loss at the model's end: cross entropy and KL against formulas in double, their gradients against central differences, and a
 * whole model's backward pass as layers in reverse. */
#include "support.h"
#include "train/head.h"

enum { N = 37, HIDDEN = 12, VOCAB = 53 };

typedef struct problem {
    float norm[HIDDEN], w[VOCAB * HIDDEN], x[N * HIDDEN], reference[N * HIDDEN];
    float other_norm[HIDDEN], other_w[VOCAB * HIDDEN]; /* of the reference: gradients are this model's alone */
    int32_t ids[N];
    assay_head head, other;
} problem;

static void problem_make(problem *p) {
    fill_normal(p->norm, HIDDEN, 0.3, 1);
    fill_normal(p->w, VOCAB * HIDDEN, 1.0, 2);
    fill_normal(p->x, N * HIDDEN, 2.0, 3);
    fill_normal(p->reference, N * HIDDEN, 0.5, 4);
    for (int i = 0; i < HIDDEN; i++) p->norm[i] += 1;
    for (int i = 0; i < N * HIDDEN; i++) p->reference[i] += p->x[i];
    for (int i = 0; i < N; i++) p->ids[i] = i % 7 == 3 ? -1 : (i * 31) % VOCAB;
    memcpy(p->other_norm, p->norm, sizeof p->norm);
    memcpy(p->other_w, p->w, sizeof p->w);
    p->head = (assay_head){.norm = p->norm, .w = p->w, .hidden = HIDDEN, .vocab = VOCAB, .eps = 1e-5f};
    p->other = (assay_head){.norm = p->other_norm, .w = p->other_w, .hidden = HIDDEN, .vocab = VOCAB, .eps = 1e-5f};
}

static void log_softmax(double *out, const assay_head *p, const float *x) {
    double h[HIDDEN], xd[HIDDEN], norm[HIDDEN], sum = 0;
    for (int i = 0; i < HIDDEN; i++) {
        xd[i] = (double)x[i];
        norm[i] = (double)p->norm[i];
    }
    ref_norm(h, xd, norm, HIDDEN, (double)p->eps);
    for (int v = 0; v < VOCAB; v++) {
        out[v] = 0;
        for (int i = 0; i < HIDDEN; i++) out[v] += h[i] * (double)p->w[v * HIDDEN + i];
        sum += exp(out[v]);
    }
    for (int v = 0; v < VOCAB; v++) out[v] -= log(sum);
}

static double formula(const problem *p, bool kl) {
    double loss = 0, q[VOCAB], ref[VOCAB];
    for (int r = 0; r < N; r++) {
        log_softmax(q, &p->head, p->x + r * HIDDEN);
        if (!kl && p->ids[r] >= 0) loss -= q[p->ids[r]];
        if (!kl) continue;
        log_softmax(ref, &p->other, p->reference + r * HIDDEN);
        for (int v = 0; v < VOCAB; v++) loss += exp(ref[v]) * (ref[v] - q[v]);
    }
    return loss;
}

static double moved(problem *p, float *at, float by, bool kl) {
    float was = *at;
    *at = was + by;
    double loss = formula(p, kl);
    *at = was;
    return loss;
}

/* Central differences of fourth order. */
static double difference(problem *p, float *at, bool kl) {
    const float h = 0x1p-7f;
    double near = moved(p, at, h, kl) - moved(p, at, -h, kl), far = moved(p, at, 2 * h, kl) - moved(p, at, -2 * h, kl);
    return (8 * near - far) / (12 * (double)h);
}

static void check_gradient(problem *p, float *values, const float *grad, int n, int stride, bool kl, const char *what) {
    for (int i = 0; i < n; i += stride) {
        double expected = 2 * difference(p, &values[i], kl);
        if (!(fabs((double)grad[i] - expected) < 1e-3 * (1 + fabs(expected))))
            fail_msg("%s[%d]: gradient %g, by differences %g", what, i, (double)grad[i], expected);
    }
}

static void check_loss(bool kl) {
    problem p;
    float dx[N * HIDDEN], d_norm[HIDDEN] = {0}, d_w[VOCAB * HIDDEN] = {0};
    assay_err err = {0};
    problem_make(&p);
    assay_target target = {.ids = kl ? NULL : p.ids, .reference = kl ? p.reference : NULL, .reference_head = &p.other};
    assay_head_grads g = {d_norm, d_w};
    double loss;
    must(assay_head_loss(&loss, dx, &g, &p.head, &target, p.x, N, 2.0, 2, &err), &err);
    double expected = formula(&p, kl);
    assert_true(fabs(loss - expected) < 1e-5 * expected);
    check_gradient(&p, p.x, dx, N * HIDDEN, 5, kl, "x");
    check_gradient(&p, p.norm, d_norm, HIDDEN, 1, kl, "norm");
    check_gradient(&p, p.w, d_w, VOCAB * HIDDEN, 11, kl, "w");
    if (!kl)
        for (int i = 0; i < HIDDEN; i++) assert_true(dx[3 * HIDDEN + i] == 0); /* a row that is left out */
}

static void cross_entropy_and_its_gradient(void **state) {
    (void)state;
    check_loss(false);
}
static void divergence_and_its_gradient(void **state) {
    (void)state;
    check_loss(true);
}

static void divergence_from_itself_is_nothing(void **state) {
    (void)state;
    problem p;
    float dx[N * HIDDEN];
    double loss;
    assay_err err = {0};
    problem_make(&p);
    assay_target target = {.reference = p.x};
    must(assay_head_loss(&loss, dx, NULL, &p.head, &target, p.x, N, 1.0, 1, &err), &err);
    assert_true(fabs(loss) < 1e-9);
    for (int i = 0; i < N * HIDDEN; i++) assert_true(fabs((double)dx[i]) < 1e-6);
}

/* A vocabulary large enough for several pieces of rows; threads, and whether a gradient is wanted, change nothing. */
static void pieces_and_threads_do_not_matter(void **state) {
    (void)state;
    enum { BIG = 200000, ROWS = 70, H = 8 };
    float *w = assay_mallocn(BIG * H, sizeof *w), norm[H], x[ROWS * H], dx[ROWS * H], other[ROWS * H];
    int32_t ids[ROWS];
    assay_err err = {0};
    fill_normal(w, BIG * H, 1.0, 5);
    fill_normal(x, ROWS * H, 1.0, 6);
    for (int i = 0; i < H; i++) norm[i] = 1;
    for (int i = 0; i < ROWS; i++) ids[i] = i * 2801;
    assay_head head = {.norm = norm, .w = w, .hidden = H, .vocab = BIG, .eps = 1e-6f};
    assay_target target = {.ids = ids};
    double loss, again;
    must(assay_head_loss(&loss, dx, NULL, &head, &target, x, ROWS, 0.5, 1, &err), &err);
    must(assay_head_loss(&again, other, NULL, &head, &target, x, ROWS, 0.5, 3, &err), &err);
    assert_true(loss == again);
    assert_memory_equal(dx, other, sizeof dx);
    must(assay_head_loss(&again, NULL, NULL, &head, &target, x, ROWS, 0.5, 2, &err), &err);
    assert_true(loss == again);
    assay_free(w);
}

static void wrong_targets_are_refused(void **state) {
    (void)state;
    problem p;
    double loss;
    assay_err err = {0};
    problem_make(&p);
    p.ids[5] = VOCAB;
    assay_target target = {.ids = p.ids};
    assert_int_equal(assay_head_loss(&loss, NULL, NULL, &p.head, &target, p.x, N, 1.0, 1, &err), ASSAY_EINPUT);
    err = (assay_err){0};
    target.reference = p.reference;
    assert_int_equal(assay_head_loss(&loss, NULL, NULL, &p.head, &target, p.x, N, 1.0, 1, &err), ASSAY_EINTERNAL);
}

/* --- a whole model: layers in order, then in reverse --- */

enum { TOKENS = 19 };

/* Cross entropy of a text under a tiny model; with grads, the gradient of layer 0's matrices is added to them. */
static double model_loss(const tiny *t, const int32_t *ids, assay_grads *grads) {
    size_t hidden = (size_t)t->config.hidden_size, layers = (size_t)t->config.n_layers, n = TOKENS * hidden;
    int32_t length = TOKENS, next[TOKENS];
    float *x = assay_mallocn((layers + 1) * n, sizeof *x), *d = assay_mallocn(n, sizeof *d);
    assay_tape *tape = NULL;
    assay_err err = {0};
    double loss;
    float *const *outside = t->w[layers];
    for (size_t i = 0; i < TOKENS; i++) {
        memcpy(x + i * hidden, outside[ASSAY_ROLE_EMBED] + (size_t)ids[i] * hidden, hidden * sizeof *x);
        next[i] = i + 1 < TOKENS ? ids[i + 1] : -1;
    }
    must(assay_tape_open(&tape, &t->config, 2, &err), &err);
    for (size_t l = 0; l < layers; l++) {
        assay_params p = tiny_params(t, l);
        must(assay_tape_forward(x + (l + 1) * n, tape, (int64_t)l, &p, x + l * n, &length, 1, &err), &err);
    }
    assay_head head = {.norm = outside[ASSAY_ROLE_FINAL_NORM],
                       .w = outside[ASSAY_ROLE_HEAD] ? outside[ASSAY_ROLE_HEAD] : outside[ASSAY_ROLE_EMBED],
                       .hidden = hidden,
                       .vocab = (size_t)t->config.vocab_size,
                       .eps = (float)t->config.rms_norm_eps};
    assay_target target = {.ids = next};
    must(assay_head_loss(&loss, d, NULL, &head, &target, x + layers * n, TOKENS, 1.0, 2, &err), &err);
    for (size_t l = layers; grads && l-- > 0;) {
        assay_params p = tiny_params(t, l);
        assay_grads none = {{0}};
        must(assay_tape_forward(NULL, tape, (int64_t)l, &p, x + l * n, &length, 1, &err), &err);
        must(assay_tape_backward(l ? d : NULL, l ? &none : grads, tape, &p, x + l * n, d, &err), &err);
    }
    assay_tape_close(tape);
    assay_free(x);
    assay_free(d);
    return loss;
}

static void a_model_is_layers_in_reverse(void **state) {
    (void)state;
    for (size_t k = 0; k < ASSAY_LEN(tiny_names); k++) {
        tiny t;
        int32_t ids[TOKENS];
        tiny_open(&t, tiny_names[k]);
        for (int i = 0; i < TOKENS; i++) ids[i] = (i * 41 + 3) % 96;
        static const assay_tensor_role roles[] = {ASSAY_ROLE_Q, ASSAY_ROLE_O, ASSAY_ROLE_UP, ASSAY_ROLE_DOWN};
        assay_grads g = {{0}};
        for (size_t i = 0; i < ASSAY_LEN(roles); i++) g.w[roles[i]] = assay_calloc(t.n[0][roles[i]], sizeof(float));
        model_loss(&t, ids, &g);
        for (size_t i = 0; i < ASSAY_LEN(roles); i++) { /* along the gradient the loss changes by its square */
            float *w = t.w[0][roles[i]], *gr = g.w[roles[i]];
            size_t n = t.n[0][roles[i]];
            double square = 0;
            for (size_t e = 0; e < n; e++) square += (double)gr[e] * (double)gr[e];
            float step = (float)(2e-2 / square);
            float *saved = assay_mallocn(n, sizeof *saved);
            memcpy(saved, w, n * sizeof *saved);
            for (size_t e = 0; e < n; e++) w[e] = saved[e] + step * gr[e];
            double above = model_loss(&t, ids, NULL);
            for (size_t e = 0; e < n; e++) w[e] = saved[e] - step * gr[e];
            double below = model_loss(&t, ids, NULL);
            memcpy(w, saved, n * sizeof *saved);
            double slope = (above - below) / (2 * (double)step);
            if (!(fabs(slope / square - 1) < 2e-2))
                fail_msg("%s role %d: slope %g, squared gradient %g", tiny_names[k], roles[i], slope, square);
            assay_free(saved);
            assay_free(gr);
        }
        tiny_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cross_entropy_and_its_gradient),    cmocka_unit_test(divergence_and_its_gradient),
        cmocka_unit_test(divergence_from_itself_is_nothing), cmocka_unit_test(pieces_and_threads_do_not_matter),
        cmocka_unit_test(wrong_targets_are_refused),         cmocka_unit_test(a_model_is_layers_in_reverse),
    };
    return cmocka_run_group_tests_name("train/head", tests, NULL, NULL);
}
