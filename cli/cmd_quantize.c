/* cmd_quantize.c: one recipe -> one variant. */
#include "cli.h"

static struct {
    const char *recipe, *file, *out, *calibration, *imatrix, *mix, *sensitivity, *fit, *kv;
    int64_t context, concurrency;
    double target_bpw, target_gb;
    bool dry_run, overwrite, original_inputs;
    int64_t worst;
    double shard_gb;
} o;

static const cli_option options[] = {
    {'r', "recipe", CLI_STRING, &o.recipe, "RECIPE",
     "method and options in one line: rtn,int4,group_size=128", NULL, 0, 0},
    {0, "recipe-file", CLI_STRING, &o.file, "FILE", "the recipe as YAML instead", NULL, 0, 0},
    {'c', "calibration", CLI_STRING, &o.calibration, "FILE",
     "text or JSONL that shows the methods what the model sees: FILE,samples=128,length=2048", NULL, 0, 0},
    {0, "imatrix", CLI_STRING, &o.imatrix, "FILE",
     "method gguf: an importance matrix (assay imatrix, llama.cpp's .gguf or .dat)", NULL, 0, 0},
    {0, "original-inputs", CLI_FLAG, &o.original_inputs, NULL,
     "calibrate on the original layers' outputs instead of the quantized ones'", NULL, 0, 0},
    {0, "target-bpw", CLI_DOUBLE, &o.target_bpw, "BITS",
     "mix precisions so that a weight takes so many bits and least is lost", NULL, 1, 16},
    {0, "target-gb", CLI_DOUBLE, &o.target_gb, "GB", "the same for a checkpoint of so many GB", NULL, 0.0001, 100000},
    {0, "fit", CLI_STRING, &o.fit, "DEVICE", "the same for the largest checkpoint that a device serves (assay plan --devices)", NULL, 0, 0},
    {0, "context", CLI_INT, &o.context, "N", "with --fit: tokens that a sequence may reach", NULL, 1, 1 << 30},
    {0, "concurrency", CLI_INT, &o.concurrency, "N", "with --fit: sequences at once (default: 1)", NULL, 1, 1 << 20},
    {0, "kv", CLI_STRING, &o.kv, "PRECISION", "with --fit: of the KV cache (default: f16)", NULL, 0, 0},
    {0, "mix", CLI_STRING, &o.mix, "LIST", "precisions to mix: 'int3g128 int4g128 int8g128 bf16'", NULL, 0, 0},
    {0, "sensitivity", CLI_STRING, &o.sensitivity, "HOW",
     "how a mixture measures its matrices: kl (exact, slow), fisher (one backward pass), auto", NULL, 0, 0},
    {'o', "out", CLI_STRING, &o.out, "DIR", "folder to write (or give it as the second argument)", NULL, 0,
     0},
    {'n', "dry-run", CLI_FLAG, &o.dry_run, NULL, "only tell size, memory and time", NULL, 0, 0},
    {0, "overwrite", CLI_FLAG, &o.overwrite, NULL, "replace what the folder holds", NULL, 0, 0},
    {0, "worst", CLI_INT, &o.worst, "N", "matrices to list, by their loss (default: 10)", NULL, 1, 10},
    {0, "shard-gb", CLI_DOUBLE, &o.shard_gb, "GB", "largest output file (default: 5)", NULL, 0.001, 10000},
    {0},
};

static void notice(void *ctx, const char *text) {
    (void)ctx;
    cli_note("%s", text);
}

static int run(int n_args, char **args) {
    if (n_args == 2 && o.out) return cli_usage("quantize: the output folder is given twice");
    const char *out = n_args == 2 ? args[1] : o.out;
    if (!out && !o.dry_run)
        return cli_usage(
            "quantize: say where to write: assay quantize MODEL OUT --recipe ... (or --dry-run)");
    assay_quantize_request req = {.recipe = o.recipe,
                                  .recipe_file = o.file,
                                  .calibration = o.calibration,
                                  .imatrix = o.imatrix,
                                  .target_bpw = o.target_bpw,
                                  .target_gb = o.target_gb,
                                  .fit = o.fit,
                                  .context = o.context,
                                  .concurrency = o.concurrency,
                                  .kv = o.kv,
                                  .mix = o.mix,
                                  .sensitivity = o.sensitivity,
                                  .original_inputs = o.original_inputs,
                                  .threads = (int)cli_opts.threads,
                                  .dry_run = o.dry_run,
                                  .overwrite = o.overwrite,
                                  .shard_bytes = (uint64_t)(o.shard_gb * 1e9),
                                  .worst = (int)o.worst,
                                  .on_notice = notice,
                                  .progress = cli_progress(),
                                  .view = cli_view(stdout)};
    assay_err err = {0};
    assay_doc *doc;
    if (assay_quantize_model(&doc, args[0], out, &req, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_quantize = {
    .name = "quantize",
    .args = "MODEL OUT",
    .summary = "one recipe -> one variant, with the loss of each matrix",
    .description = "Reads the checkpoint in MODEL and writes a quantized one into the folder OUT, in the "
                   "files that transformers and vLLM load:\n"
                   "bitsandbytes' convention for llm_int8, nf4 and fp4, hqq's for hqq, a GGUF file for gguf, compressed-tensors' "
                   "for the rest. One matrix, or with\n"
                   "calibration one decoder layer, is in memory at a time; a run that was killed goes on where it "
                   "was when it is started again.\n"
                   "With format=gptq, gptq_v2 or awq integers go into those files instead. layers.jsonl beside the weights tells what each matrix lost.\n\n"
                   "A recipe is a method with options: rtn, llm_int8, nf4, fp4, hqq, fp8, gguf need no data; gptq, awq, "
                   "autoround and smoothquant\n"
                   "need --calibration. precision=int2..int8, fp8_e4m3, mxfp4, nvfp4 ..., group_size=N or channel, "
                   "symmetric, mse, double_quant,\n"
                   "rotate and others: docs/methods.md. After a semicolon come overrides by tensor name: "
                   "'rtn,int8;match=mlp\\.,precision=int4'.\n\n"
                   "With --target-bpw, --target-gb or --fit the recipe is a base, and each group of matrices that runtimes "
                   "fuse gets the precision\n"
                   "that loses least within the budget, by what was measured on the calibration data; mixture.json "
                   "tells every figure.\n\n"
                   "gguf,q4_k_m and llama.cpp's other mixes and types (gguf,q8_0 gguf,iq4_xs gguf,q4_k,pure ...) give the bytes of "
                   "llama-quantize.\nWith --calibration or --imatrix they weigh columns by importance, which the smallest need.\n\n"
                   "Three and two bits are for research: the loss is told before the files appear.",
    .examples = "  $ assay quantize models/demo /tmp/nf4 --recipe nf4,double_quant\n"
                "  $ assay quantize models/demo /tmp/mixed --recipe "
                "'rtn,int8;match=mlp\\.,precision=int4,group_size=128'\n"
                "  $ assay quantize models/demo /tmp/gptq --recipe gptq,int4 -c "
                "models/demo/calibration.jsonl,samples=64,length=256\n"
                "  $ assay quantize models/demo /tmp/small --recipe gptq,int4 --target-bpw 3.75 -c "
                "models/demo/calibration.jsonl,length=256\n"
                "  $ assay quantize models/demo /tmp/gguf --recipe gguf,q4_k_m -c models/demo/calibration.jsonl,length=256\n"
                "  $ assay quantize models/demo --recipe rtn,int4,group_size=128 --dry-run\n",
    .options = options,
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
