/* The report of a synthetic study, in every medium. `test_report --html FILE` writes the HTML for
 * tests/report/browser.sh, `--html-many` that of twenty-two variants. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include "base/file.h"
#include "base/mem.h"
#include "report/html.h"
#include "report/table.h"
#include "report/synthetic.h"

static synthetic study, many;

static int setup(void **state) {
    (void)state;
    assay_err err = {0};
    if (synthetic_make(&study, &err) == ASSAY_OK && synthetic_make_many(&many, &err) == ASSAY_OK) return 0;
    print_message("%s\n", err.message);
    return -1;
}

static int teardown(void **state) {
    (void)state;
    synthetic_free(&study);
    synthetic_free(&many);
    return 0;
}

/* --- tables --- */

static char *render(const assay_table *t, int width, bool ascii) {
    assay_str out = {0};
    assay_err err = {0};
    assay_term term = {.width = width, .ascii = ascii};
    assert_int_equal(assay_table_text(&out, t, &term, &err), ASSAY_OK);
    return assay_str_take(&out);
}

static int widest_line(const char *s) {
    int most = 0;
    while (*s) {
        size_t n = strcspn(s, "\n");
        most = ASSAY_MAX(most, assay_utf8_width(s, n));
        s += n + (s[n] != 0);
    }
    return most;
}

static void a_table_shrinks_then_leaves_out_columns(void **state) {
    (void)state;
    static const assay_column columns[] = {{.head = "name", .shrink = true, .least = 6},
                                           {.head = "n", .right = true},
                                           {.head = "note", .optional = true}};
    assay_table t;
    assay_table_init(&t, columns, 3);
    assay_table_cell(&t, ASSAY_TONE_NONE, "a rather long name");
    assay_table_cell(&t, ASSAY_TONE_GOOD, "%d", 12);
    assay_table_cell(&t, ASSAY_TONE_NONE, "something");
    assay_table_rule(&t);
    assay_table_cell(&t, ASSAY_TONE_NONE, "b");
    assay_table_cell(&t, ASSAY_TONE_BAD, "%d", 3);
    assay_table_cell(&t, ASSAY_TONE_NONE, "x");

    char *s = render(&t, 80, true);
    assert_string_equal(s, "name                 n  note\n"
                           "---------------------------------\n"
                           "a rather long name  12  something\n"
                           "---------------------------------\n"
                           "b                    3  x\n");
    assay_free(s);
    s = render(&t, 26, true);
    assert_string_equal(s, "name          n  note\n"
                           "--------------------------\n"
                           "a rather...  12  something\n"
                           "--------------------------\n"
                           "b             3  x\n");
    assay_free(s);
    s = render(&t, 14, true);
    assert_string_equal(s, "name         n\n"
                           "--------------\n"
                           "a rathe...  12\n"
                           "--------------\n"
                           "b            3\n");
    assay_free(s);
    for (int w = 14; w < 60; w++) {
        s = render(&t, w, false);
        assert_true(widest_line(s) <= w);
        assay_free(s);
    }

    assay_str out = {0};
    assay_err err = {0};
    assert_int_equal(assay_table_text(&out, &t, &(assay_term){.width = 80, .colour = true}, &err), ASSAY_OK);
    assert_non_null(strstr(assay_str_c(&out), "\033[32m12\033[0m"));
    assay_str_free(&out);
    assay_table_free(&t);
}

