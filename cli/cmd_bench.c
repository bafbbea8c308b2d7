/* cmd_bench.c: measures a model on this machine beside the machine's own limits. */
#include "cli.h"

static struct {
    int64_t prompt, output, repeat;
    const char *activations, *kv;
} o;

static const char *const act_words[] = {"auto", "f32", "bf16", "f16", "int8", NULL};

static const cli_option options[] = {
    {0, "prompt", CLI_INT, &o.prompt, "N", "tokens of the prefill (default: 512, or what the context has room for)", NULL, 1, 1 << 20},
    {0, "output", CLI_INT, &o.output, "N", "tokens to decode (default: 64)", NULL, 1, 1 << 20},
    {0, "repeat", CLI_INT, &o.repeat, "N", "runs, of which the best counts (default: 3)", NULL, 1, 1000},
    {0, "activations", CLI_STRING, &o.activations, "MODE", "auto, f32, bf16, f16 or int8", act_words, 0, 0},
    CLI_KV_OPTION(&o.kv),
    {0},
};

static int run(int n_args, char **args) {
    assay_bench_opts opts = {
        .prompt = (int)o.prompt,
        .output = (int)o.output,
        .repeat = (int)o.repeat,
        .run = {.threads = (int)cli_opts.threads, .batch = 1, .activations = o.activations, .kv = o.kv},
        .progress = cli_progress(),
        .view = cli_view(stdout)};
    assay_err err = {0};
    assay_doc *doc;
    if (assay_bench(&doc, n_args ? args[0] : NULL, &opts, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_bench = {
    .name = "bench",
    .args = "[MODEL]",
    .summary = "measure a model's speed beside this machine's own limits",
    .description = "Measures read bandwidth and arithmetic peaks of this machine, then prefill and decode of "
                   "MODEL, and tells each as a share of\n"
                   "the limit that bounds it. Without MODEL only the limits. Figures hold for this machine "
                   "at this moment: compare ratios.",
    .examples = "  $ assay bench models/demo\n  $ assay bench --json\n",
    .options = options,
    .max_args = 1,
    .run = run,
};
