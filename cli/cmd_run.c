/* cmd_run.c: generate, or chat when stdin is a terminal and no prompt is given.
 *
 * The text goes to stdout as it comes; everything about it to stderr. In a chat each line is a message;
 * /quit, /reset and /system TEXT are commands. With --json the answer is one object. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    const char *prompt, *system, *activations, *kv, *adapter;
    int64_t max_tokens, top_k, seed, context;
    double temperature, top_p;
    bool raw, stats;
    cli_list stop;
} o = {.top_p = 1};

static const char *const act_words[] = {"auto", "f32", "bf16", "f16", "int8", NULL};

static const cli_option options[] = {
    {'p', "prompt", CLI_STRING, &o.prompt, "TEXT",
     "the prompt; - reads stdin (default: chat, or stdin when piped)", NULL, 0, 0},
    {'s', "system", CLI_STRING, &o.system, "TEXT", "system message", NULL, 0, 0},
    {0, "raw", CLI_FLAG, &o.raw, NULL, "no chat template: continue the prompt as it is", NULL, 0, 0},
    {'n', "max-tokens", CLI_INT, &o.max_tokens, "N", "at most N tokens (default: until the context is full)",
     NULL, 1, 1 << 30},
    {0, "temperature", CLI_DOUBLE, &o.temperature, "T", "0 is greedy (default: 0)", NULL, 0, 100},
    {0, "top-p", CLI_DOUBLE, &o.top_p, "P", "nucleus sampling (default: 1, off)", NULL, 0, 1},
    {0, "top-k", CLI_INT, &o.top_k, "K", "only the K likeliest (default: 0, off)", NULL, 0, 1 << 30},
    {0, "seed", CLI_INT, &o.seed, "N", "of the sampling (default: 0)", NULL, 0, 0},
    {0, "stop", CLI_LIST, &o.stop, "TEXT", "stop before this text; may be repeated", NULL, 0, 0},
    {0, "activations", CLI_STRING, &o.activations, "MODE",
     "auto, f32, bf16, f16 or int8 (default: what the format's home does)", act_words, 0, 0},
    CLI_KV_OPTION(&o.kv),
    CLI_ADAPTER_OPTION(&o.adapter),
    {'c', "context", CLI_INT, &o.context, "N", "longest sequence (default: the model's)", NULL, 1, 1 << 30},
    {0, "stats", CLI_FLAG, &o.stats, NULL, "tell tokens and speed on stderr", NULL, 0, 0},
    {0},
};

static int print_text(void *ctx, const char *text, size_t n) {
    (void)ctx;
    fwrite(text, 1, n, stdout);
    if (fflush(stdout)) return 1;
    return cli_interrupted();
}

static void tell_stats(const assay_answer *a) {
    if (!o.stats) return;
    fprintf(stderr, "assay: prompt %zu tokens, %.1f/s; answer %zu tokens, %.1f/s; stopped by %s\n",
            a->prompt_tokens, a->prompt_seconds > 0 ? (double)a->prompt_tokens / a->prompt_seconds : 0,
            a->output_tokens, a->output_seconds > 0 ? (double)a->output_tokens / a->output_seconds : 0,
            a->stop);
}

/* All of stdin, NUL-terminated; NULL after an error. */
static char *read_stdin(void) {
    size_t n = 0, cap = 1 << 16;
    char *buf = malloc(cap + 1);
    while (buf) {
        size_t got = fread(buf + n, 1, cap - n, stdin);
        n += got;
        if (!got) break;
        if (n == cap) {
            char *bigger = realloc(buf, (cap *= 2) + 1);
            if (!bigger) free(buf);
            buf = bigger;
        }
    }
    if (buf) buf[n] = 0;
    if (buf && memchr(buf, 0, n)) {
        free(buf);
        return NULL;
    }
    return buf;
}

/* JSON string literal of text (which the library guarantees or checks to be UTF-8), appended by hand: the
 * only JSON written here. */
static void put_json_string(char **out, size_t *n, size_t *cap, const char *text) {
    for (const char *p = text;; p++) {
        if (*n + 8 > *cap) {
            size_t bigger = *cap * 2 + 64;
            char *q = realloc(*out, bigger);
            if (!q) exit(5);
            *out = q;
            *cap = bigger;
        }
        if (p == text) (*out)[(*n)++] = '"';
        unsigned char c = (unsigned char)*p;
        if (!c) break;
        if (c == '"' || c == '\\')
            (*out)[(*n)++] = '\\', (*out)[(*n)++] = (char)c;
        else if (c < 0x20)
            *n += (size_t)snprintf(*out + *n, 8, "\\u%04x", c);
        else
            (*out)[(*n)++] = (char)c;
    }
    (*out)[(*n)++] = '"';
    (*out)[*n] = 0;
}

typedef struct conversation {
    char *json; /* "[{...},{...}" without the closing bracket */
    size_t n, cap;
} conversation;

static void put_raw(conversation *c, const char *text) {
    size_t len = strlen(text);
    if (c->n + len + 1 > c->cap) {
        char *q = realloc(c->json, c->cap = (c->cap + len) * 2 + 64);
        if (!q) exit(5);
        c->json = q;
    }
    memcpy(c->json + c->n, text, len + 1);
    c->n += len;
}