static void terminal_text_cannot_carry_escapes(void **state) {
    (void)state;
    static const struct {
        const char *in;
        int most;
        bool ascii;
        const char *out;
    } cases[] = {
        {"plain", 0, false, "plain"},
        {"\x1b[31mred\x1b[0m\r\n", 0, false, " [31mred [0m  "},
        {"bad \xff\xc3 utf-8", 0, false, "bad \xef\xbf\xbd\xef\xbf\xbd utf-8"},
        {"\xe2\x80\xae"
         "txt",
         0, false, " txt"},
        {"na\xc3\xafve", 0, true, "na?ve"},
        {"abcdefgh", 5, false, "abcd\xe2\x80\xa6"},
        {"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", 5, false,
         "\xe6\x97\xa5\xe6\x9c\xac\xe2\x80\xa6"}, /* wide characters take two columns */
        {"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", 6, false, "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
        {"\xed\xa0\x80", 0, false, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate is no character */
        {"\xc0\xaf", 0, false, "\xef\xbf\xbd\xef\xbf\xbd"},                 /* nor is an overlong form */
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_str b = {0};
        assay_show_line(&b, cases[i].in, cases[i].most, cases[i].ascii);
        assert_string_equal(assay_str_c(&b), cases[i].out);
        assay_str_free(&b);
    }
}

static void numbers_say_no_more_than_they_know(void **state) {
    (void)state;
    char b[32];
    assert_string_equal(assay_show_diff(b, sizeof b, ASSAY_METRIC_ACCURACY, -0.0124), "-1.2");
    assert_string_equal(assay_show_diff(b, sizeof b, ASSAY_METRIC_ACCURACY, 0.02), "+2.0");
    assert_string_equal(assay_show_diff(b, sizeof b, ASSAY_METRIC_ACCURACY, -0.0001),
                        "0.0"); /* no minus zero */
    assert_string_equal(assay_show_diff(b, sizeof b, ASSAY_METRIC_KL, -0.01234), "-0.0123");
    assert_string_equal(assay_show_diff(b, sizeof b, ASSAY_METRIC_KL, NAN), "-");
    assert_string_equal(assay_show_mean(b, sizeof b, ASSAY_METRIC_PERPLEXITY, 6.24), "6.240");
    assert_string_equal(assay_show_margin(b, sizeof b, ASSAY_METRIC_PERPLEXITY, log(1.05)), "5.0 %");
    assert_string_equal(assay_show_p(b, sizeof b, 0.0004), "<0.001");
    assert_string_equal(assay_show_count(b, sizeof b, 131072), "131,072");
    assert_string_equal(assay_show_count(b, sizeof b, -1234567), "-1,234,567");
    assert_string_equal(assay_show_count(b, sizeof b, 999), "999");
    assert_string_equal(assay_show_size(b, sizeof b, 1073741824), "1.00 GiB");
    assert_string_equal(assay_show_size(b, sizeof b, 35e9), "32.60 GiB");
    assert_string_equal(assay_show_size(b, sizeof b, NAN), "-");
    assert_string_equal(assay_show_ms(b, sizeof b, 0.0221, true), ">= 22.1 ms");
    assert_string_equal(assay_show_ms(b, sizeof b, 1.5, false), "1.5 s");
}

/* --- the whole report --- */

static char *report_text(int width, bool colour, bool ascii) {
    assay_str out = {0};
    assay_err err = {0};
    assay_term t = {.width = width, .colour = colour, .ascii = ascii};
    assert_int_equal(assay_report_text(&out, &study.report, &t, &err), ASSAY_OK);
    return assay_str_take(&out);
}

/* Compares with tests/report/golden/NAME; GOLDEN=write in the environment writes it anew, to be read before
 * it is committed. */
static void golden(const char *name, const char *text) {
    char path[256], *want = NULL;
    size_t n = 0;
    assay_err err = {0};
    snprintf(path, sizeof path, "tests/report/golden/%s", name);
    const char *mode = getenv("GOLDEN");
    if (mode && strcmp(mode, "write") == 0)
        assert_int_equal(assay_write_file(path, text, strlen(text), &err), ASSAY_OK);
    if (assay_read_file(&want, &n, path, 0, &err) != ASSAY_OK) fail_msg("%s", err.message);
    assert_string_equal(text, want);
    assay_free(want);
}

static void the_terminal_report_is_as_it_was_read_and_approved(void **state) {
    (void)state;
    char *s = report_text(120, false, false);
    golden("report.txt", s);
    assay_free(s);
}

static void the_markdown_report_is_as_it_was_read_and_approved(void **state) {
    (void)state;
    assay_str out = {0};
    assay_err err = {0};
    assert_int_equal(assay_report_markdown(&out, &study.report, &err), ASSAY_OK);
    golden("report.md", assay_str_c(&out));
    assert_null(strstr(assay_str_c(&out), "<8B>")); /* the title is escaped */
    assay_str_free(&out);
}

static void the_gate_and_plan_parts_are_as_they_were_read_and_approved(void **state) {
    (void)state;
    assay_str out = {0};
    assay_err err = {0};
    assay_term t = {.width = 120};
    assert_int_equal(assay_report_gate_text(&out, study.variants[6].gate, 3, &t, &err), ASSAY_OK);
    golden("gate.txt", assay_str_c(&out));
    assay_str_clear(&out);
    assert_int_equal(assay_report_plan_text(&out, study.variants[4].plan, true, &t, &err), ASSAY_OK);
    golden("plan.txt", assay_str_c(&out));
    assay_str_clear(&out);
    assay_str_free(&out);
}

/* What is known of no matrix has no column. */
static void losses_show_what_is_known(void **state) {
    (void)state;
    assay_report_loss l[2] = {{"layers.0.q", "gptq int4 g128", 0.0712, 0.013, 0.0221, 4.156},
                              {"layers.0.k", "none", 0.5, NAN, NAN, 16}};
    assay_str out = {0};
    assay_err err = {0};
    assay_term t = {.width = 120, .ascii = true};
    assert_int_equal(assay_report_losses_text(&out, l, 2, &t, &err), ASSAY_OK);
    assert_string_equal(assay_str_c(&out),
                        "matrix      as              bits/weight  weight error  largest  output error\n"
                        "----------------------------------------------------------------------------\n"
                        "layers.0.q  gptq int4 g128        4.156       7.120 %    0.013       2.210 %\n"
                        "layers.0.k  none                 16.000      50.000 %        -             -\n");
    assay_str_clear(&out);
    assert_int_equal(assay_report_losses_text(&out, l + 1, 1, &t, &err), ASSAY_OK);
    assert_null(strstr(assay_str_c(&out), "largest"));
    assert_null(strstr(assay_str_c(&out), "output error"));
    assay_str_free(&out);
}

/* --- what a bit buys --- */

static const assay_curve_point *point_of(const assay_curve *c, const char *name) {
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->points[i].variant->name, name) == 0) return &c->points[i];
    fail_msg("%s is not on the curve", name);
    return NULL;
}

