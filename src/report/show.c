/* show.c: numbers, verdicts and untrusted text as they appear everywhere. */
#include "report/show.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static int width_of(uint32_t c) {
    static const uint32_t none[][2] = {{0x300, 0x36F},   {0x483, 0x489},   {0x591, 0x5BD},
                                       {0x610, 0x61A},   {0x64B, 0x65F},   {0x200B, 0x200F},
                                       {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}};
    static const uint32_t wide[][2] = {
        {0x1100, 0x115F}, {0x2E80, 0x303E}, {0x3041, 0xA4CF}, {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},
        {0xFE30, 0xFE6F}, {0xFF00, 0xFF60}, {0xFFE0, 0xFFE6}, {0x1F300, 0x1FAFF}, {0x20000, 0x3FFFD}};
    if (c < 0x300) return 1;
    for (size_t i = 0; i < ASSAY_LEN(none); i++)
        if (c >= none[i][0] && c <= none[i][1]) return 0;
    for (size_t i = 0; i < ASSAY_LEN(wide); i++)
        if (c >= wide[i][0] && c <= wide[i][1]) return 2;
    return 1;
}

int assay_utf8_width(const char *s, size_t n) {
    int w = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += assay_utf8_read(&c, s + i, n - i);
        w += width_of(c);
    }
    return w;
}

static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029 ||
           (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

void assay_show_line(assay_str *out, const char *s, int most, bool ascii) {
    if (!s) return;
    size_t n = strlen(s);
    int w = 0;
    bool cut = most > 0 && assay_utf8_width(s, n) > most;
    if (cut) most -= ascii ? 3 : 1;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += assay_utf8_read(&c, s + i, n - i);
        if (is_control(c)) c = ' ';
        if (ascii && c >= 0x80) c = '?';
        if (cut && w + width_of(c) > most) {
            assay_str_put(out, ascii ? "..." : "…");
            return;
        }
        w += width_of(c);
        assay_utf8_put(out, (int32_t)c);
    }
}

/* --- verdicts --- */

void assay_show_markdown(assay_str *out, const char *s, size_t n, const char *marks) {
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += assay_utf8_read(&c, s + i, n - i);
        if (c < 0x20 || c == 0x7F) c = ' ';
        if (c == '<')
            assay_str_put(out, "&lt;");
        else if (c == '>')
            assay_str_put(out, "&gt;");
        else if (c == '&')
            assay_str_put(out, "&amp;");
        else {
            if (c < 0x80 && strchr(marks, (int)c)) assay_str_putc(out, '\\');
            assay_utf8_put(out, (int32_t)c);
        }
    }
}

assay_tone assay_show_tone(assay_verdict v) {
    static const assay_tone tones[] = {ASSAY_TONE_GOOD, ASSAY_TONE_BAD, ASSAY_TONE_OPEN, ASSAY_TONE_OPEN,
                                       ASSAY_TONE_DIM};
    return (unsigned)v < ASSAY_LEN(tones) ? tones[v] : ASSAY_TONE_NONE;
}

const char *assay_show_symbol(assay_verdict v) {
    static const char *const marks[] = {"✓", "✗", "?", "~", "·"};
    return (unsigned)v < ASSAY_LEN(marks) ? marks[v] : "";
}

const char *assay_show_symbol_ascii(assay_verdict v) {
    static const char *const marks[] = {"+", "x", "?", "~", "."};
    return (unsigned)v < ASSAY_LEN(marks) ? marks[v] : "";
}

/* --- numbers --- */

static bool in_points(assay_metric m) {
    return m != ASSAY_METRIC_PERPLEXITY && m != ASSAY_METRIC_KL;
}

char *assay_show_number(char *buf, size_t n, int decimals, double v) {
    if (isnan(v))
        snprintf(buf, n, "-");
    else if (isinf(v))
        snprintf(buf, n, v > 0 ? "many" : "-many");
    else
        snprintf(buf, n, "%.*f", decimals, v);
    return buf;
}

char *assay_show_mean(char *buf, size_t n, assay_metric m, double v) {
    if (in_points(m)) return assay_show_number(buf, n, 1, v * 100);
    return assay_show_number(buf, n, m == ASSAY_METRIC_PERPLEXITY ? 3 : 4, v);
}

char *assay_show_diff(char *buf, size_t n, assay_metric m, double v) {
    int decimals = in_points(m) ? 1 : 4;
    double shown = in_points(m) ? v * 100 : v;
    if (!isfinite(v)) return assay_show_number(buf, n, 0, v);
    /* no "-0.0": what rounds to nothing has no sign */
    double unit = pow(10, -decimals) / 2;
    if (fabs(shown) < unit)
        snprintf(buf, n, "%.*f", decimals, 0.0);
    else
        snprintf(buf, n, "%+.*f", decimals, shown);
    return buf;
}

char *assay_show_margin(char *buf, size_t n, assay_metric m, double v) {
    if (isnan(v))
        snprintf(buf, n, "-");
    else if (m == ASSAY_METRIC_PERPLEXITY)
        snprintf(buf, n, "%.1f %%", (exp(v) - 1) * 100);
    else if (m == ASSAY_METRIC_KL)
        snprintf(buf, n, "%.4f", v);
    else
        snprintf(buf, n, "%.1f pt", v * 100);
    return buf;
}

const char *assay_show_unit(assay_metric m) {
    return in_points(m) ? "pt" : "nats";
}

char *assay_show_nats(char *buf, size_t n, double v) {
    if (!isfinite(v) || v == 0 || fabs(v) >= 1e-3)
        return assay_show_number(buf, n, fabs(v) >= 0.1 ? 3 : 4, v);
    snprintf(buf, n, "%.1e", v);
    return buf;
}

