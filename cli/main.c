/* main.c: finds the command, parses its options by table, runs it. */
#include "cli.h"

#include <string.h>

const cli_command *const cli_commands[] = {
#define X(name) &cli_##name,
#include "commands.def"
#undef X
};
const size_t cli_n_commands = sizeof cli_commands / sizeof *cli_commands;

const cli_command *cli_find_command(const char *name) {
    for (size_t i = 0; i < cli_n_commands; i++)
        if (!strcmp(cli_commands[i]->name, name)) return cli_commands[i];
    return NULL;
}

static int no_such_command(const char *name) {
    const char *names[sizeof cli_commands / sizeof *cli_commands];
    for (size_t i = 0; i < cli_n_commands; i++)
        names[i] = cli_commands[i]->name;
    const char *near = assay_suggest(name, names, cli_n_commands);
    return cli_usage("there is no command '%s'%s%s%s; `assay help` lists them", name,
                     near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static int print_version(bool json) {
    if (json)
        printf("%s\n", assay_build_info_json());
    else
        printf("assay %s\n", assay_version());
    return fflush(stdout) ? 5 : 0;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        cli_print_overview(stderr);
        return 2;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--version") || !strcmp(name, "-V"))
        return print_version(argc > 2 && !strcmp(argv[2], "--json"));
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) name = "help";
    const cli_command *c = cli_find_command(name);
    if (!c) return no_such_command(name);
    int n_args = cli_parse(c, argc - 2, argv + 2);
    if (n_args < 0) return 2;
    cli_install_signals();
    assay_set_threads((int)cli_opts.threads);
    int code = c->run(n_args, argv + 2);
    if (fflush(stdout) && code == 0) code = 5;
    return code;
}
