/* help.c: help, man pages and completion, all from the tables. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void print_option(FILE *f, const cli_option *o) {
    char left[80];
    snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->letter ? "-" : "", o->letter ? o->letter : ' ',
             o->letter ? ", " : "   ", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
    fprintf(f, "  %-32s %s\n", left, o->help);
}

void cli_print_help(FILE *f, const cli_command *c) {
    fprintf(f, "assay %s: %s\n\nusage: assay %s [options] %s\n\n%s\n", c->name, c->summary, c->name, c->args,
            c->description);
    if (c->options && c->options->name) {
        fprintf(f, "\noptions:\n");
        for (const cli_option *o = c->options; o->name; o++)
            print_option(f, o);
    }
    fprintf(f, "\nevery command:\n");
    for (const cli_option *o = cli_common_options; o->name; o++)
        print_option(f, o);
    if (c->examples) fprintf(f, "\nexamples:\n%s", c->examples);
}

void cli_print_overview(FILE *f) {
    fprintf(f,
            "assay %s: which quantized variant of a language model may we ship, and what exactly does it "
            "lose?\n\n"
            "usage: assay COMMAND [options] [arguments]\n\n",
            assay_version());
    for (size_t i = 0; i < cli_n_commands; i++)
        fprintf(f, "  %-11s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
    fprintf(
        f,
        "\n`assay COMMAND --help` tells the options of a command; `assay study --help` is where to begin.\n"
        "exit codes: 0 ok, 1 the answer is no, 2 usage, 3 bad input, 4 not supported, 5 out of memory or "
        "disk,\n"
        "            6 inconclusive, 70 internal error, 130 interrupted\n");
}

/* --- man pages --- */

/* Escapes what roff would take as a request or an escape. */
static void roff(FILE *f, const char *text) {
    bool start = true;
    for (const char *p = text; *p; p++) {
        if (start && (*p == '.' || *p == '\'')) fputs("\\&", f);
        if (*p == '\\')
            fputs("\\e", f);
        else if (*p == '-')
            fputs("\\-", f);
        else
            fputc(*p, f);
        start = *p == '\n';
    }
}

static void man_options(FILE *f, const cli_option *table) {
    for (const cli_option *o = table; o && o->name; o++) {
        fprintf(f, ".TP\n");
        if (o->letter)
            fprintf(f, ".BR \\-%c \", \" \\-\\-", o->letter);
        else
            fprintf(f, ".B \\-\\-");
        roff(f, o->name);
        if (o->arg) fprintf(f, "%s%s", o->letter ? "\" \" " : " ", o->arg);
        fputc('\n', f);
        roff(f, o->help);
        fputc('\n', f);
    }
}

static void man_page(FILE *f, const cli_command *c) {
    fprintf(f, ".TH ASSAY\\-%s 1 \"\" \"assay %s\"\n.SH NAME\nassay\\-%s \\- ", c->name, assay_version(),
            c->name);
    roff(f, c->summary);
    fprintf(f, "\n.SH SYNOPSIS\n.B assay %s\n[options] ", c->name);
    roff(f, c->args);
    fprintf(f, "\n.SH DESCRIPTION\n");
    for (const char *p = c->description; *p;) {
        const char *blank = strstr(p, "\n\n");
        size_t n = blank ? (size_t)(blank - p) : strlen(p);
        char *copy = strndup(p, n);
        if (copy) roff(f, copy);
        free(copy);
        fprintf(f, "\n.PP\n");
        p += n;
        while (*p == '\n')
            p++;
    }
    fprintf(f, ".SH OPTIONS\n");
    man_options(f, c->options);
    man_options(f, cli_common_options);
    if (c->examples) {
        fprintf(f, ".SH EXAMPLES\n.nf\n");
        roff(f, c->examples);
        fprintf(f, ".fi\n");
    }
    fprintf(f, ".SH EXIT STATUS\n0 ok, 1 the answer is no, 2 usage, 3 bad input, 4 not supported, 5 out of "
               "memory or disk, 6 inconclusive, "
               "70 internal error, 130 interrupted.\n.SH SEE ALSO\n.BR assay (1)\n");
}

