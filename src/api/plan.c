/* plan.c: deployment math for a configuration and a recipe, or for a checkpoint that is quantized already. Either is translated into how
 * plan/ stores each tensor, so plan/ need know neither methods nor files. */
#include <string.h>
#include "api/doc.h"
#include "base/file.h"
#include "base/mem.h"
#include "format/format.h"
#include "method/recipe.h"
#include "plan/plan.h"
#include "report/table.h"
#include "study/deploy.h"

static assay_status find_devices(const assay_device ***out, const assay_plan_request *o, assay_err *err) {
    *out = NULL;
    if (!o->n_devices) return ASSAY_OK;
    const assay_device **list = assay_mallocn(o->n_devices, sizeof *list);
    if (!list) return assay_nomem(err);
    for (size_t i = 0; i < o->n_devices; i++) {
        assay_status s = assay_device_find(&list[i], o->devices[i], err);
        if (s != ASSAY_OK) {
            assay_free(list);
            return s;
        }
    }
    *out = list;
    return ASSAY_OK;
}

/* --- what there is --- */

typedef struct source {
    assay_config config;
    assay_checkpoint *ckpt; /* of a quantized model; else NULL */
} source;

static assay_storage storage_of(const assay_matrix *m) {
    return (assay_storage){.precision = m->precision,
                           .group_size = m->group_size,
                           .asymmetric = m->zeros != NULL,
                           .real_zeros = m->real_zeros != NULL,
                           .row_block = m->row_block,
                           .double_quant = m->nested != NULL,
                           .scale_dtype = m->scale_dtype,
                           .act_bits = m->act_bits};
}

/* assay_storage_fn: as the file has it. */
static assay_status storage_in_file(void *ctx, assay_storage *out, const assay_tensor_spec *spec, assay_err *err) {
    const source *in = ctx;
    assay_matrix m = {0};
    if (spec->is_vector) return ASSAY_OK;
    ASSAY_TRY(assay_checkpoint_outline(&m, in->ckpt, in->config.quantization_config, spec->name, in->config.dtype, err));
    *out = storage_of(&m);
    assay_matrix_deinit(&m);
    return ASSAY_OK;
}

static bool is_json(const char *path) {
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".json") == 0;
}

/* A quantized model's matrices are looked at, so its files must be there, and no recipe is applied to it a second time. */
static assay_status open_source(source *in, const char *model, bool has_recipe, assay_err *err) {
    ASSAY_TRY(assay_config_open(&in->config, model, err));
    if (!in->config.quantization_config) return ASSAY_OK;
    if (has_recipe)
        return assay_fail(err, ASSAY_EUSAGE, "'%s' is quantized already: plan it as it is, without a recipe, or the original with one", model);
    assay_err why = {0};
    if (is_json(model)) return assay_fail(err, ASSAY_EUSAGE, "'%s' is of a quantized model, whose weights tell how: give its folder", model);
    if (assay_checkpoint_open(&in->ckpt, model, &why) == ASSAY_OK) return ASSAY_OK;
    return assay_fail(err, why.code, "'%s' is quantized already, and its weights tell how: %s", model, why.message);
}

static void close_source(source *in) {
    assay_checkpoint_close(in->ckpt);
    assay_config_deinit(&in->config);
}

