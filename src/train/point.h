/* train/point.h: elementwise work of the forward and backward passes: norms, gates, rotations, biases, sums. Inside the room only.
 *
 * Rows are tokens (or heads of tokens), row-major float32. Rows and columns are shared out among threads and every sum has one owner
 * and one order, so results do not depend on n_threads. */
#ifndef ASSAY_TRAIN_POINT_H
#define ASSAY_TRAIN_POINT_H

#include <stddef.h>
#include <stdint.h>
#include "backend/backend.h"

enum { ASSAY_LANES = 16 };

/* y = exp(scale * x - shift) over n elements, a multiple of ASSAY_LANES; relative error below 2e-7; saturates at exp(-87) and exp(88).
 * y may be x. */
void assay_exp(float *y, const float *x, float scale, float shift, size_t n);

/* y = x * inv * w per row, inv = 1 / sqrt(mean(x^2) + eps). */
void assay_norm_forward(float *y, const float *x, const float *w, size_t n_rows, size_t n, float eps, int n_threads);
/* dx = base + gradient (base NULL: 0); dx may be dy or base; NULL: not wanted. dw [n] += when not NULL. inv: n_rows floats to work in. */
void assay_norm_backward(float *dx, float *dw, const float *base, const float *dy, const float *x, const float *w, float *inv,
                         size_t n_rows, size_t n, float eps, int n_threads);

/* y = fn(gate) * up over n elements. */
void assay_gate_forward(float *y, const float *gate, const float *up, size_t n, assay_gate_fn fn, int n_threads);
/* d_gate = dy * up * fn'(gate), d_up = dy * fn(gate); either may be dy. */
void assay_gate_backward(float *d_gate, float *d_up, const float *dy, const float *gate, const float *up, size_t n, assay_gate_fn fn,
                         int n_threads);

/* Turns the pairs (x[i], x[i + half]) of each head of each row by the row's angles: angles[pos[row]] holds half cosines, then half
 * sines. direction -1 turns back, which is the gradient. */
void assay_turn(float *x, const float *angles, const int32_t *pos, size_t n_rows, size_t n_heads, size_t half, int direction,
                int n_threads);

/* dp = scale * p * (dp - mean) over n elements, a multiple of ASSAY_LANES: the gradient of a row of attention scores. */
void assay_score_gradient(float *dp, const float *p, float mean, float scale, size_t n);

/* x[row] += bias; sum [n] += the rows of x (NULL: nothing to do). */
void assay_bias_add(float *x, const float *bias, size_t n_rows, size_t n, int n_threads);
void assay_bias_sum(float *sum, const float *x, size_t n_rows, size_t n, int n_threads);
/* y = a + b over n elements; y may be either. */
void assay_sum(float *y, const float *a, const float *b, size_t n, int n_threads);

#endif
