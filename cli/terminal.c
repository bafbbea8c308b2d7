/* terminal.c: what goes to the terminal besides the result: notes, errors, progress; and how Ctrl-C stops the
 * work.
 *
 * Progress: one line on stderr, redrawn at most ten times a second, with rate and time left; the rate is over
 * a sliding window of about ten seconds, so a slow start does not spoil it. When stderr is not a terminal,
 * one line a minute. */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop_requested;

static void on_signal(int sig) {
    if (stop_requested) _exit(128 + sig); /* the second time: at once */
    stop_requested = 1;
}

void cli_install_signals(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_signal;
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit is then an error like a full disk */
}

bool cli_interrupted(void) {
    return stop_requested != 0;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct {
    char phase[96];
    double start, start_done; /* of the window the rate is over */
    double previous, previous_done;
    double drawn;
    bool shown;
} bar;

static int columns(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

static void amount(char *buf, size_t n, double v, const char *unit) {
    if (!strcmp(unit, "bytes"))
        assay_show_bytes(buf, n, v);
    else
        snprintf(buf, n, "%.0f", v);
}

static void draw(const char *phase, double done, double total, const char *unit, double t, bool terminal) {
    double rate = t - bar.start > 0.2 ? (done - bar.start_done) / (t - bar.start) : 0;
    char a[32], b[32], r[32], left[48] = "", line[256];
    amount(a, sizeof a, done, unit);
    amount(b, sizeof b, total, unit);
    amount(r, sizeof r, rate, unit);
    if (rate > 0 && total > done) {
        char s[32];
        assay_show_seconds(s, sizeof s, (total - done) / rate);
        snprintf(left, sizeof left, ", %s left", s);
    }
    const char *shown_unit = strcmp(unit, "bytes") ? unit : "";
    snprintf(line, sizeof line, "%s  %s%s%s %s%s%s%s%s", phase, a, total > 0 ? "/" : "", total > 0 ? b : "",
             shown_unit, rate > 0 ? ", " : "", rate > 0 ? r : "", rate > 0 ? "/s" : "", left);
    if (terminal)
        fprintf(stderr, "\r\033[K%.*s", columns() - 1, line);
    else
        fprintf(stderr, "assay: %s\n", line);
    fflush(stderr);
    bar.shown = terminal;
}

static int on_progress(void *ctx, const char *phase, double done, double total, const char *unit) {
    (void)ctx;
    if (stop_requested) return 1;
    if (cli_opts.quiet || cli_opts.no_progress) return 0;
    bool terminal = isatty(STDERR_FILENO);
    double t = now();
    if (strcmp(phase, bar.phase)) {
        snprintf(bar.phase, sizeof bar.phase, "%s", phase);
        bar.start = bar.previous = t;
        bar.start_done = bar.previous_done = done;
        bar.drawn = terminal ? 0 : t;
    }
    if (t - bar.previous > 5) { /* move the window: its start is 5 to 10 s ago */
        bar.start = bar.previous;
        bar.start_done = bar.previous_done;
        bar.previous = t;
        bar.previous_done = done;
    }
    if (t - bar.drawn >= (terminal ? 0.1 : 60)) {
        bar.drawn = t;
        draw(phase, done, total, unit, t, terminal);
    }
    return 0;
}

const assay_progress *cli_progress(void) {
    static const assay_progress p = {on_progress, NULL};
    return &p;
}

void cli_progress_end(void) {
    if (bar.shown) fprintf(stderr, "\r\033[K");
    bar.shown = false;
}

int cli_fail(const assay_err *err) {
    cli_progress_end();
    fprintf(stderr, "assay: %s\n", err->message[0] ? err->message : assay_status_name(err->code));
    return assay_status_exit_code(err->code);
}

int cli_usage(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "assay: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    return 2;
}

void cli_note(const char *fmt, ...) {
    if (cli_opts.quiet) return;
    cli_progress_end();
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "assay: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
}

assay_view cli_view(FILE *f) {
    assay_view v = assay_view_detect(fileno(f));
    if (cli_opts.color && !strcmp(cli_opts.color, "always")) v.colour = true;
    if (cli_opts.color && !strcmp(cli_opts.color, "never")) v.colour = false;
    return v;
}

int cli_finish(assay_doc *doc) {
    cli_progress_end();
    errno = 0;
    bool written = fputs(cli_opts.json ? assay_doc_json(doc) : assay_doc_text(doc), stdout) >= 0 && !fflush(stdout);
    bool enough = errno == EPIPE; /* `| head` has read what it wanted */
    int code = assay_doc_exit_code(doc);
    assay_doc_free(doc);
    if (!enough && (!written || ferror(stdout))) {
        fprintf(stderr, "assay: cannot write the result to stdout\n");
        return 5;
    }
    return code;
}
