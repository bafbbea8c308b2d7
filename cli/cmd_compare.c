/* cmd_compare.c: two models' answers side by side. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

static struct {
    cli_list prompts;
    const char *file, *activations, *kv, *adapter;
    int64_t max_tokens;
    bool raw;
} o;

static const char *const act_words[] = {"auto", "f32", "bf16", "f16", "int8", NULL};

static const cli_option options[] = {
    {'p', "prompt", CLI_LIST, &o.prompts, "TEXT", "a prompt; may be repeated", NULL, 0, 0},
    {0, "prompts", CLI_STRING, &o.file, "FILE", "a prompt per line", NULL, 0, 0},
    {'n', "max-tokens", CLI_INT, &o.max_tokens, "N", "at most N tokens an answer (default: 128)", NULL, 1,
     1 << 20},
    {0, "raw", CLI_FLAG, &o.raw, NULL, "no chat template", NULL, 0, 0},
    {0, "activations", CLI_STRING, &o.activations, "MODE", "auto, f32, bf16, f16 or int8", act_words, 0, 0},
    CLI_KV_OPTION(&o.kv),
    CLI_ADAPTER_OPTION(&o.adapter),
    {0},
};

static int read_prompts(const char *path) {
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, f)) >= 0) {
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = 0;
        if (!n) continue;
        const char **items = realloc(o.prompts.items, (o.prompts.n + 1) * sizeof *items);
        if (!items) break;
        o.prompts.items = items;
        items[o.prompts.n++] = strdup(line);
    }
    free(line);
    fclose(f);
    return 0;
}

static int run(int n_args, char **args) {
    if (o.file && read_prompts(o.file)) return cli_usage("compare: cannot read '%s'", o.file);
    assay_compare_opts opts = {
        .prompts = n_args == 3 ? (const char *const *)&args[2] : o.prompts.items,
        .n_prompts = n_args == 3 ? 1 : o.prompts.n,
        .generate = {.max_tokens = o.max_tokens ? (int)o.max_tokens : 128, .raw = o.raw},
        .run = {.threads = (int)cli_opts.threads, .activations = o.activations, .kv = o.kv, .adapter = o.adapter, .batch = 1},
        .progress = cli_progress(),
        .view = cli_view(stdout)};
    if (n_args == 3 && o.prompts.n)
        return cli_usage("compare: give the prompt as an argument or by options, not both");
    if (!opts.n_prompts) return cli_usage("compare: no prompt; usage: assay compare A B PROMPT");
    assay_err err = {0};
    assay_doc *doc;
    if (assay_compare(&doc, args[0], args[1], &opts, &err) != ASSAY_OK) return cli_fail(&err);
    return cli_finish(doc);
}

const cli_command cli_compare = {
    .name = "compare",
    .args = "MODEL_A MODEL_B [PROMPT]",
    .summary = "two models' answers side by side, the first difference marked",
    .description = "Asks both models the same prompts, greedily, one model after the other, and shows where "
                   "their answers part.",
    .examples = "  $ assay compare models/demo /tmp/int2 'What is 32 + 39?'\n",
    .options = options,
    .min_args = 2,
    .max_args = 3,
    .run = run,
};
