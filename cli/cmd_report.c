/* cmd_report.c: renders what a store holds. */
#include "cli.h"

static struct { const char *study, *html, *markdown, *json, *records; } o;

static const cli_option options[] = {
    {0, "study", CLI_STRING, &o.study, "NAME", "which study of the store (default: the newest)", NULL, 0, 0},
    {0, "html", CLI_STRING, &o.html, "FILE", "write the HTML report", NULL, 0, 0},
    {0, "markdown", CLI_STRING, &o.markdown, "FILE", "write it as Markdown", NULL, 0, 0},
    {0, "json-file", CLI_STRING, &o.json, "FILE", "write it as JSON", NULL, 0, 0},
    {0, "records", CLI_STRING, &o.records, "DIR", "write every scorecard's records as JSON lines", NULL, 0,
     0},
    {0},
};

static int run(int n_args, char **args) {
    (void)n_args;
    assay_report_opts opts = {.study = o.study,
                              .html = o.html,
                              .markdown = o.markdown,
                              .json = o.json,
                              .records = o.records,
                              .view = cli_view(stdout)};
    assay_err err = {0};
    assay_doc *doc;
    if (assay_report_store(&doc, args[0], &opts, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_report = {
    .name = "report",
    .args = "OUT",
    .summary = "render stored scorecards: terminal, HTML, Markdown, JSON",
    .description = "OUT is a study's output folder. Prints the verdicts and the decision as the study did, "
                   "and writes the files asked for. The exit\n"
                   "code is the study's: 0 a variant may be shipped, 1 none may, 6 inconclusive.",
    .examples = "  $ assay report out/demo --html report.html\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
