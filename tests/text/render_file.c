/* render_file.c: renders chat templates, for comparing with transformers (tools/interop_tokenizers.py).
 *
 * render_file CASES OUTPUT
 * CASES is a JSON list of {template, messages, tools, gen, vars}; OUTPUT gets a list of {text} or {error}. */
#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "text/text.h"

static json_t *render(const json_t *c) {
    assay_err err = {0};
    assay_template *t = NULL;
    assay_str out = {0};
    const json_t *source = json_object_get(c, "template");
    assay_status s = assay_template_parse(&t, json_string_value(source), json_string_length(source), &err);
    if (s == ASSAY_OK)
        s = assay_template_render(&out, t, NULL, json_object_get(c, "messages"), json_object_get(c, "tools"),
                                  json_is_true(json_object_get(c, "gen")), json_object_get(c, "vars"), &err);
    json_t *j = json_object();
    if (s == ASSAY_OK)
        json_object_set_new(j, "text", json_stringn(assay_str_c(&out), out.len));
    else
        json_object_set_new(j, "error", json_string(err.message));
    assay_template_close(t);
    assay_str_free(&out);
    return j;
}

int main(int argc, char **argv) {
    assay_err err = {0};
    json_t *cases = NULL, *results = json_array();
    if (argc < 3) return 2;
    assay_status s = assay_json_load(&cases, argv[1], &err);
    for (size_t i = 0; s == ASSAY_OK && i < json_array_size(cases); i++)
        json_array_append_new(results, render(json_array_get(cases, i)));
    if (s == ASSAY_OK) s = assay_json_save(argv[2], results, 0, &err);
    if (s != ASSAY_OK) fprintf(stderr, "render_file: %s\n", err.message);
    json_decref(cases);
    json_decref(results);
    return s != ASSAY_OK;
}
