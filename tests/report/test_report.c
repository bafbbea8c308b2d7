/* The report of a synthetic study, in every medium. `test_report --html FILE` writes the HTML for tests/report/browser.sh. */
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

static synthetic study;

static int setup(void **state)
{
    (void)state;
    assay_err err = {0};
    if (synthetic_make(&study, &err) == ASSAY_OK) return 0;
    print_message("%s\n", err.message);
    return -1;
}

static int teardown(void **state)
{
    (void)state;
    synthetic_free(&study);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--html") == 0) {
        assay_err err = {0};
        assay_str out = {0};
        assay_status s = synthetic_make(&study, &err);
        if (s == ASSAY_OK) s = assay_report_html(&out, &study.report, &err);
        if (s == ASSAY_OK) s = assay_write_file(argv[2], assay_str_c(&out), out.len, &err);
        if (s != ASSAY_OK) fprintf(stderr, "%s\n", err.message);
        assay_str_free(&out);
        synthetic_free(&study);
        return s == ASSAY_OK ? 0 : 1;
    }
    if (argc == 2 && strcmp(argv[1], "--text") == 0) {
        assay_err err = {0};
        assay_str out = {0};
        assay_term t = {.width = 120};
        if (synthetic_make(&study, &err) != ASSAY_OK || assay_report_text(&out, &study.report, &t, &err) != ASSAY_OK) return 1;
        assay_report_gate_text(&out, study.variants[6].gate, 3, &t, &err);
        assay_report_plan_text(&out, study.variants[4].plan, true, &t, &err);
        fputs(assay_str_c(&out), stdout);
        return 0;
    }
    const struct CMUnitTest tests[] = {{0}};
    return cmocka_run_group_tests_name("report", tests, setup, teardown);
}