static void the_envelope_is_what_nothing_beats(void **state) {
    (void)state;
    assay_curve c;
    assay_err err = {0};
    assert_int_equal(assay_curve_make(&c, &many.report, &err), ASSAY_OK);
    assert_int_equal(c.n, MOST_VARIANTS - 1); /* the baseline is what the others are held against */
    for (size_t i = 0; i < c.n; i++) {
        const assay_curve_point *p = &c.points[i];
        const assay_report_variant *v = p->variant;
        if (i) assert_true(c.points[i - 1].variant->effective_bpw <= v->effective_bpw);
        bool beaten = false; /* by the definition, pair by pair */
        for (size_t k = 0; k < c.n; k++) {
            const assay_report_variant *w = c.points[k].variant;
            bool no_worse = w->effective_bpw <= v->effective_bpw && w->kl.mean <= v->kl.mean;
            bool equal = w->effective_bpw == v->effective_bpw && w->kl.mean == v->kl.mean;
            beaten |= !c.points[k].aside && no_worse && !equal;
        }
        if (p->aside) {
            assert_false(p->on_envelope);
            assert_null(p->beaten_by);
            continue;
        }
        assert_int_equal(p->on_envelope, !beaten);
        assert_int_equal(p->beaten_by != NULL, beaten);
        if (!beaten) continue;
        assert_true(p->beaten_by->effective_bpw <= v->effective_bpw && p->beaten_by->kl.mean <= v->kl.mean);
        assert_true(point_of(&c, p->beaten_by->name)->on_envelope);
    }
    assert_true(point_of(&c, "int4-gptq-kv4")->aside); /* its cache is smaller: not on this axis */
    assert_true(point_of(&c, "int8")->on_envelope);
    assert_string_equal(point_of(&c, "int4-rtn-g128")->beaten_by->name, "mix4.25");
    assay_curve_free(&c);
}