char *assay_show_p(char *buf, size_t n, double p) {
    if (isnan(p))
        snprintf(buf, n, "-");
    else if (p < 0.001)
        snprintf(buf, n, "<0.001");
    else
        snprintf(buf, n, "%.3f", p);
    return buf;
}

char *assay_show_size(char *buf, size_t n, double v) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    if (!isfinite(v)) return assay_show_number(buf, n, 0, v);
    size_t u = 0;
    double x = fabs(v);
    while (x >= 1023.995 && u + 1 < ASSAY_LEN(units))
        x /= 1024, u++;
    snprintf(buf, n, "%s%.*f %s", v < 0 ? "-" : "", u ? 2 : 0, x, units[u]);
    return buf;
}

char *assay_show_ms(char *buf, size_t n, double seconds, bool at_least) {
    const char *sign = at_least ? ">= " : "";
    if (!isfinite(seconds)) return assay_show_number(buf, n, 0, seconds);
    if (seconds < 1)
        snprintf(buf, n, "%s%.3g ms", sign, seconds * 1e3);
    else
        snprintf(buf, n, "%s%.3g s", sign, seconds);
    return buf;
}

char *assay_show_count(char *buf, size_t n, double v) {
    char digits[32];
    if (!isfinite(v) || fabs(v) >= 1e15) return assay_show_number(buf, n, 0, v);
    int len = snprintf(digits, sizeof digits, "%.0f", v);
    size_t at = 0;
    for (int i = 0; i < len && at + 2 < n; i++) {
        buf[at++] = digits[i];
        if (digits[i] != '-' && i + 1 < len && (len - 1 - i) % 3 == 0) buf[at++] = ',';
    }
    buf[at] = '\0';
    return buf;
}

/* --- research --- */

bool assay_show_research(const assay_report_variant *v) {
    return v->code_bits > 0 && v->code_bits < ASSAY_REPORT_RESEARCH_BITS;
}

const char *assay_show_mark(bool ascii) {
    return ascii ? "*" : "†";
}

char *assay_show_name(char *buf, size_t n, const assay_report_variant *v, bool ascii) {
    bool mark = assay_show_research(v);
    snprintf(buf, n, "%.100s%s%s", v->name, mark ? " " : "", mark ? assay_show_mark(ascii) : "");
    return buf;
}

bool assay_show_any_research(const assay_report *r) {
    for (size_t i = 0; i < r->n_variants; i++)
        if (assay_show_research(&r->variants[i])) return true;
    return false;
}

void assay_show_research_legend(assay_str *out, const assay_report *r, bool ascii) {
    if (assay_show_any_research(r))
        assay_str_printf(out, "%s research: codes of fewer than %d bits in some matrices",
                         assay_show_mark(ascii), ASSAY_REPORT_RESEARCH_BITS);
}

void assay_show_caution(assay_str *out, const assay_report *r) {
    const assay_report_variant *v = assay_show_chosen(r);
    if (!v || !assay_show_research(v)) return;
    assay_str_printf(
        out,
        "%s is a research variant: some of its matrices have codes of %d bits, which few runtimes "
        "load and few suites are sharp enough for. Look at its losses and flips before it ships.",
        v->name, v->code_bits);
}

/* --- finding one's way in a report --- */

const assay_report_variant *assay_show_baseline(const assay_report *r) {
    for (size_t i = 0; i < r->n_variants; i++)
        if (r->variants[i].is_baseline) return &r->variants[i];
    return r->n_variants ? &r->variants[0] : NULL;
}

const assay_report_variant *assay_show_chosen(const assay_report *r) {
    for (size_t i = 0; r->decision.chosen && i < r->n_variants; i++)
        if (strcmp(r->variants[i].name, r->decision.chosen) == 0) return &r->variants[i];
    return NULL;
}

const assay_gate *assay_show_first_gate(const assay_report *r) {
    for (size_t i = 0; i < r->n_variants; i++)
        if (r->variants[i].gate) return r->variants[i].gate;
    return NULL;
}

const assay_policy *assay_show_policy(const assay_report *r) {
    const assay_gate *g = assay_show_first_gate(r);
    return r->policy ? r->policy : g ? g->policy : NULL;
}

const assay_gate_row *assay_show_row(const assay_gate *g, const char *dimension, const char *slice) {
    for (size_t i = 0; g && i < g->n_rows; i++) {
        const assay_gate_row *row = &g->rows[i];
        if (strcmp(row->dimension, dimension) != 0 || !row->slice != !slice) continue;
        if (!slice || strcmp(row->slice, slice) == 0) return row;
    }
    return NULL;
}

void assay_show_assumptions(assay_str *out, const assay_plan *p) {
    const assay_plan_opts *o = &p->opts;
    const assay_serving *v = &o->serving;
    char a[32], b[32], c[32], d[32];
    assay_str_printf(
        out,
        "%s sequences at once, each up to %s tokens; a typical prompt of %s and answer of %s tokens; KV "
        "cache in %s. "
        "Estimates by roofline at %.0f %% of the memory bandwidth (decode) and %.0f %% of the dense peak "
        "(prefill), %.0f %% per "
        "doubling of devices in tensor parallel, %.0f us per layer and step",
        assay_show_count(a, sizeof a, (double)v->concurrency),
        assay_show_count(b, sizeof b, (double)v->context), assay_show_count(c, sizeof c, (double)v->prompt),
        assay_show_count(d, sizeof d, (double)v->output), assay_kv_name(o->kv), o->eta_memory * 100,
        o->eta_compute * 100, o->eta_parallel * 100, o->launch_seconds * 1e6);
    if (o->prices) assay_str_printf(out, "; costs at %.0f %% utilisation", o->utilisation * 100);
    assay_str_put(out, ".");
}
