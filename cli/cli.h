/* cli.h: what every command is made of: a row in commands.def, a table of options, a function.
 *
 * The tables give parsing, --help, completion and man pages, so none of these can disagree with the program.
 * cli/ uses nothing of the library but include/assay. Results go to stdout, everything else to stderr. */
#ifndef ASSAY_CLI_H
#define ASSAY_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "assay/assay.h"

typedef enum cli_kind { CLI_FLAG, CLI_STRING, CLI_INT, CLI_DOUBLE, CLI_LIST } cli_kind;

typedef struct cli_list { /* repeated strings; also cut at commas when the option says so */
    const char **items;
    size_t n;
} cli_list;

typedef struct cli_option {
    char letter;      /* short form, 0 = none */
    const char *name; /* long form, without the dashes */
    cli_kind kind;
    void *out;        /* bool*, const char**, int64_t*, double*, cli_list* */
    const char *arg;  /* what the value is called in help; NULL for flags */
    const char *help; /* one line, lower case; says the default */
    const char *const
        *words;    /* CLI_STRING: the only values allowed, NULL-terminated; completion offers them */
    double lo, hi; /* CLI_INT, CLI_DOUBLE: inclusive range; both 0 = any */
} cli_option;

typedef struct cli_command {
    const char *name;
    const char *args;          /* "MODEL [OUT]" */
    const char *summary;       /* one line for the list of commands */
    const char *description;   /* paragraphs for help and the man page */
    const char *examples;      /* lines "$ assay ..." with an explanation line below each */
    const cli_option *options; /* ends with a zero name */
    int min_args, max_args;    /* positional arguments; max -1 = any number */
    int (*run)(int n_args, char **args);
} cli_command;

#define X(name) extern const cli_command cli_##name;
#include "commands.def"
#undef X
extern const cli_command *const cli_commands[];
extern const size_t cli_n_commands;
const cli_command *cli_find_command(const char *name);

/* --- options that many commands share; reset for each process --- */
typedef struct cli_common {
    bool json;  /* --json */
    bool quiet; /* -q */
    bool no_progress;
    const char *color; /* auto always never */
    int64_t threads;
} cli_common;
extern cli_common cli_opts;
extern const cli_option cli_common_options[];

/* A LoRA adapter beside the model, for the commands that run one. */
#define CLI_ADAPTER_OPTION(out)                                                                              \
    { 0, "adapter", CLI_STRING, out, "DIR", "add the LoRA adapter that peft saved there", NULL, 0, 0 }

/* How keys and values are kept, for the commands that run a model. */
extern const char *const cli_kv_words[];
#define CLI_KV_OPTION(out)                                                                                   \
    {                                                                                                        \
        0, "kv", CLI_STRING, out, "KIND",                                                                    \
            "KV cache: auto, f32, bf16, f16, int8, fp8 or int4 (default: as the model computes)",            \
            cli_kv_words, 0, 0                                                                               \
    }

/* Parses argv[0..n) by c's table and the common one. Positional arguments are moved to the front; their
 * number is returned, or -1 after a usage error has been printed. "--" ends options; a lone "-" is an
 * argument. */
int cli_parse(const cli_command *c, int n, char **argv);
void cli_print_help(FILE *f, const cli_command *c);
void cli_print_overview(FILE *f);

/* --- output --- */
/* Prints "assay: message" and returns the exit code that stands for err. */
int cli_fail(const assay_err *err);
int cli_usage(const char *fmt, ...) ASSAY_PRINTF(1, 2);
void cli_note(const char *fmt, ...) ASSAY_PRINTF(1, 2); /* to stderr, unless --quiet */
/* Prints a result (JSON with --json, else as text), frees it, and returns the exit code: its own, or 5 when
 * stdout is full. */
int cli_finish(assay_doc *doc);
/* The terminal as renderers want it. */
assay_view cli_view(FILE *f);

/* --- progress and interruption --- */
/* A progress that draws on stderr when that is a terminal, else a line a minute; stops the work after Ctrl-C
 * or SIGTERM. */
const assay_progress *cli_progress(void);
void cli_progress_end(void); /* clears the line */
void cli_install_signals(void);
bool cli_interrupted(void);

#endif
