/* method/fold.h: scales per input channel, moved from what comes before matrices into the matrices. Inside
 * the room only.
 *
 *   y = W x = (W diag(s)) (diag(1/s) x)
 *
 * The columns of the matrices that share an input are multiplied by s; whatever makes the input is divided by
 * it:
 *
 *   input of      matrices              divided
 *   ROLE_Q        q, k, v (or fused)    the norm before attention; of latent attention q or q_a, kv_a
 *   ROLE_KV_B     kv_b                  the norm of the latents; ROLE_Q_B: q_b, that of the queries' latents
 *   ROLE_O        o                     rows of v (and its bias)
 *   ROLE_GATE     gate, up (or fused)   the norm before the MLP
 *   ROLE_DOWN     down                  rows of up (and its bias), the last rows of gate and up fused; SHARED_DOWN likewise
 *
 * With grouped-query attention the query heads that read the same values share their scales.
 *
 * The layer computes the same, and what is quantized afterwards has other proportions: AWQ and SmoothQuant
 * differ in how s is chosen. A norm is stored in the model's 16-bit type: its scales are moved to where norm
 * / s is exactly representable, so that nothing is lost. */
#ifndef ASSAY_METHOD_FOLD_H
#define ASSAY_METHOD_FOLD_H

#include "method/excerpt.h"
#include "method/methods.h"

typedef struct assay_fold {
    assay_layer *layer;
    assay_tensor_role input;
    assay_item *into[4];
    size_t n_into;
    assay_item *before;       /* v or up; NULL: a norm */
    int64_t before_row;       /* its first row that makes the input */
    assay_tensor_role vector; /* the norm, or the bias of `before`; ROLE_COUNT: none */
    int64_t cols;             /* of the matrices */
    int64_t n_scales;         /* cols, or with shared heads the rows of v */
} assay_fold;

/* What can be folded at that input role. NULL, or why nothing can be: a matrix without codes stays as the
 * checkpoint has it, and so must every matrix and norm that it shares an input with. */
const char *assay_fold_open(assay_fold *out, assay_layer *layer, assay_tensor_role input);
/* The scale of a column. */
int64_t assay_fold_index(const assay_fold *f, int64_t col);
/* Per-column statistics x [cols] to per-scale ones [n_scales]: the mean, or the largest, of the columns that
 * share a scale. */
void assay_fold_mean(float *out, const assay_fold *f, const float *x);
void assay_fold_max(float *out, const assay_fold *f, const float *x);
/* Of the matrices' columns, all rows together, each [cols] or NULL: the mean of |w| / (the largest |w| of its
 * group), and the largest |w|. */
assay_status assay_fold_columns(float *mean, float *most, const assay_fold *f, assay_err *err);
/* Moves s to the nearest scales that can be folded without loss; what is not finite or not above 0 becomes 1.
 */
void assay_fold_exact(float *s, const assay_fold *f);
/* Folds s, which assay_fold_exact has seen: owns and touches the items, scales their clipping along, and
 * divides what was collected of the inputs. */
assay_status assay_fold_apply(const assay_fold *f, const float *s, assay_err *err);

/* Appends to item->chosen: a JSON member such as "\"awq_ratio\": %g", with its comma. What does not fit is
 * left out whole. */
void assay_item_note(assay_item *item, const char *fmt, ...) ASSAY_PRINTF(2, 3);

/* --- fold_encode.c --- */

/* item->out: the choice's rounding to nearest of the item's weights with columns multiplied by col_scale
 * [cols] (NULL: 1) and ranges bounded by clip [rows][n_groups] (NULL: none); activations as the choice wants
 * them. EINPUT for NaN and infinity in the checkpoint, with tensor, row and column. */
assay_status assay_fold_encode(assay_item *item, const float *col_scale, const float *clip, int n_threads,
                               assay_err *err);
/* Columns per scale of the item's choice, and groups per row. */
int64_t assay_item_group(const assay_item *item);
int64_t assay_item_n_groups(const assay_item *item);

/* --- fold_delta.c: what a scaling would lose, from the change of the weights alone --- */

typedef struct assay_fold_delta assay_fold_delta;

/* Whether that is possible: o, down, or gate with up, in 16-bit activations and with scales within rows. */
bool assay_fold_delta_can(const assay_fold *f);
/* x [n][cols]: their inputs, borrowed. On failure, too, *out is closed by the caller. */
assay_status assay_fold_delta_open(assay_fold_delta **out, const assay_fold *f, const float *x, size_t n,
                                   assay_err *err);
/* Sum over the inputs of weight [n] times the squared difference that quantizing the matrices with columns
 * scaled by col_scale [cols] makes. */
assay_status assay_fold_delta_error(double *out, assay_fold_delta *d, const float *col_scale, const double *weight,
                                    assay_err *err);
void assay_fold_delta_close(assay_fold_delta *d); /* NULL is fine */

/* --- fold_trial.c: what a scaling would lose --- */

/* Tokens that scalings of a layer are tried on, and what the error of each counts. */
typedef struct assay_fold_tokens {
    assay_excerpt excerpt;
    double *weight; /* [excerpt.n_tokens] */
} assay_fold_tokens;

/* The same for every place of a layer, whatever was folded in between. The layer must not have encoded
 * matrices. */
assay_status assay_fold_tokens_open(assay_fold_tokens *t, assay_layer *layer, assay_err *err);
void assay_fold_tokens_close(assay_fold_tokens *t); /* all-zero is fine */

typedef struct assay_fold_trial {
    const assay_fold *fold;
    assay_fold_tokens *tokens;
    assay_fold_delta *delta; /* NULL: through the forward pass */
    size_t n, width;         /* rows and columns of what is compared */
    float *reference;        /* [n][width]: from the weights as they are */
    float *col_scale;        /* [cols] */
    float *absmax, *norm;    /* as they were; norm: NULL for matrices */
    assay_item *next;        /* norms: the matrix that the compared rows go into */
    float *inputs;           /* matrices: [n][cols] */
} assay_fold_trial;

/* Needs absmax of the input collected where activations are static. The layer must not have encoded matrices.
 * tokens: borrowed until close. */
assay_status assay_fold_trial_open(assay_fold_trial *t, const assay_fold *f, assay_fold_tokens *tokens,
                                   assay_err *err);
/* Sum over tokens of the squared difference that quantizing `into` scaled by s makes, activations included,
 * relative to the token's hidden state: for q, k, v behind attention and o; for gate, up behind down; for o
 * and down in their own output. s [n_scales] must have seen assay_fold_exact. */
assay_status assay_fold_trial_error(double *out, assay_fold_trial *t, const float *s, assay_err *err);
void assay_fold_trial_close(assay_fold_trial *t); /* all-zero is fine; the layer is as it was at open */

#endif