static void curves_of_odd_studies(void **state) {
    (void)state;
    static const double bpw[] = {16, 4, 4, 5, 8, NAN, 3}, kl[] = {0, 0.1, 0.1, 0.1, 0, 0.01, NAN};
    assay_report_variant v[ASSAY_LEN(bpw)] = {{.name = "base", .is_baseline = true}};
    for (size_t i = 0; i < ASSAY_LEN(bpw); i++) {
        v[i].name = i ? "some" : "base";
        v[i].effective_bpw = bpw[i];
        v[i].kl = (assay_report_kl){.n = 10, .mean = kl[i]};
    }
    assay_report r = {.variants = v, .n_variants = ASSAY_LEN(bpw)};
    assay_curve c;
    assay_err err = {0};
    assay_str out = {0};
    assert_int_equal(assay_curve_make(&c, &r, &err), ASSAY_OK);
    assert_int_equal(c.n, 4); /* without those of unknown size or divergence */
    assert_true(c.points[0].on_envelope && c.points[1].on_envelope); /* twins beat neither each other */
    assert_true(!c.points[2].on_envelope &&
                c.points[2].beaten_by == c.points[1].variant); /* larger and no closer */
    assert_true(c.points[3].on_envelope);                      /* no divergence at all */
    assert_int_equal(assay_report_html(&out, &r, &err), ASSAY_OK);
    assert_null(strstr(assay_str_c(&out), "nan"));
    assert_null(strstr(assay_str_c(&out), "inf\""));
    assay_str_free(&out);
    assay_curve_free(&c);
    r.n_variants = 1;
    assert_int_equal(assay_curve_make(&c, &r, &err), ASSAY_OK);
    assert_int_equal(c.n, 0);
    assay_curve_free(&c);
}

/* Every box of text that the two drawings of the curve hold, from their SVG. */
static void labels_of_the_curve_do_not_overlap(void **state) {
    (void)state;
    assay_str out = {0};
    assay_err err = {0};
    assert_int_equal(assay_html_curve(&out, &many.report, &err), ASSAY_OK);
    const char *p = assay_str_c(&out);
    for (int drawing = 0; drawing < 2; drawing++) {
        struct {
            double x0, x1, y;
        } boxes[MOST_VARIANTS];
        int n = 0;
        p = strstr(p, "<svg class=\"on-");
        const char *end = strstr(p, "</svg>");
        for (const char *q = p; (q = strstr(q, "<text class=\"label")) && q < end; q++) {
            double x = strtod(strstr(q, " x=\"") + 4, NULL), y = strtod(strstr(q, " y=\"") + 4, NULL);
            const char *text = strchr(q, '>') + 1, *anchor = strstr(q, "text-anchor=\"") + 13;
            double w = 6.6 * assay_utf8_width(text, strcspn(text, "<"));
            double x0 = *anchor == 's' ? x : *anchor == 'e' ? x - w : x - w / 2;
            assert_true(n < MOST_VARIANTS);
            boxes[n].x0 = x0;
            boxes[n].x1 = x0 + w;
            boxes[n++].y = y;
        }
        assert_int_equal(n, MOST_VARIANTS - 1); /* each has its label */
        for (int i = 0; i < n; i++)
            for (int k = 0; k < i; k++)
                if (fabs(boxes[i].y - boxes[k].y) < 11 && boxes[i].x0 < boxes[k].x1 &&
                    boxes[k].x0 < boxes[i].x1)
                    fail_msg("labels at %g, %g and %g, %g overlap", boxes[i].x0, boxes[i].y, boxes[k].x0,
                             boxes[k].y);
        p = end;
    }
    assay_str_free(&out);
}

/* --- research, and many variants --- */

