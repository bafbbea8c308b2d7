/* cmd_inspect.c: what a checkpoint is. */
#include "cli.h"

static struct { bool tensors, hash, runtimes; } o;

static const cli_option options[] = {
    {0, "tensors", CLI_FLAG, &o.tensors, NULL, "list every tensor", NULL, 0, 0},
    {0, "runtimes", CLI_FLAG, &o.runtimes, NULL, "tell which runtimes load it with a kernel, by decoding, or not at all", NULL, 0, 0},
    {0, "hash", CLI_FLAG, &o.hash, NULL, "compute the checkpoint's SHA-256 (reads all of it)", NULL, 0, 0},
    {0},
};

static int run(int n_args, char **args) {
    (void)n_args;
    assay_inspect_opts opts = {.tensors = o.tensors, .hash = o.hash, .runtimes = o.runtimes, .view = cli_view(stdout)};
    assay_err err = {0};
    assay_doc *doc;
    if (assay_inspect(&doc, args[0], &opts, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_inspect = {
    .name = "inspect",
    .args = "MODEL",
    .summary = "what a checkpoint is: architecture, tensors, precisions, bits per weight, tokenizer",
    .description = "MODEL is a folder in the Hugging Face layout, or a GGUF file. Every tensor that the architecture calls "
                   "for is looked up as the\n"
                   "runtime would, so a checkpoint that inspects cleanly is complete. Traps are told: what other programs would silently\n"
                   "compute otherwise, such as zero points of the other GPTQ version. --runtimes tells for transformers, vLLM, TGI,\n"
                   "TensorRT-LLM, llama.cpp, Ollama and kin whether a kernel of theirs works on the stored codes, by rules with source and\ndate.",
    .examples = "  $ assay inspect models/demo\n  $ assay inspect models/demo --tensors --json\n"
                "  $ assay inspect /tmp/gptq --runtimes\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
