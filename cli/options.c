/* options.c: parsing by table. Long options as --name VALUE or --name=VALUE, short ones as -n VALUE or
 * -nVALUE; a flag is turned off by --no-NAME. Anything wrong is one line on stderr with the nearest known
 * option. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

cli_common cli_opts;

static const char *const color_words[] = {"auto", "always", "never", NULL};

const char *const cli_kv_words[] = {"auto", "f32", "bf16", "f16", "int8", "fp8", "int4", NULL};

const cli_option cli_common_options[] = {
    {0, "json", CLI_FLAG, &cli_opts.json, NULL, "print the result as JSON", NULL, 0, 0},
    {'t', "threads", CLI_INT, &cli_opts.threads, "N", "threads to use (default: every core)", NULL, 1, 1024},
    {'q', "quiet", CLI_FLAG, &cli_opts.quiet, NULL, "no notes and no progress on stderr", NULL, 0, 0},
    {0, "no-progress", CLI_FLAG, &cli_opts.no_progress, NULL, "no progress on stderr", NULL, 0, 0},
    {0, "color", CLI_STRING, &cli_opts.color, "WHEN",
     "auto, always or never (default: auto; NO_COLOR is honoured)", color_words, 0, 0},
    {0},
};

static const cli_option *find_long(const cli_option *table, const char *name, size_t n) {
    for (const cli_option *o = table; o && o->name; o++)
        if (strlen(o->name) == n && !strncmp(o->name, name, n)) return o;
    return NULL;
}

static const cli_option *find_letter(const cli_option *table, char letter) {
    for (const cli_option *o = table; o && o->name; o++)
        if (o->letter && o->letter == letter) return o;
    return NULL;
}

static int unknown(const cli_command *c, const char *name) {
    const char *names[128];
    size_t n = 0;
    const cli_option *tables[] = {c->options, cli_common_options};
    for (int t = 0; t < 2; t++)
        for (const cli_option *o = tables[t]; o && o->name && n < 128; o++)
            names[n++] = o->name;
    const char *near = assay_suggest(name, names, n);
    cli_usage("%s: unknown option '--%s'%s%s%s", c->name, name, near ? ", did you mean '--" : "",
              near ? near : "", near ? "'?" : "");
    return -1;
}

static int set_number(const cli_command *c, const cli_option *o, const char *value) {
    char *end;
    errno = 0;
    double v = o->kind == CLI_INT ? (double)strtoll(value, &end, 10) : strtod(value, &end);
    if (errno || end == value || *end || !isfinite(v)) {
        cli_usage("%s: --%s wants a %snumber, not '%s'", c->name, o->name, o->kind == CLI_INT ? "whole " : "",
                  value);
        return -1;
    }
    if ((o->lo != 0 || o->hi != 0) && (v < o->lo || v > o->hi)) {
        cli_usage("%s: --%s must be from %.10g to %.10g, not %s", c->name, o->name, o->lo, o->hi, value);
        return -1;
    }
    if (o->kind == CLI_INT)
        *(int64_t *)o->out = strtoll(value, NULL, 10);
    else
        *(double *)o->out = v;
    return 0;
}

static int set_word(const cli_command *c, const cli_option *o, const char *value) {
    bool known = !o->words;
    size_t n = 0;
    for (; o->words && o->words[n]; n++)
        known = known || !strcmp(o->words[n], value);
    if (!known) {
        char list[256] = "";
        for (size_t i = 0; i < n; i++) {
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", o->words[i]);
        }
        cli_usage("%s: --%s is one of %s, not '%s'", c->name, o->name, list, value);
        return -1;
    }
    *(const char **)o->out = value;
    return 0;
}

static int add_to_list(const cli_option *o, const char *value) {
    cli_list *list = o->out;
    const char **items = realloc(list->items, (list->n + 1) * sizeof *items);
    if (!items) return -1;
    list->items = items;
    list->items[list->n++] = value;
    return 0;
}

static int set(const cli_command *c, const cli_option *o, const char *value, bool on) {
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)o->out = on;
        return 0;
    case CLI_STRING:
        return set_word(c, o, value);
    case CLI_LIST:
        return add_to_list(o, value);
    case CLI_INT:
    case CLI_DOUBLE:
        return set_number(c, o, value);
    }
    return -1;
}

static const cli_option *find(const cli_command *c, const char *name, size_t n, char letter) {
    const cli_option *o = letter ? find_letter(c->options, letter) : find_long(c->options, name, n);
    if (o) return o;
    return letter ? find_letter(cli_common_options, letter) : find_long(cli_common_options, name, n);
}

/* One argument that begins with '-'. Returns how many of argv it used, or -1. */
static int parse_option(const cli_command *c, int n, char **argv) {
    const char *a = argv[0], *value = NULL;
    const cli_option *o;
    bool on = true;
    if (a[1] == '-') {
        const char *name = a + 2, *eq = strchr(name, '=');
        size_t len = eq ? (size_t)(eq - name) : strlen(name);
        o = find(c, name, len, 0);
        if (!o && !strncmp(name, "no-", 3) && (o = find(c, name + 3, len - 3, 0))) {
            on = false;
            if (o->kind != CLI_FLAG) o = NULL;
        }
        if (!o) {
            char copy[128];
            snprintf(copy, sizeof copy, "%.*s", (int)len, name);
            return unknown(c, copy);
        }
        value = eq ? eq + 1 : NULL;
    } else {
        o = find(c, NULL, 0, a[1]);
        if (!o) {
            cli_usage("%s: unknown option '-%c'", c->name, a[1]);
            return -1;
        }
        if (a[2]) value = o->kind == CLI_FLAG ? NULL : a + 2;
        if (a[2] && !value) {
            cli_usage("%s: '%s': give short options one by one", c->name, a);
            return -1;
        }
    }
    if (o->kind == CLI_FLAG) {
        if (value) {
            cli_usage("%s: --%s takes no value", c->name, o->name);
            return -1;
        }
        return set(c, o, NULL, on) ? -1 : 1;
    }
    int used = value ? 1 : 2;
    if (!value && n < 2) {
        cli_usage("%s: --%s wants %s", c->name, o->name, o->arg);
        return -1;
    }
    return set(c, o, value ? value : argv[1], true) ? -1 : used;
}

int cli_parse(const cli_command *c, int n, char **argv) {
    int n_args = 0;
    bool options = true;
    for (int i = 0; i < n;) {
        char *a = argv[i];
        if (!options || a[0] != '-' || !a[1]) {
            argv[n_args++] = a;
            i++;
        } else if (!strcmp(a, "--")) {
            options = false;
            i++;
        } else if (!strcmp(a, "--help") || !strcmp(a, "-h")) {
            cli_print_help(stdout, c);
            exit(fflush(stdout) ? 5 : 0);
        } else {
            int used = parse_option(c, n - i, argv + i);
            if (used < 0) return -1;
            i += used;
        }
    }
    if (n_args < c->min_args || (c->max_args >= 0 && n_args > c->max_args)) {
        cli_usage("%s: %s; usage: assay %s %s", c->name,
                  n_args < c->min_args ? "something is missing" : "too many arguments", c->name, c->args);
        return -1;
    }
    return n_args;
}
