/* adapt.c: see adapt.h. Low-rank parts are computed in float32 beside weights of any precision, so that an adapter can be judged on the
 * quantized base that it will be served with; scale is multiplied into B once. Numbers are converted here and live as long as the weights
 * do, since a backend may borrow them. */
#include "model/adapt.h"
#include "base/mem.h"
#include "num/convert.h"

assay_status assay_adapt_open(assay_adapt *out, const char *dir, assay_err *err) {
    *out = (assay_adapt){0};
    return dir ? assay_adapter_open(&out->file, dir, err) : ASSAY_OK;
}

void assay_adapt_close(assay_adapt *a) {
    assay_adapter_close(a->file);
    *a = (assay_adapt){0};
}

static assay_status to_floats(float *x, const assay_tensor *t, size_t n, float scale, assay_err *err) {
    if (!assay_to_f32(x, t->data, t->dtype, n))
        return assay_fail(err, ASSAY_EINPUT, "adapter tensor %s is of type %s where floats are expected", t->name, assay_dtype_name(t->dtype));
    for (size_t i = 0; i < n; i++) x[i] *= scale;
    if (assay_find_nonfinite(x, ASSAY_DTYPE_F32, n) >= 0)
        return assay_fail(err, ASSAY_EINPUT, "adapter tensor %s holds a NaN or infinity", t->name);
    return ASSAY_OK;
}

/* t times scale as a float32 matrix that the weights keep. */
static assay_status keep(assay_matrix *out, assay_weights *weights, const assay_tensor *t, float scale, assay_err *err) {
    size_t n = (size_t)assay_tensor_n_elements(t);
    ASSAY_TRY(assay_grow(&weights->kept, &weights->cap_kept, weights->n_kept + 1, sizeof *weights->kept, err));
    float *x = weights->kept[weights->n_kept] = assay_mallocn(n ? n : 1, sizeof *x);
    if (!x) return assay_nomem(err);
    weights->n_kept++;
    *out = (assay_matrix){.precision = ASSAY_PRECISION_F32, .rows = t->dims[0], .cols = t->dims[1], .data = x, .act_bits = 16, .act_dtype = ASSAY_DTYPE_F32};
    return to_floats(x, t, n, scale, err);
}

static assay_status of_another(const char *what, assay_err *err) {
    return assay_fail(err, ASSAY_EINPUT, "the adapter's %s has another shape than the model's: it was made for another", what);
}

assay_status assay_adapt_matrix(assay_adapt *a, assay_weights *weights, assay_weight *w, assay_tensor_role role, const assay_tensor_spec *spec,
                                assay_err *err) {
    const assay_lora *l = a->file ? assay_adapter_find(a->file, spec->name) : NULL;
    assay_matrix down, up;
    if (!l) return ASSAY_OK;
    if (l->is_embedding || l->magnitude || role == ASSAY_ROLE_KV_B)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "the adapter has %s of %s, which is not run beside a weight: merge it (assay merge)",
                          l->magnitude     ? "the magnitudes (DoRA)"
                          : l->is_embedding ? "an embedding"
                                            : "a low-rank part of latents' keys and values",
                          l->module);
    if (l->in != spec->cols || l->out != spec->rows) return of_another(l->module, err);
    ASSAY_TRY(keep(&down, weights, l->down, 1, err));
    ASSAY_TRY(keep(&up, weights, l->up, (float)l->scale, err));
    ASSAY_TRY(assay_weight_add_lowrank(weights->backend, w, &down, &up, err));
    a->n_loras++;
    weights->n_adapted++;
    return ASSAY_OK;
}

assay_status assay_adapt_dense(assay_matrix *out, assay_weights *weights, const assay_tensor *t, const assay_tensor_spec *spec, assay_dtype act,
                               assay_err *err) {
    if (spec->is_transposed)
        return assay_fail(err, ASSAY_EUNSUPPORTED, "the adapter replaces %s, which the file has transposed and is not run so: merge it (assay merge)",
                          t->name);
    if (t->n_dims != 2 || t->dims[0] != spec->rows || t->dims[1] != spec->cols) return of_another(t->name, err);
    ASSAY_TRY(keep(out, weights, t, 1, err));
    out->act_dtype = act;
    return ASSAY_OK;
}

assay_status assay_adapt_vector(float *out, const assay_tensor *t, int64_t n, assay_err *err) {
    if (t->n_dims != 1 || t->dims[0] != n) return of_another(t->name, err);
    return to_floats(out, t, (size_t)n, 1, err);
}

const assay_tensor *assay_adapt_whole(assay_adapt *a, const char *name) {
    const assay_tensor *t = a->file ? assay_adapter_whole(a->file, name) : NULL;
    if (t) a->n_whole++;
    return t;
}

assay_status assay_adapt_finish(const assay_adapt *a, assay_weights *weights, assay_err *err) {
    if (!a->file) return ASSAY_OK;
    size_t there = assay_adapter_n_loras(a->file), whole = assay_adapter_n_whole(a->file);
    if (a->n_loras < there || a->n_whole < whole)
        return assay_fail(err, ASSAY_EINPUT, "the adapter changes %zu matrices and replaces %zu tensors; the model has places for %zu and %zu of them, "
                                             "%s among them: it was made for another",
                          there, whole, a->n_loras, a->n_whole,
                          there ? assay_adapter_lora(a->file, 0)->module : assay_adapter_whole_name(a->file, 0));
    return assay_adapter_hash(weights->adapter_hash, a->file, err);
}
