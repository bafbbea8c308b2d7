/* gguf_types.c: the plan of a GGUF run (gguf.c) over tensors that have names and shapes and nothing else. */
#include "method/gguf_types.h"

#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "method/gguf.h"

typedef struct named {
    char name[160];
    assay_tensor tensor;
    assay_tensor_role role;
    int layer, expert;
    assay_choice choice;
} named;

struct assay_gguf_types {
    named *v; /* sorted by name */
    size_t n, cap;
};

typedef struct lister {
    assay_gguf_types *types;
    const assay_recipe *recipe;
    assay_dtype dtype;
} lister;

static assay_status list(void *ctx, assay_tensor_role role, const assay_tensor_spec *spec, assay_err *err) {
    lister *l = ctx;
    assay_gguf_types *t = l->types;
    ASSAY_TRY(assay_grow(&t->v, &t->cap, t->n + 1, sizeof *t->v, err));
    named *e = &t->v[t->n++];
    *e = (named){.role = role, .layer = spec->layer, .expert = spec->expert};
    memcpy(e->name, spec->name, sizeof e->name);
    e->tensor = (assay_tensor){.dtype = l->dtype, .n_dims = spec->is_vector ? 1 : 2, .dims = {spec->rows, spec->cols}};
    return assay_recipe_choose(&e->choice, l->recipe, spec, err);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

static assay_status resolve(assay_gguf_types *t, const assay_config *c, bool has_importance, assay_err *err) {
    assay_steps p = {.n = t->n, .config = c, .has_importance = has_importance};
    json_t *config = json_pack("{s:[s], s:s}", "architectures", c->architecture, "model_type", c->model_type);
    p.v = assay_calloc(t->n + 1, sizeof *p.v);
    assay_status s = p.v && config ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < t->n; i++) {
        t->v[i].tensor.name = t->v[i].name;
        p.v[i] = (assay_step){.tensor = &t->v[i].tensor, .layer = t->v[i].layer, .role = t->v[i].role, .expert = t->v[i].expert, .choice = t->v[i].choice};
    }
    if (s == ASSAY_OK) s = assay_gguf_plan(&p, c, config, NULL, err);
    for (size_t i = 0; s == ASSAY_OK && i < t->n; i++) t->v[i].choice = p.v[i].choice;
    assay_free(p.v);
    json_decref(config);
    return s;
}

assay_status assay_gguf_types_new(assay_gguf_types **out, const assay_recipe *r, const assay_config *c, assay_err *err) {
    assay_err why = {0};
    *out = NULL;
    if (!assay_method_get(assay_recipe_base(r)->method)->is_gguf) return ASSAY_OK;
    assay_gguf_types *t = assay_calloc(1, sizeof *t);
    if (!t) return assay_nomem(err);
    lister l = {t, r, c->dtype};
    assay_status s = assay_config_each_role(c, list, &l, err);
    if (s == ASSAY_OK) qsort(t->v, t->n, sizeof *t->v, by_name);
    if (s == ASSAY_OK && resolve(t, c, false, &why) != ASSAY_OK) s = resolve(t, c, true, err);
    if (s == ASSAY_OK)
        *out = t;
    else
        assay_gguf_types_free(t);
    return s;
}

void assay_gguf_types_free(assay_gguf_types *t) {
    if (!t) return;
    assay_free(t->v);
    assay_free(t);
}

void assay_gguf_types_apply(assay_choice *c, const assay_gguf_types *t, const char *name) {
    named key = {0};
    if (!t || strlen(name) >= sizeof key.name) return;
    memcpy(key.name, name, strlen(name) + 1);
    const named *e = bsearch(&key, t->v, t->n, sizeof key, by_name);
    if (e) *c = e->choice;
}