assay_status assay_plan_model(assay_doc **out, const char *model, const assay_plan_request *o,
                              assay_err *err) {
    *out = NULL;
    source in = {0};
    assay_gguf_types *types = NULL;
    assay_recipe *recipe = NULL;
    assay_prices *prices = NULL;
    assay_plan plan = {0};
    assay_plan_opts opts = {.runtime = o->runtime, .n_devices = o->n_devices};
    const assay_device **devices = NULL;
    assay_str text = {0};
    assay_term term = assay_term_of_view(&o->view);
    json_t *j = NULL;
    assay_status s;
    opts.serving = (assay_serving){
        .context = o->context, .concurrency = o->concurrency, .prompt = o->prompt, .output = o->output};
    ASSAY_GO(open_source(&in, model, o->recipe || o->recipe_file, err));
    if (in.ckpt) opts.checkpoint_bytes = (double)assay_checkpoint_n_bytes(in.ckpt);
    if (o->recipe)
        ASSAY_GO(assay_recipe_from_string(&recipe, o->recipe, err));
    else if (o->recipe_file)
        ASSAY_GO(assay_recipe_load(&recipe, o->recipe_file, err));
    if (o->kv && !assay_kv_parse(&opts.kv, o->kv)) {
        s = assay_fail(err, ASSAY_EUSAGE, "unknown KV cache precision '%s'", o->kv);
        goto out;
    }
    ASSAY_GO(find_devices(&devices, o, err));
    opts.devices = devices;
    if (o->prices) ASSAY_GO(assay_prices_load(&prices, o->prices, err));
    opts.prices = prices;
    if (recipe) ASSAY_GO(assay_gguf_types_new(&types, recipe, &in.config, err));
    assay_recipe_storage storage = {recipe, in.config.dtype, types};
    if (in.ckpt)
        ASSAY_GO(assay_plan_make(&plan, &in.config, storage_in_file, &in, &opts, err));
    else
        ASSAY_GO(assay_plan_make(&plan, &in.config, assay_storage_by_recipe, &storage, &opts, err));
    if (o->markdown)
        ASSAY_GO(assay_report_plan_markdown(&text, &plan, err));
    else
        ASSAY_GO(assay_report_plan_text(&text, &plan, o->detail, &term, err));
    ASSAY_GO(assay_plan_to_json(&j, &plan, err));
    s = assay_doc_make(out, &text, j, 0, err);
out:
    assay_plan_deinit(&plan);
    assay_prices_free(prices);
    assay_free(devices);
    assay_gguf_types_free(types);
    assay_recipe_free(recipe);
    close_source(&in);
    assay_str_free(&text);
    return s;
}

static const assay_column device_columns[] = {{.head = "device"},
                                              {.head = "name", .shrink = true, .least = 16},
                                              {.head = "memory GB", .right = true},
                                              {.head = "GB/s", .right = true},
                                              {.head = "16-bit TFLOPS", .right = true},
                                              {.head = "int8 TOPS", .right = true, .optional = true},
                                              {.head = "fp8 TFLOPS", .right = true, .optional = true},
                                              {.head = "sources", .shrink = true, .optional = true}};

static void figure_cell(assay_table *t, const assay_figure *f, double unit) {
    if (f->value != f->value)
        assay_table_cell(t, ASSAY_TONE_DIM, "unknown");
    else
        assay_table_cell(t, ASSAY_TONE_NONE, "%.4g", f->value / unit);
}

static json_t *json_of_figure(const assay_figure *f) {
    return json_pack("{s:o, s:s?}", "value", f->value == f->value ? json_real(f->value) : json_null(),
                     "source", f->source);
}

assay_status assay_plan_list_devices(assay_doc **out, const assay_view *view, assay_err *err) {
    *out = NULL;
    assay_table t;
    assay_str text = {0};
    assay_term term = assay_term_of_view(view);
    json_t *list = json_array();
    size_t n;
    const assay_device *d = assay_devices(&n);
    assay_table_init(&t, device_columns, ASSAY_LEN(device_columns));
    assay_status s = list ? ASSAY_OK : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < n; i++, d++) {
        assay_table_cell(&t, ASSAY_TONE_NONE, "%s", d->id);
        assay_table_cell(&t, ASSAY_TONE_NONE, "%s", d->name);
        figure_cell(&t, &d->memory, 1e9);
        figure_cell(&t, &d->bandwidth, 1e9);
        figure_cell(&t, &d->f16, 1e12);
        figure_cell(&t, &d->int8, 1e12);
        figure_cell(&t, &d->fp8, 1e12);
        assay_table_cell(&t, ASSAY_TONE_DIM, "%s %s %s", d->memory.source, d->bandwidth.source,
                         d->f16.source ? d->f16.source : "");
        json_t *j = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "id", d->id, "name", d->name,
                              "kind", d->kind, "memory_bytes", json_of_figure(&d->memory), "bandwidth",
                              json_of_figure(&d->bandwidth), "f16", json_of_figure(&d->f16), "int8",
                              json_of_figure(&d->int8), "fp8", json_of_figure(&d->fp8));
        if (!j || json_array_append_new(list, j)) s = assay_nomem(err);
    }
    if (s == ASSAY_OK) s = assay_table_text(&text, &t, &term, err);
    assay_str_printf(&text, "%zu devices; `assay plan --devices --json` and docs/plan.md tell the sources\n",
                     n);
    if (s == ASSAY_OK)
        s = assay_doc_make(out, &text, json_pack("{s:s, s:o}", "schema", "assay.devices/1", "devices", list),
                           0, err);
    else
        json_decref(list);
    assay_table_free(&t);
    assay_str_free(&text);
    return s;
}
