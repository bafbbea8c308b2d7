/* cmd_imatrix.c: a model and text -> an importance matrix. */
#include "cli.h"

static struct {
    const char *calibration, *out;
} o;

static const cli_option options[] = {
    {'c', "calibration", CLI_STRING, &o.calibration, "FILE", "text or JSONL: FILE,samples=128,length=2048", NULL, 0, 0},
    {'o', "out", CLI_STRING, &o.out, "FILE", "file to write, usually *.gguf (or give it as the second argument)", NULL, 0, 0},
    {0},
};

static int run(int n_args, char **args) {
    const char *out = n_args == 2 ? args[1] : o.out;
    if (n_args == 2 && o.out) return cli_usage("imatrix: the file is given twice");
    if (!out) return cli_usage("imatrix: say where to write: assay imatrix MODEL OUT -c FILE");
    assay_imatrix_request req = {.calibration = o.calibration, .threads = (int)cli_opts.threads, .progress = cli_progress()};
    assay_err err = {0};
    assay_doc *doc;
    if (assay_imatrix_model(&doc, args[0], out, &req, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_imatrix = {
    .name = "imatrix",
    .args = "MODEL OUT",
    .summary = "what the columns of each matrix weigh, for quantizing to GGUF",
    .description = "Runs the unquantized model over calibration data, one decoder layer in memory at a time, and writes the sums of squares that\n"
                   "flow into each column of each matrix: an importance matrix as llama-imatrix makes it, which llama-quantize reads, and\n"
                   "`assay quantize --imatrix`. A run that was killed goes on where it was when it is repeated; OUT.work holds the\n"
                   "activations meanwhile.\n\n"
                   "Quantizing once needs no file: `assay quantize -r gguf,iq3_xs -c DATA` computes the same on the way.",
    .examples = "  $ assay imatrix models/demo /tmp/demo.imatrix.gguf -c models/demo/calibration.jsonl,length=256\n"
                "  $ assay quantize models/demo /tmp/iq3 -r gguf,iq3_xs --imatrix /tmp/demo.imatrix.gguf\n",
    .options = options,
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
