/* cmd_study.c: the main job: model x recipes x suite x policy x devices -> decision. */
#include "cli.h"

static struct {
    const char *out;
    int64_t limit, batch;
    bool dry_run;
} o;

static const cli_option options[] = {
    {'o', "out", CLI_STRING, &o.out, "DIR", "where results go (default: out/NAME)", NULL, 0, 0},
    {'n', "dry-run", CLI_FLAG, &o.dry_run, NULL, "list the steps and which are done already", NULL, 0, 0},
    {0, "limit", CLI_INT, &o.limit, "N", "at most N items a slice (default: as the study says)", NULL, 1,
     1 << 30},
    {0, "batch", CLI_INT, &o.batch, "N", "sequences computed together (default: 32)", NULL, 1, 4096},
    {0},
};

static int run(int n_args, char **args) {
    (void)n_args;
    assay_study_opts opts = {.out_dir = o.out,
                             .limit = o.limit,
                             .run = {.threads = (int)cli_opts.threads, .batch = (int)o.batch},
                             .dry_run = o.dry_run,
                             .progress = cli_progress(),
                             .view = cli_view(stdout)};
    assay_err err = {0};
    assay_doc *doc;
    if (assay_study(&doc, args[0], &opts, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_study = {
    .name = "study",
    .args = "FILE",
    .summary = "run a study to its decision and report (the main job)",
    .description = "FILE is a YAML study (docs/studies.md): a model, the recipes to try, a suite of items, a "
                   "policy of margins, devices. Makes the\n"
                   "variants, scores baseline and variants on the same items, gates each dimension and slice "
                   "with paired statistics, plans the\n"
                   "deployment, and writes the decision with a report into the output folder.\n\n"
                   "Steps are keyed by their content: what is done already is not done again, and a run that "
                   "was killed goes on where it was.\n\n"
                   "Exit code 0: a variant may be shipped. 1: none may. 6: more items are needed to say.",
    .examples = "  $ assay study examples/demo.yaml\n  $ assay study my-study.yaml --dry-run\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