static void research_is_marked_wherever_it_is_named(void **state) {
    (void)state;
    assay_str out = {0};
    assay_err err = {0};
    assay_term t = {.width = 100, .ascii = true};
    json_t *j = NULL;
    assert_int_equal(assay_report_text(&out, &many.report, &t, &err), ASSAY_OK);
    const char *s = assay_str_c(&out);
    assert_non_null(strstr(s, "* research: codes of fewer than 4 bits in some matrices"));
    assert_non_null(
        strstr(s, "int3-autoround is a research variant: some of its matrices have codes of 3 bits"));
    s = strstr(s, "\nVariants\n"); /* after the decision, whose words are the study's own */
    for (const char *p = s; (p = strstr(p, "int2-gptq-g32")); p++)
        assert_memory_equal(p, "int2-gptq-g32 *", 15);
    assert_null(strstr(s, "int4-gptq-g128 *"));
    assay_str_clear(&out);
    assert_int_equal(assay_report_markdown(&out, &many.report, &err), ASSAY_OK);
    assert_non_null(strstr(assay_str_c(&out), "### int2-gptq-g32 † against bf16: ✗"));
    assay_str_clear(&out);
    assert_int_equal(assay_report_html(&out, &many.report, &err), ASSAY_OK);
    assert_non_null(
        strstr(assay_str_c(&out), "int2-gptq-g32 <span class=\"research\" title=\"codes of 2 bits\">"));
    assert_non_null(strstr(assay_str_c(&out), "<p class=\"caution\">"));
    assert_int_equal(assay_report_json(&j, &many.report, false, &err), ASSAY_OK);
    assert_true(json_is_true(json_object_get(json_object_get(j, "decision"), "research")));
    assert_true(json_is_true(
        json_object_get(json_array_get(json_object_get(j, "variants"), MOST_VARIANTS - 1), "research")));
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(json_object_get(j, "variants"), 1), "kv")), "int8");
    assert_int_equal(json_array_size(json_object_get(j, "curve")), MOST_VARIANTS - 1);
    json_decref(j);
    assay_str_free(&out);
}

/* The matrix, what decided, the curve and the flips of a study of every method on a terminal of 80 columns:
 * nothing is wider, no name, figure or verdict's symbol is cut. */
static void many_variants_fit_eighty_columns(void **state) {
    (void)state;
    assay_str out = {0};
    assay_err err = {0};
    assay_term t = {.width = 80};
    assay_report r = many.report;
    r.decision.chosen = "mix4.25";
    assert_int_equal(assay_report_text(&out, &r, &t, &err), ASSAY_OK);
    char *s = assay_str_take(&out), *end = strstr(s, "\nDeployment of ");
    assert_non_null(end);
    *end = '\0';
    golden("many.txt", s);
    assert_true(widest_line(s) <= 80);
    for (size_t i = 0; i < r.n_variants; i++)
        assert_non_null(strstr(s, r.variants[i].name));
    assay_free(s);
}

static void tables_keep_to_their_width(void **state) {
    (void)state;
    for (int w = 100; w <= 200; w += 20) {
        char *s = report_text(w, false, false);
        assert_true(widest_line(s) <=
                    ASSAY_MAX(w, 110)); /* the table of devices has columns that it cannot drop */
        assay_free(s);
    }
}

static void ascii_is_ascii_and_colour_only_adds(void **state) {
    (void)state;
    char *s = report_text(120, false, true);
    for (const char *p = s; *p; p++)
        assert_true((unsigned char)*p < 0x80);
    assay_free(s);
    char *plain_text = report_text(120, false, false), *colour = report_text(120, true, false);
    assay_str stripped = {0};
    for (const char *p = colour; *p;) {
        if (*p == '\033')
            p += strcspn(p, "m") + 1;
        else
            assay_str_putc(&stripped, *p++);
    }
    assert_string_equal(assay_str_c(&stripped), plain_text);
    assay_str_free(&stripped);
    assay_free(plain_text);
    assay_free(colour);
}

static void no_color_is_respected(void **state) {
    (void)state;
    assay_term t;
    assay_term_detect(&t, 2);
    setenv("NO_COLOR", "1", 1);
    setenv("COLUMNS", "77", 1);
    assay_term_detect(&t, 2);
    assert_false(t.colour);
    assert_int_equal(t.width, 77);
    unsetenv("NO_COLOR");
    unsetenv("COLUMNS");
}