static void put_message(conversation *c, const char *role, const char *content) {
    put_raw(c, c->n > 1 ? ",{\"role\":" : "{\"role\":");
    put_json_string(&c->json, &c->n, &c->cap, role);
    put_raw(c, ",\"content\":");
    put_json_string(&c->json, &c->n, &c->cap, content);
    put_raw(c, "}");
}

static void reset(conversation *c) {
    c->n = 0;
    put_raw(c, "[");
    if (o.system) put_message(c, "system", o.system);
}

static int chat(assay_session *session, assay_generate_opts *g) {
    conversation c = {0};
    char *line = NULL;
    size_t cap = 0;
    int code = 0;
    reset(&c);
    fprintf(stderr,
            "%s\ntype a message; /reset begins anew, /system TEXT sets the system message, /quit or Ctrl-D "
            "ends\n",
            assay_session_describe(session));
    for (;;) {
        fprintf(stderr, "> ");
        ssize_t len = getline(&line, &cap, stdin);
        if (len < 0 || cli_interrupted()) break;
        while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            line[--len] = 0;
        if (!len) continue;
        if (!strcmp(line, "/quit") || !strcmp(line, "/exit")) break;
        if (!strcmp(line, "/reset")) {
            reset(&c);
            continue;
        }
        if (!strncmp(line, "/system ", 8)) {
            o.system = strdup(line + 8);
            reset(&c);
            continue;
        }
        size_t before = c.n;
        put_message(&c, "user", line);
        size_t open = c.n;
        put_raw(&c, "]");
        assay_answer a;
        assay_err err = {0};
        if (assay_session_chat(&a, session, c.json, g, &err) != ASSAY_OK) {
            code = cli_fail(&err);
            c.n = before; /* the message that could not be answered is forgotten */
            c.json[before] = 0;
            continue;
        }
        printf("\n");
        c.n = open;
        put_message(&c, "assistant", a.text);
        tell_stats(&a);
        assay_answer_free(&a);
    }
    free(line);
    free(c.json);
    return code;
}

static int answer_once(assay_session *session, const char *prompt, assay_generate_opts *g) {
    assay_answer a;
    assay_err err = {0};
    if (cli_opts.json) g->on_text = NULL;
    if (assay_session_ask(&a, session, prompt, g, &err) != ASSAY_OK) return cli_fail(&err);
    if (cli_opts.json) {
        char *text = NULL;
        size_t n = 0, cap = 0;
        put_json_string(&text, &n, &cap, a.text);
        printf("{\"schema\": \"assay.answer/1\", \"text\": %s, \"stop\": \"%s\", \"prompt_tokens\": %zu, "
               "\"output_tokens\": %zu, "
               "\"prompt_seconds\": %.6f, \"output_seconds\": %.6f}\n",
               text, a.stop, a.prompt_tokens, a.output_tokens, a.prompt_seconds, a.output_seconds);
        free(text);
    } else {
        printf("\n");
    }
    tell_stats(&a);
    assay_answer_free(&a);
    return fflush(stdout) ? 5 : cli_interrupted() ? 130 : 0;
}

static int run(int n_args, char **args) {
    if (n_args == 2 && o.prompt) return cli_usage("run: the prompt is given twice");
    const char *prompt = n_args == 2 ? args[1] : o.prompt;
    char *piped = NULL;
    bool interactive = !prompt && isatty(STDIN_FILENO);
    if (!interactive && (!prompt || !strcmp(prompt, "-"))) {
        prompt = piped = read_stdin();
        if (!piped) return cli_usage("run: stdin has a NUL byte or is too large");
    }
    assay_run_opts ro = {.threads = (int)cli_opts.threads,
                         .activations = o.activations,
                         .kv = o.kv, .adapter = o.adapter,
                         .batch = 1,
                         .context = (size_t)o.context};
    assay_generate_opts g = {.max_tokens = (int)o.max_tokens,
                             .temperature = o.temperature,
                             .top_p = o.top_p,
                             .top_k = (int)o.top_k,
                             .seed = (uint64_t)o.seed,
                             .stop = o.stop.items,
                             .n_stop = (int)o.stop.n,
                             .raw = o.raw,
                             .system = o.system,
                             .on_text = print_text};
    assay_err err = {0};
    assay_session *session;
    int code;
    if (assay_session_open(&session, args[0], &ro, &err) != ASSAY_OK)
        code = cli_fail(&err);
    else {
        if (interactive && (o.raw || !assay_session_has_template(session)))
            code = cli_usage(
                "run: chatting needs a chat template; give a prompt: assay run MODEL 'Once upon a time'");
        else
            code = interactive ? chat(session, &g) : answer_once(session, prompt, &g);
        assay_session_close(session);
    }
    free(piped);
    return code;
}

const cli_command cli_run = {
    .name = "run",
    .args = "MODEL [PROMPT]",
    .summary = "generate text, or chat",
    .description = "Answers PROMPT through the model's chat template (or continues it as it is with --raw, "
                   "or when there is none). Without a\n"
                   "prompt it chats on a terminal, or reads the prompt from a pipe. The answer goes to "
                   "stdout as it is produced.",
    .examples = "  $ assay run models/demo 'What is 32 + 39?'\n  $ echo 'Once upon a time' | assay run "
                "models/demo --raw -n 40\n"
                "  $ assay run models/demo\n",
    .options = options,
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
