/* doc.c: an answer as text, JSON and exit code; and the few functions of the API that have no room of their
 * own. */
#include "api/doc.h"

#include <string.h>
#include "base/mem.h"

struct assay_doc {
    char *text;
    char *json;
    int exit_code;
};

assay_status assay_doc_make(assay_doc **out, assay_str *text, json_t *json, int exit_code, assay_err *err) {
    assay_str dumped = {0};
    assay_doc *d = assay_calloc(1, sizeof *d);
    assay_status s = d && json ? assay_json_dump(&dumped, json, 2, false, err) : assay_nomem(err);
    assay_str_putc(&dumped, '\n');
    json_decref(json);
    char *body = assay_str_take(text), *json_text = assay_str_take(&dumped);
    if (s == ASSAY_OK && (!body || !json_text)) s = assay_nomem(err);
    if (s != ASSAY_OK) {
        assay_free(body);
        assay_free(json_text);
        assay_free(d);
        return s;
    }
    *d = (assay_doc){body, json_text, exit_code};
    *out = d;
    return ASSAY_OK;
}

const char *assay_doc_text(const assay_doc *d) {
    return d->text;
}

const char *assay_doc_json(const assay_doc *d) {
    return d->json;
}

int assay_doc_exit_code(const assay_doc *d) {
    return d->exit_code;
}

void assay_doc_free(assay_doc *d) {
    if (!d) return;
    assay_free(d->text);
    assay_free(d->json);
    assay_free(d);
}

assay_status assay_doc_set(json_t *obj, const char *key, json_t *value, assay_err *err) {
    return json_object_set_new(obj, key, value) ? assay_nomem(err) : ASSAY_OK;
}

assay_term assay_term_of_view(const assay_view *v) {
    return (assay_term){.width = v->width, .colour = v->colour, .ascii = v->ascii};
}

assay_view assay_view_detect(int fd) {
    assay_term t = {0};
    assay_term_detect(&t, fd);
    return (assay_view){.width = t.width, .colour = t.colour, .ascii = t.ascii};
}

const char *assay_version(void) {
    return ASSAY_VERSION;
}

const char *assay_suggest(const char *word, const char *const *list, size_t n) {
    return assay_nearest(word, list, n);
}

char *assay_show_bytes(char *buf, size_t n, double bytes) {
    return assay_format_bytes(buf, n, bytes);
}

char *assay_show_seconds(char *buf, size_t n, double seconds) {
    return assay_format_seconds(buf, n, seconds);
}