static void json_has_everything_under_its_schema(void **state) {
    (void)state;
    json_t *j = NULL;
    assay_err err = {0};
    assert_int_equal(assay_report_json(&j, &study.report, true, &err), ASSAY_OK);
    assert_string_equal(json_string_value(json_object_get(j, "schema")), ASSAY_REPORT_SCHEMA);
    assert_string_equal(json_string_value(json_object_get(json_object_get(j, "decision"), "chosen")), "nf4");
    const json_t *v = json_array_get(json_object_get(j, "variants"), 4);
    assert_string_equal(json_string_value(json_object_get(json_object_get(v, "plan"), "schema")),
                        "assay.plan/1");
    assert_true(json_is_object(json_object_get(v, "verdict")));
    assert_int_equal(json_array_size(json_object_get(v, "losses")), N_LAYERS * 7);
    assert_true(json_is_null(json_object_get(v, "problem")));
    json_decref(j);
}

static void a_report_needs_variants(void **state) {
    (void)state;
    assay_report r = {.title = "empty"};
    assay_str out = {0};
    assay_err err = {0};
    json_t *j = NULL;
    assert_int_equal(assay_report_text(&out, &r, NULL, &err), ASSAY_EINPUT);
    assert_int_equal(assay_report_markdown(&out, &r, &err), ASSAY_EINPUT);
    assert_int_equal(assay_report_html(&out, &r, &err), ASSAY_EINPUT);
    assert_int_equal(assay_report_json(&j, &r, false, &err), ASSAY_EINPUT);
    assay_str_free(&out);
}

/* A variant that could not be scored, an endpoint of unknown size, no decision, no titles: everything
 * optional left out. */
static void a_bare_report_renders_everywhere(void **state) {
    (void)state;
    assay_report_variant v[2] = {{.name = "base",
                                  .is_baseline = true,
                                  .size_bytes = NAN,
                                  .raw_bpw = NAN,
                                  .effective_bpw = NAN,
                                  .prefill_rate = NAN,
                                  .decode_rate = NAN},
                                 {.name = "served",
                                  .problem = "endpoint refused <connection>",
                                  .size_bytes = NAN,
                                  .raw_bpw = NAN,
                                  .effective_bpw = NAN}};
    assay_report r = {.variants = v, .n_variants = 2, .decision = {.verdict = ASSAY_VERDICT_INCONCLUSIVE}};
    assay_str out = {0};
    assay_err err = {0};
    json_t *j = NULL;
    assert_int_equal(assay_report_text(&out, &r, NULL, &err), ASSAY_OK);
    assert_non_null(strstr(assay_str_c(&out), "served: endpoint refused <connection>"));
    assert_int_equal(assay_report_markdown(&out, &r, &err), ASSAY_OK);
    assay_str_clear(&out);
    assert_int_equal(assay_report_html(&out, &r, &err), ASSAY_OK);
    assert_non_null(strstr(assay_str_c(&out), "endpoint refused &lt;connection&gt;"));
    assert_null(strstr(assay_str_c(&out), "id=\"slices\""));
    assert_int_equal(assay_report_json(&j, &r, false, &err), ASSAY_OK);
    json_decref(j);
    assay_str_free(&out);
}

/* --- HTML --- */

static void html_escapes_every_kind_of_hostile_text(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"<script>alert('x')</script>", "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"},
        {"\" onload=\"x", "&quot; onload=&quot;x"},
        {"a & b", "a &amp; b"},
        {"a\nb\tc", "a\nb\tc"},
        {"\x01\x7f\x1b",
         "\xe2\x9f\xa8U+0001\xe2\x9f\xa9\xe2\x9f\xa8U+007F\xe2\x9f\xa9\xe2\x9f\xa8U+001B\xe2\x9f\xa9"},
        {"\xe2\x80\xae"
         "exe",
         "\xe2\x9f\xa8U+202E\xe2\x9f\xa9"
         "exe"},
        {"\xff", "\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd"}, /* a character cut short is one replacement, as in Python */
    };
    for (size_t i = 0; i < ASSAY_LEN(cases); i++) {
        assay_str b = {0};
        assay_html_text(&b, cases[i].in);
        assert_string_equal(assay_str_c(&b), cases[i].out);
        assay_str_free(&b);
    }
    assay_str b = {0};
    assay_html_text(&b, NULL);
    assert_int_equal(b.len, 0);
}

