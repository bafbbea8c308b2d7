/* plan.c: deployment math for a configuration and a recipe. The recipe is translated into how plan/ stores
 * each tensor, so plan/ need not know methods. */
#include <string.h>
#include "api/doc.h"
#include "base/file.h"
#include "base/mem.h"
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

static assay_status open_config(assay_config *c, const char *model, assay_err *err) {
    if (assay_path_is_dir(model)) return assay_config_open(c, model, err);
    json_t *j;
    ASSAY_TRY(assay_json_load(&j, model, err));
    assay_status s = assay_config_parse(c, j, NULL, model, err);
    json_decref(j);
    return s;
}

/* What a recipe would make of a checkpoint that is quantized already cannot be said from its config.json. */
static assay_status refuse_quantized(const assay_config *c, const char *model, assay_err *err) {
    if (!c->quantization_config) return ASSAY_OK;
    return assay_fail(err, ASSAY_EUSAGE,
                      "'%s' is quantized already; plan from the original's config.json with --recipe", model);
}

assay_status assay_plan_model(assay_doc **out, const char *model, const assay_plan_request *o,
                              assay_err *err) {
    *out = NULL;
    assay_config c = {0};
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
    ASSAY_GO(open_config(&c, model, err));
    ASSAY_GO(refuse_quantized(&c, model, err));
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
    if (recipe) ASSAY_GO(assay_gguf_types_new(&types, recipe, &c, err));
    assay_recipe_storage storage = {recipe, c.dtype, types};
    ASSAY_GO(assay_plan_make(&plan, &c, assay_storage_by_recipe, &storage, &opts, err));
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
    assay_config_deinit(&c);
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