static void man_overview(FILE *f) {
    fprintf(f,
            ".TH ASSAY 1 \"\" \"assay %s\"\n.SH NAME\nassay \\- quantize, run, evaluate and gate language "
            "models\n.SH SYNOPSIS\n.B assay\n"
            "command [options] [arguments]\n.SH COMMANDS\n",
            assay_version());
    for (size_t i = 0; i < cli_n_commands; i++) {
        fprintf(f, ".TP\n.BR assay\\-%s (1)\n", cli_commands[i]->name);
        roff(f, cli_commands[i]->summary);
        fputc('\n', f);
    }
    fprintf(f, ".SH ENVIRONMENT\n.TP\n.B ASSAY_CPU\nhighest instruction set to use: ref, avx2, avx512, "
               "neon\n.TP\n.B NO_COLOR\nno colours\n");
}

static int write_man(const char *dir) {
    for (size_t i = 0; i <= cli_n_commands; i++) {
        char path[1024];
        if (i == cli_n_commands)
            snprintf(path, sizeof path, "%s/assay.1", dir);
        else
            snprintf(path, sizeof path, "%s/assay-%s.1", dir, cli_commands[i]->name);
        FILE *f = fopen(path, "w");
        if (!f) {
            fprintf(stderr, "assay: cannot write '%s': %s\n", path, strerror(errno));
            return 5;
        }
        if (i == cli_n_commands)
            man_overview(f);
        else
            man_page(f, cli_commands[i]);
        if (fclose(f)) return 5;
    }
    return 0;
}

static const char *man_dir;
static const cli_option help_options[] = {
    {0, "man", CLI_STRING, &man_dir, "DIR", "write the man pages into DIR instead", NULL, 0, 0},
    {0},
};

static int run_help(int n_args, char **args) {
    if (man_dir) return write_man(man_dir);
    if (!n_args) {
        cli_print_overview(stdout);
        return 0;
    }
    const cli_command *c = cli_find_command(args[0]);
    if (!c) return cli_usage("help: there is no command '%s'", args[0]);
    cli_print_help(stdout, c);
    return 0;
}

const cli_command cli_help = {
    .name = "help",
    .args = "[COMMAND]",
    .summary = "tell about the program or one command",
    .description = "Without an argument lists the commands; with one prints its help.",
    .options = help_options,
    .max_args = 1,
    .run = run_help,
};

/* --- completion --- */

static void bash_options(const cli_option *table) {
    for (const cli_option *o = table; o && o->name; o++)
        printf(" --%s", o->name);
}

static void bash_words(const cli_option *table) {
    for (const cli_option *o = table; o && o->name; o++) {
        if (!o->words) continue;
        printf("        --%s) COMPREPLY=($(compgen -W '", o->name);
        for (const char *const *w = o->words; *w; w++)
            printf("%s%s", w == o->words ? "" : " ", *w);
        printf("' -- \"$cur\")); return ;;\n");
    }
}

static int run_completion(int n_args, char **args) {
    if (n_args && strcmp(args[0], "bash"))
        return cli_usage("completion: only bash is known, not '%s'", args[0]);
    printf("# bash completion for assay\n_assay() {\n    local cur=${COMP_WORDS[COMP_CWORD]} "
           "prev=${COMP_WORDS[COMP_CWORD-1]} options=\n"
           "    if [ \"$COMP_CWORD\" = 1 ]; then COMPREPLY=($(compgen -W '");
    for (size_t i = 0; i < cli_n_commands; i++)
        printf("%s%s", i ? " " : "", cli_commands[i]->name);
    printf("' -- \"$cur\")); return; fi\n    case \"$prev\" in\n");
    for (size_t i = 0; i < cli_n_commands; i++)
        bash_words(cli_commands[i]->options);
    bash_words(cli_common_options);
    printf("    esac\n    case \"${COMP_WORDS[1]}\" in\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        printf("        %s) options='", cli_commands[i]->name);
        bash_options(cli_commands[i]->options);
        bash_options(cli_common_options);
        printf("' ;;\n");
    }
    printf("    esac\n    case \"$cur\" in\n        -*) COMPREPLY=($(compgen -W \"$options --help\" -- "
           "\"$cur\")) ;;\n"
           "        *) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n    esac\n}\ncomplete -o filenames -F "
           "_assay assay\n");
    return 0;
}

const cli_command cli_completion = {
    .name = "completion",
    .args = "[bash]",
    .summary = "print the shell completion script",
    .description = "Prints a script for bash: `source <(assay completion bash)`.",
    .max_args = 1,
    .run = run_completion,
};