static size_t count_of(const char *s, const char *what) {
    size_t n = 0;
    for (const char *p = s; (p = strstr(p, what)); p++)
        n++;
    return n;
}

/* One file, one script, no address to fetch anything from, and valid UTF-8 whatever the outputs were. */
static void html_is_self_contained(void **state) {
    (void)state;
    assay_str out = {0};
    assay_err err = {0};
    assert_int_equal(assay_report_html(&out, &study.report, &err), ASSAY_OK);
    const char *s = assay_str_c(&out);
    assert_int_equal(count_of(s, "<script"), 1);
    assert_int_equal(count_of(s, "</script>"), 1);
    assert_int_equal(count_of(s, "<style"), 1);
    assert_non_null(strstr(s, "default-src 'none'"));
    assert_null(strstr(s, " src=\""));
    assert_null(strstr(s, "<img"));
    assert_null(strstr(s, "@import"));
    assert_null(strstr(s, "javascript:"));
    for (const char *p = s; (p = strstr(p, "href=\"")); p++)
        assert_int_equal(p[6], '#');
    for (const char *p = s; (p = strstr(p, "url(")); p++)
        assert_int_equal(p[4], '#');
    for (size_t i = 0; i < out.len;) {
        uint32_t c;
        size_t k = assay_utf8_read(&c, s + i, out.len - i);
        if (c == 0xFFFD) assert_int_equal(k, 3);
        i += k;
    }
    static const char *const ids[] = {"decision", "variants", "curve",  "quality",    "noise",
                                      "slices",   "flips",    "losses", "deployment", "manifest"};
    for (size_t i = 0; i < ASSAY_LEN(ids); i++) {
        char id[64];
        snprintf(id, sizeof id, "<section id=\"%s\"", ids[i]);
        assert_int_equal(count_of(s, id), 1);
    }
    /* the first differing word is marked on both sides */
    assert_non_null(strstr(s, "<span class=\"same\">32 + 39 = </span><mark>71.</mark> The answer is 71."));
    assert_non_null(strstr(s, "<span class=\"same\">32 + 39 = </span><mark>61.</mark> The answer is 61."));
    assert_non_null(strstr(s, "differs at token 3"));
    assay_str_free(&out);
}

/* Elements are closed in the order in which they were opened: a missing close tag would swallow the rest of
 * the page. */
static void html_nests_properly(void **state) {
    (void)state;
    static const char *const empty[] = {"meta", "input", "line", "rect", "circle", "path", "!doctype"};
    assay_str out = {0};
    assay_err err = {0};
    char stack[64][16];
    size_t depth = 0;
    assert_int_equal(assay_report_html(&out, &study.report, &err), ASSAY_OK);
    for (const char *p = assay_str_c(&out); (p = strchr(p, '<')); p++) {
        bool closing = p[1] == '/';
        const char *name = p + 1 + closing;
        size_t n = strcspn(name, " >/\n");
        const char *end = strchr(p, '>');
        assert_non_null(end);
        if (n >= sizeof stack[0]) fail_msg("odd element %.20s", p);
        bool is_empty = end[-1] == '/';
        for (size_t i = 0; i < ASSAY_LEN(empty); i++)
            is_empty |= strlen(empty[i]) == n && strncmp(name, empty[i], n) == 0;
        if (is_empty) continue;
        if (!closing) {
            assert_true(depth < ASSAY_LEN(stack));
            snprintf(stack[depth++], sizeof stack[0], "%.*s", (int)n, name);
            if (strncmp(name, "script", n) == 0)
                p = strstr(p, "</script>") - 1;
            else if (strncmp(name, "style", n) == 0)
                p = strstr(p, "</style>") - 1;
        } else {
            assert_true(depth > 0);
            depth--;
            if (strlen(stack[depth]) != n || strncmp(stack[depth], name, n) != 0)
                fail_msg("<%s> closed by %.40s", stack[depth], p);
        }
    }
    assert_int_equal(depth, 0);
    assay_str_free(&out);
}

