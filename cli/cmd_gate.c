/* cmd_gate.c: two scorecards and a policy -> a verdict and an exit code. */
#include "cli.h"

static struct {
    const char *store, *policy;
    int64_t flips;
    bool markdown;
} o;

static const cli_option options[] = {
    {0, "store", CLI_STRING, &o.store, "FILE", "where the scorecards are (default: assay.db)", NULL, 0, 0},
    {'p', "policy", CLI_STRING, &o.policy, "FILE",
     "margins and confidence (docs/gate.md; default: 2 pt, 4 pt a slice, 95 %)", NULL, 0, 0},
    {0, "flips", CLI_INT, &o.flips, "N", "list N items whose answer flipped (default: 0)", NULL, 0, 1 << 20},
    {0, "markdown", CLI_FLAG, &o.markdown, NULL, "tables as Markdown", NULL, 0, 0},
    {0},
};

static int run(int n_args, char **args) {
    (void)n_args;
    assay_gate_request req = {.store = o.store,
                              .policy = o.policy,
                              .flips = (size_t)o.flips,
                              .markdown = o.markdown,
                              .view = cli_view(stdout)};
    assay_err err = {0};
    assay_doc *doc;
    if (assay_gate_variants(&doc, args[0], args[1], &req, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_gate = {
    .name = "gate",
    .args = "BASELINE CANDIDATE",
    .summary = "two scorecards and a policy -> verdict and exit code",
    .description =
        "Compares two complete scorecards of a store, given by variant name, item by item: per dimension and "
        "slice the paired difference\n"
        "with its interval, flips, and pass, fail or inconclusive against the policy's margins. Scorecards "
        "whose items, evaluators or\n"
        "prompts differ are refused.\n\nExit code 0: pass. 1: fail. 6: inconclusive. 3: not comparable.",
    .examples = "  $ assay gate bf16 nf4 --policy policy.yaml && ./ship.sh\n",
    .options = options,
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
