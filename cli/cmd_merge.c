/* cmd_merge.c: base + LoRA adapter -> one checkpoint. */
#include "cli.h"

static struct {
    const char *out;
    bool overwrite;
    double shard_gb;
} o;

static const cli_option options[] = {
    {'o', "out", CLI_STRING, &o.out, "DIR", "folder to write (or give it as the third argument)", NULL, 0, 0},
    {0, "overwrite", CLI_FLAG, &o.overwrite, NULL, "replace what the folder holds", NULL, 0, 0},
    {0, "shard-gb", CLI_DOUBLE, &o.shard_gb, "GB", "largest output file (default: 5)", NULL, 0.001, 10000},
    {0},
};

static int run(int n_args, char **args) {
    const char *out = n_args == 3 ? args[2] : o.out;
    if (n_args == 3 && o.out) return cli_usage("merge: the output folder is given twice");
    if (!out) return cli_usage("merge: say where to write: assay merge MODEL ADAPTER OUT");
    assay_merge_request req = {.threads = (int)cli_opts.threads,
                               .overwrite = o.overwrite,
                               .shard_bytes = (uint64_t)(o.shard_gb * 1e9),
                               .progress = cli_progress()};
    assay_err err = {0};
    assay_doc *doc;
    if (assay_merge_adapter(&doc, args[0], args[1], out, &req, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_merge = {
    .name = "merge",
    .args = "MODEL ADAPTER OUT",
    .summary = "fold a LoRA adapter into its base: one checkpoint again",
    .description = "ADAPTER is a folder that peft saved (adapter_config.json, adapter_model.safetensors): LoRA, rsLoRA, DoRA, with whole\n"
                   "modules and biases where it has them. Each matrix W becomes W + scale * B A, computed in float32 and rounded once to\n"
                   "the type that the base has, as peft's merge does. A run that was killed goes on where it was when it is repeated.\n\n"
                   "A quantized base is refused: merge into the model that it was made from, then quantize. To try an adapter without\n"
                   "merging, on any base: assay run MODEL --adapter ADAPTER.",
    .examples = "  $ assay merge models/base adapters/sql /tmp/merged\n",
    .options = options,
    .min_args = 2,
    .max_args = 3,
    .run = run,
};