static void ticks_are_round_and_cover(void **state) {
    (void)state;
    double t[12];
    size_t n = assay_axis_ticks(t, 12, -6.3, 1.2, 5);
    assert_true(n >= 4 && n <= 12);
    for (size_t i = 1; i < n; i++)
        assert_float_equal(t[i] - t[i - 1], t[1] - t[0], 1e-9);
    assert_int_equal(assay_axis_ticks(t, 12, 1, 1, 5), 0);
    assay_axis log_axis = {.lo = 1, .hi = 16, .a = 0, .b = 100, .log = true};
    assert_float_equal(assay_axis_at(&log_axis, 4), 50, 1e-9);
    assert_float_equal(assay_axis_at(&log_axis, 99), 100, 1e-9);
}

static void out_of_memory_is_a_status_everywhere(void **state) {
    (void)state;
    assay_report small = study.report;
    small.n_variants = 2;
    for (int medium = 0; medium < 4; medium++) {
        for (long i = 0;; i += 1 + i / 16) {
            assay_str out = {0};
            assay_err err = {0};
            json_t *j = NULL;
            assay_mem_fail_after(i);
            assay_status s = medium == 0   ? assay_report_text(&out, &small, NULL, &err)
                             : medium == 1 ? assay_report_markdown(&out, &small, &err)
                             : medium == 2 ? assay_report_html(&out, &small, &err)
                                           : assay_report_json(&j, &small, false, &err);
            assay_mem_fail_after(-1);
            assay_str_free(&out);
            json_decref(j);
            if (s == ASSAY_OK && i > 20000) break;
            if (s != ASSAY_OK)
                assert_int_equal(s, ASSAY_ENOMEM);
            else if (i > 200)
                break;
        }
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && (strcmp(argv[1], "--html") == 0 || strcmp(argv[1], "--html-many") == 0)) {
        assay_err err = {0};
        assay_str out = {0};
        assay_status s = argv[1][6] ? synthetic_make_many(&study, &err) : synthetic_make(&study, &err);
        if (s == ASSAY_OK) s = assay_report_html(&out, &study.report, &err);
        if (s == ASSAY_OK) s = assay_write_file(argv[2], assay_str_c(&out), out.len, &err);
        if (s != ASSAY_OK) fprintf(stderr, "%s\n", err.message);
        assay_str_free(&out);
        synthetic_free(&study);
        return s == ASSAY_OK ? 0 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_shrinks_then_leaves_out_columns),
        cmocka_unit_test(terminal_text_cannot_carry_escapes),
        cmocka_unit_test(numbers_say_no_more_than_they_know),
        cmocka_unit_test(the_terminal_report_is_as_it_was_read_and_approved),
        cmocka_unit_test(the_markdown_report_is_as_it_was_read_and_approved),
        cmocka_unit_test(the_gate_and_plan_parts_are_as_they_were_read_and_approved),
        cmocka_unit_test(losses_show_what_is_known),
        cmocka_unit_test(the_envelope_is_what_nothing_beats),
        cmocka_unit_test(curves_of_odd_studies),
        cmocka_unit_test(labels_of_the_curve_do_not_overlap),
        cmocka_unit_test(research_is_marked_wherever_it_is_named),
        cmocka_unit_test(many_variants_fit_eighty_columns),
        cmocka_unit_test(tables_keep_to_their_width),
        cmocka_unit_test(ascii_is_ascii_and_colour_only_adds),
        cmocka_unit_test(no_color_is_respected),
        cmocka_unit_test(json_has_everything_under_its_schema),
        cmocka_unit_test(a_report_needs_variants),
        cmocka_unit_test(a_bare_report_renders_everywhere),
        cmocka_unit_test(html_escapes_every_kind_of_hostile_text),
        cmocka_unit_test(html_is_self_contained),
        cmocka_unit_test(html_nests_properly),
        cmocka_unit_test(ticks_are_round_and_cover),
        cmocka_unit_test(out_of_memory_is_a_status_everywhere),
    };
    return cmocka_run_group_tests_name("report", tests, setup, teardown);
}
