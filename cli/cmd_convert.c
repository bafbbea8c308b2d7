/* cmd_convert.c: between formats, exactly. */
#include "cli.h"

static struct {
    const char *to, *out, *dtype;
    int64_t group_size;
    bool requantize, overwrite, dry_run;
    double shard_gb;
} o;

static const cli_option options[] = {
    {0, "to", CLI_STRING, &o.to, "FORMAT",
     "gptq, gptq_v2, awq, compressed-tensors, gguf, bnb, fp8, hqq, hf; with a type where one is meant: gguf:q4_0", NULL, 0, 0},
    {'o', "out", CLI_STRING, &o.out, "DIR", "folder to write (or give it as the second argument)", NULL, 0, 0},
    {0, "dtype", CLI_STRING, &o.dtype, "TYPE", "with --to hf: decode to f32, f16 or bf16 (default: the model's)", NULL, 0, 0},
    {0, "group-size", CLI_INT, &o.group_size, "N", "cut or join groups of integers to N columns where that is exact (default: as they are)",
     NULL, 1, 1 << 20},
    {0, "requantize", CLI_FLAG, &o.requantize, NULL, "round matrices that do not fit anew, to nearest: changes the model", NULL, 0, 0},
    {'n', "dry-run", CLI_FLAG, &o.dry_run, NULL, "only tell whether it is exact", NULL, 0, 0},
    {0, "overwrite", CLI_FLAG, &o.overwrite, NULL, "replace what the folder holds", NULL, 0, 0},
    {0, "shard-gb", CLI_DOUBLE, &o.shard_gb, "GB", "largest output file (default: 5)", NULL, 0.001, 10000},
    {0},
};

static void notice(void *ctx, const char *text) {
    (void)ctx;
    cli_note("%s", text);
}

static int run(int n_args, char **args) {
    const char *out = n_args == 2 ? args[1] : o.out;
    if (n_args == 2 && o.out) return cli_usage("convert: the output folder is given twice");
    if (!o.to) return cli_usage("convert: say to what: --to gptq, awq, compressed-tensors, gguf, bnb, fp8, hqq or hf");
    if (!out && !o.dry_run) return cli_usage("convert: say where to write: assay convert MODEL OUT --to FORMAT (or --dry-run)");
    assay_convert_request req = {.to = o.to,
                                 .dtype = o.dtype,
                                 .group_size = o.group_size,
                                 .requantize = o.requantize,
                                 .overwrite = o.overwrite,
                                 .dry_run = o.dry_run,
                                 .shard_bytes = (uint64_t)(o.shard_gb * 1e9),
                                 .threads = (int)cli_opts.threads,
                                 .on_notice = notice,
                                 .progress = cli_progress(),
                                 .view = cli_view(stdout)};
    assay_err err = {0};
    assay_doc *doc;
    if (assay_convert_model(&doc, args[0], out, &req, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_convert = {
    .name = "convert",
    .args = "MODEL OUT",
    .summary = "another format with the same codes, or the reason why not",
    .description = "Reads a quantized checkpoint (a folder, or a GGUF file) and writes it in another format without touching a code: every code,\n"
                   "scale and zero point of the result is what it was. Where a matrix does not fit, nothing is written: the message names it, the\n"
                   "reason, and the formats that hold all of the model (exit code 4).\n\n"
                   "--requantize insists: what does not fit is decoded and rounded to nearest, to the type after the colon or the format's usual\n"
                   "one, and the change is told. --to hf decodes to plain tensors, and says whether rounding to their type changed a weight.\n"
                   "Groups may be cut (128 into 32) or joined where their scales are the same: --group-size; ggml's blocks have 32.\n\n"
                   "config.json gets the quantization_config that the format's loaders expect; tokenizer, chat template, generation_config and\n"
                   "licence travel along. One matrix is in memory at a time. A run that was killed goes on where it was when it is repeated.\n"
                   "What loads the result where: assay inspect --runtimes. The formats: docs/formats.md.",
    .examples = "  $ assay convert models/llama-gptq /tmp/ct --to compressed-tensors\n"
                "  $ assay convert models/llama-awq /tmp/gguf --to gguf\n"
                "  $ assay convert models/llama-gptq --to awq --dry-run\n"
                "  $ assay convert models/llama-nf4 /tmp/plain --to hf --dtype bf16\n",
    .options = options,
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
