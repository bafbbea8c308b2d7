/* cmd_plan.c: does it fit, how fast, at what cost. */
#include "cli.h"

static struct {
    const char *recipe, *file, *runtime, *kv, *prices;
    cli_list devices;
    int64_t context, concurrency, prompt, output;
    bool detail, markdown, list;
} o;

static const cli_option options[] = {
    {'r', "recipe", CLI_STRING, &o.recipe, "RECIPE",
     "as for `quantize`: nf4,double_quant (default: as the checkpoint is)", NULL, 0, 0},
    {0, "recipe-file", CLI_STRING, &o.file, "FILE", "the recipe as YAML", NULL, 0, 0},
    {'d', "device", CLI_LIST, &o.devices, "ID", "a device of the table; may be repeated (default: all)", NULL,
     0, 0},
    {0, "devices", CLI_FLAG, &o.list, NULL, "list the device table and its sources", NULL, 0, 0},
    {0, "runtime", CLI_STRING, &o.runtime, "ID", "vllm, llama.cpp, native ... (default: by device)", NULL, 0,
     0},
    {0, "kv", CLI_STRING, &o.kv, "PRECISION", "of the KV cache: f16, int8, int4 ... (default: f16)", NULL, 0,
     0},
    {'c', "context", CLI_INT, &o.context, "N", "tokens a sequence may reach", NULL, 1, 1 << 30},
    {0, "concurrency", CLI_INT, &o.concurrency, "N", "sequences at once (default: 1)", NULL, 1, 1 << 20},
    {0, "prompt", CLI_INT, &o.prompt, "N", "tokens of a typical prompt (default: 1500)", NULL, 1, 1 << 30},
    {0, "output", CLI_INT, &o.output, "N", "tokens of a typical answer (default: 300)", NULL, 1, 1 << 30},
    {0, "prices", CLI_STRING, &o.prices, "FILE", "dated prices, for the cost per million tokens", NULL, 0, 0},
    {0, "detail", CLI_FLAG, &o.detail, NULL, "an account of memory for each device", NULL, 0, 0},
    {0, "markdown", CLI_FLAG, &o.markdown, NULL, "tables as Markdown", NULL, 0, 0},
    {0},
};

static int run(int n_args, char **args) {
    assay_err err = {0};
    assay_doc *doc;
    assay_view view = cli_view(stdout);
    if (o.list) {
        if (assay_plan_list_devices(&doc, &view, &err) != ASSAY_OK) return cli_fail(&err);
        return cli_finish(doc);
    }
    if (!n_args) return cli_usage("plan: say which model: a folder, or a config.json alone");
    assay_plan_request req = {.recipe = o.recipe,
                              .recipe_file = o.file,
                              .devices = o.devices.items,
                              .n_devices = o.devices.n,
                              .runtime = o.runtime,
                              .kv = o.kv,
                              .context = o.context,
                              .concurrency = o.concurrency,
                              .prompt = o.prompt,
                              .output = o.output,
                              .prices = o.prices,
                              .detail = o.detail,
                              .markdown = o.markdown,
                              .view = view};
    if (assay_plan_model(&doc, args[0], &req, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_plan = {
    .name = "plan",
    .args = "MODEL",
    .summary = "fit, speed and cost per device, from config.json and a recipe alone",
    .description = "Counts weights, scales, KV cache, activations and the runtime's own memory line by line, "
                   "tells the largest context and\n"
                   "concurrency that fit, estimates prefill and decode by a roofline at stated efficiencies, "
                   "and the cost per million tokens from\n"
                   "a dated price file. MODEL is a folder or a config.json: no weights are needed. "
                   "docs/plan.md has every formula.",
    .examples = "  $ assay plan models/demo --recipe nf4,double_quant -d rtx-4090 -d l4\n"
                "  $ assay plan config.json -r rtn,int4,group_size=128 -c 8192 --concurrency 16 --prices "
                "examples/prices.yaml\n"
                "  $ assay plan --devices\n",
    .options = options,
    .max_args = 1,
    .run = run,
};
