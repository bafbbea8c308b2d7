/* str.c: the growing string, and the few ways in which numbers are shown to people. */
#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

static bool reserve(assay_str *b, size_t extra) {
    if (b->failed) return false;
    size_t need;
    if (!assay_add_size(&need, b->len, extra) || !assay_add_size(&need, need, 1) ||
        assay_grow(&b->s, &b->cap, need, 1, NULL) != ASSAY_OK) {
        b->failed = true;
        return false;
    }
    return true;
}

void assay_str_putn(assay_str *b, const void *p, size_t n) {
    if (!reserve(b, n)) return;
    if (n) memcpy(b->s + b->len, p, n);
    b->len += n;
    b->s[b->len] = 0;
}

void assay_str_put(assay_str *b, const char *s) {
    assay_str_putn(b, s, strlen(s));
}

void assay_str_putc(assay_str *b, char c) {
    assay_str_putn(b, &c, 1);
}

void assay_str_fill(assay_str *b, char c, size_t n) {
    if (!reserve(b, n)) return;
    memset(b->s + b->len, c, n);
    b->len += n;
    b->s[b->len] = 0;
}

void assay_str_vprintf(assay_str *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0) b->failed = true;
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->s + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void assay_str_printf(assay_str *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    assay_str_vprintf(b, fmt, ap);
    va_end(ap);
}

const char *assay_str_c(const assay_str *b) {
    return b->s ? b->s : "";
}

char *assay_str_take(assay_str *b) {
    char *s = b->failed ? NULL : b->s;
    if (b->failed)
        assay_free(b->s);
    else if (!s)
        s = assay_strdup("");
    memset(b, 0, sizeof *b);
    return s;
}

void assay_str_clear(assay_str *b) {
    b->len = 0;
    b->failed = false;
    if (b->s) b->s[0] = 0;
}

void assay_str_free(assay_str *b) {
    assay_free(b->s);
    memset(b, 0, sizeof *b);
}

assay_status assay_str_status(const assay_str *b, assay_err *err) {
    return b->failed ? assay_nomem(err) : ASSAY_OK;
}

char *assay_format_bytes(char *buf, size_t n, double bytes) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t u = 0;
    while (fabs(bytes) >= 1024 && u + 1 < ASSAY_LEN(unit)) {
        bytes /= 1024;
        u++;
    }
    snprintf(buf, n, u && fabs(bytes) < 100 ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
    return buf;
}

char *assay_format_seconds(char *buf, size_t n, double s) {
    if (s < 60)
        snprintf(buf, n, s < 10 ? "%.1f s" : "%.0f s", s);
    else if (s < 3600)
        snprintf(buf, n, "%d min %02d s", (int)s / 60, (int)s % 60);
    else
        snprintf(buf, n, "%.0f h %02d min", floor(s / 3600), (int)(fmod(s, 3600) / 60));
    return buf;
}

/* Levenshtein distance with one row; words longer than the row are simply far. */
static size_t edit_distance(const char *a, const char *b) {
    enum { LONGEST = 63 };
    size_t na = strlen(a), nb = strlen(b), row[LONGEST + 1];
    if (na > LONGEST || nb > LONGEST) return LONGEST;
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[nb];
}

const char *assay_nearest(const char *word, const char *const *list, size_t n) {
    const char *best = NULL;
    size_t best_distance =
        strlen(word) / 3 + 2; /* must be nearer than this: one or two slips in a short word */
    for (size_t i = 0; i < n; i++) {
        size_t d = edit_distance(word, list[i]);
        if (d < best_distance) {
            best_distance = d;
            best = list[i];
        }
    }
    return best;
}
