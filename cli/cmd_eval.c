/* cmd_eval.c: a suite on a model -> a scorecard in a store. */
#include "cli.h"

static struct {
    const char *suite, *store, *name, *baseline, *activations, *kv, *adapter;
    int64_t limit, batch;
} o;

static const char *const act_words[] = {"auto", "f32", "bf16", "f16", "int8", NULL};

static const cli_option options[] = {
    {'s', "suite", CLI_STRING, &o.suite, "FILE", "the suite (docs/suites.md)", NULL, 0, 0},
    {0, "store", CLI_STRING, &o.store, "FILE", "where scorecards are kept (default: assay.db)", NULL, 0, 0},
    {0, "name", CLI_STRING, &o.name, "NAME",
     "of the variant in the store (default: the folder's name, with the KV cache if set)", NULL, 0, 0},
    {0, "baseline", CLI_STRING, &o.baseline, "NAME", "scorecard whose distributions kl compares with", NULL,
     0, 0},
    {0, "limit", CLI_INT, &o.limit, "N", "at most N items a slice", NULL, 1, 1 << 30},
    {0, "batch", CLI_INT, &o.batch, "N", "sequences computed together (default: 32)", NULL, 1, 4096},
    {0, "activations", CLI_STRING, &o.activations, "MODE", "auto, f32, bf16, f16 or int8", act_words, 0, 0},
    CLI_KV_OPTION(&o.kv),
    CLI_ADAPTER_OPTION(&o.adapter),
    {0},
};

static int run(int n_args, char **args) {
    (void)n_args;
    if (!o.suite) return cli_usage("eval: say which suite: --suite FILE");
    assay_eval_opts opts = {.suite = o.suite,
                            .store = o.store,
                            .name = o.name,
                            .baseline = o.baseline,
                            .limit = o.limit,
                            .run = {.threads = (int)cli_opts.threads,
                                    .batch = (int)o.batch,
                                    .activations = o.activations,
                                    .kv = o.kv, .adapter = o.adapter},
                            .progress = cli_progress(),
                            .view = cli_view(stdout)};
    assay_err err = {0};
    assay_doc *doc;
    if (assay_eval(&doc, args[0], &opts, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_eval = {
    .name = "eval",
    .args = "MODEL",
    .summary = "suite -> scorecard: every item's record and all totals",
    .description = "Scores MODEL on every item of a suite and keeps the records in a store. Killed and "
                   "started again it goes on where it was. With\n"
                   "--baseline the kl evaluator compares distributions with that scorecard's.",
    .examples = "  $ assay eval models/demo --suite models/demo/suite.yaml --name bf16\n"
                "  $ assay eval /tmp/nf4 --suite models/demo/suite.yaml --name nf4 --baseline bf16\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
