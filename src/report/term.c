/* term.c: what the terminal behind a file descriptor can show. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "report/report.h"

static bool is_set(const char *name) {
    const char *v = getenv(name);
    return v && *v;
}

/* The locale as the environment has it, without setting it: LC_ALL, LC_CTYPE, LANG, the first that is set. */
static bool wants_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < ASSAY_LEN(names); i++) {
        if (!is_set(names[i])) continue;
        const char *v = getenv(names[i]);
        return strstr(v, "UTF-8") || strstr(v, "utf8") || strstr(v, "UTF8") || strstr(v, "utf-8");
    }
    return false;
}

void assay_term_detect(assay_term *t, int fd) {
    memset(t, 0, sizeof *t);
    bool tty = isatty(fd);
    const char *term = getenv("TERM");
    t->colour = tty && !is_set("NO_COLOR") && term && strcmp(term, "dumb") != 0;
    t->ascii = tty ? !wants_utf8() : false; /* a file or pipe gets UTF-8 */
    struct winsize w;
    long columns = is_set("COLUMNS") ? strtol(getenv("COLUMNS"), NULL, 10) : 0;
    if (columns <= 0 && tty && ioctl(fd, TIOCGWINSZ, &w) == 0) columns = w.ws_col;
    if (columns > 0)
        t->width = (int)ASSAY_MAX(ASSAY_MIN(columns, 400), 40);
    else if (!tty)
        t->width = 120;
}
