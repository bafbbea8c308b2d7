/* language.c: running text for perplexity and KL divergence.
 *
 *   language:
 *     prose: {file: prose.txt, split: blank, limit: 64, evaluators: [perplexity_llamacpp, kl]}
 *
 * split `blank`: documents are separated by empty lines; `none`: the file is one document. `limit` keeps the first documents, and
 * the text that ends with the last of them. */
#include "eval/suite.h"

#include <string.h>
#include "base/str.h"
#include "base/yaml.h"
#include "eval/suite_impl.h"

static assay_status add_doc(assay_language *l, size_t *cap, size_t begin, size_t end, assay_err *err) {
    ASSAY_TRY(assay_grow(&l->docs, cap, 2 * (l->n_docs + 1), sizeof *l->docs, err));
    l->docs[2 * l->n_docs] = begin;
    l->docs[2 * l->n_docs + 1] = end;
    l->n_docs++;
    return ASSAY_OK;
}

/* Paragraphs: maximal runs of lines that are not blank, without the last line's end. */
static assay_status split_blank(assay_language *l, size_t *cap, const char *text, size_t n, int64_t limit, assay_err *err) {
    size_t begin = 0, last = 0;
    bool inside = false;
    for (size_t at = 0; at < n && (!limit || l->n_docs < (size_t)limit);) {
        const char *nl = memchr(text + at, '\n', n - at);
        size_t stop = nl ? (size_t)(nl - text) : n;
        bool blank = strspn(text + at, " \t\r") >= stop - at;
        if (!blank) {
            if (!inside) begin = at;
            inside = true;
            last = stop;
        } else if (inside) {
            ASSAY_TRY(add_doc(l, cap, begin, last, err));
            inside = false;
        }
        at = stop + 1;
    }
    if (inside && (!limit || l->n_docs < (size_t)limit)) ASSAY_TRY(add_doc(l, cap, begin, last, err));
    return ASSAY_OK;
}

static assay_status move_docs(assay_language *l, assay_suite *s, assay_err *err) {
    size_t *docs = assay_arena_alloc(&s->arena, 2 * l->n_docs * sizeof *docs);
    if (docs) memcpy(docs, l->docs, 2 * l->n_docs * sizeof *docs);
    assay_free(l->docs);
    l->docs = docs;
    return docs ? ASSAY_OK : assay_nomem(err);
}

static assay_status hash_language(assay_language *l, assay_err *err) {
    assay_hasher *h;
    ASSAY_TRY(assay_hasher_new(&h, err));
    assay_hasher_put(h, l->text, l->n);
    for (size_t i = 0; i < 2 * l->n_docs; i++) {
        uint64_t v = l->docs[i];
        assay_hasher_put(h, &v, sizeof v);
    }
    assay_hasher_finish(h, l->hash);
    return ASSAY_OK;
}

static assay_status read_text(assay_language *l, assay_suite_reader *r, const assay_yaml *y, bool blank, int64_t limit, assay_err *err) {
    char *data;
    const char *name;
    size_t n, cap = 0;
    ASSAY_TRY(assay_suite_read_file(&data, &n, &name, r, l->file, err));
    assay_status s = blank ? split_blank(l, &cap, data, n, limit, err) : n ? add_doc(l, &cap, 0, n, err) : ASSAY_OK;
    if (s == ASSAY_OK && !l->n_docs) s = assay_yaml_fail(r->doc, y, err, "%s has no text", name);
    if (s == ASSAY_OK) s = move_docs(l, r->suite, err);
    else assay_free(l->docs);
    if (s == ASSAY_OK) {
        l->n = l->docs[2 * l->n_docs - 1];
        l->text = assay_arena_strndup(&r->suite->arena, data, l->n);
        s = l->text ? hash_language(l, err) : assay_nomem(err);
    }
    assay_free(data);
    return s;
}

static assay_status read_uses(assay_language *l, assay_suite_reader *r, const assay_yaml *y, assay_err *err) {
    const assay_yaml *list = assay_yaml_find(y, "evaluators");
    ASSAY_TRY(assay_yaml_want(r->doc, list ? list : y, ASSAY_YAML_SEQ, "evaluators", err));
    l->evaluators = assay_arena_alloc(&r->suite->arena, (list->n ? list->n : 1) * sizeof *l->evaluators);
    if (!l->evaluators) return assay_nomem(err);
    for (size_t i = 0; i < list->n; i++) {
        const assay_yaml *e = list->items[i];
        ASSAY_TRY(assay_yaml_want(r->doc, e, ASSAY_YAML_SCALAR, "an evaluator", err));
        const assay_evaluator *def = assay_evaluator_find(e->text);
        if (!def) {
            assay_suite_unknown_evaluator(e->text, err);
            return assay_err_prefix(err, "%s:%d", assay_yaml_name(r->doc), e->line);
        }
        if (!def->expand) return assay_yaml_fail(r->doc, e, err, "%s works on items, not on running text", e->text);
        ASSAY_TRY(assay_suite_use(&l->evaluators[i], r, e->text, err));
        for (size_t k = 0; k < i; k++)
            if (l->evaluators[k] == l->evaluators[i]) return assay_yaml_fail(r->doc, e, err, "%s is listed twice", e->text);
    }
    l->n_evaluators = list->n;
    return list->n ? ASSAY_OK : assay_yaml_fail(r->doc, list, err, "no evaluators are listed");
}

static assay_status read_language(assay_language *l, assay_suite_reader *r, const char *name, const assay_yaml *y, assay_err *err) {
    static const char *const keys[] = {"file", "split", "limit", "evaluators"};
    const char *file = NULL, *split = "blank";
    int64_t limit = 0;
    ASSAY_TRY(assay_yaml_want(r->doc, y, ASSAY_YAML_MAP, name, err));
    ASSAY_TRY(assay_yaml_get_str(&file, r->doc, y, "file", err));
    ASSAY_TRY(assay_yaml_get_str(&split, r->doc, y, "split", err));
    ASSAY_TRY(assay_yaml_get_int(&limit, r->doc, y, "limit", 1, INT64_MAX, err));
    assay_yaml_find(y, "evaluators");
    ASSAY_TRY(assay_yaml_check_unknown(r->doc, y, "a text of `language`", keys, ASSAY_LEN(keys), err));
    if (!file) return assay_yaml_fail(r->doc, y, err, "the text has no file");
    if (strcmp(split, "blank") && strcmp(split, "none")) return assay_yaml_fail(r->doc, y, err, "split must be blank or none, not '%s'", split);
    ASSAY_TRY(assay_suite_strdup(&l->name, r->suite, name, err));
    ASSAY_TRY(assay_suite_strdup(&l->file, r->suite, file, err));
    ASSAY_TRY(read_uses(l, r, y, err));
    return read_text(l, r, y, !strcmp(split, "blank"), limit, err);
}

assay_status assay_suite_read_languages(assay_suite_reader *r, const assay_yaml *map, assay_err *err) {
    if (!map || map->kind == ASSAY_YAML_NULL) return ASSAY_OK;
    ASSAY_TRY(assay_yaml_want(r->doc, map, ASSAY_YAML_MAP, "language", err));
    assay_suite *s = r->suite;
    s->languages = assay_arena_alloc(&s->arena, (map->n ? map->n : 1) * sizeof *s->languages);
    if (!s->languages) return assay_nomem(err);
    for (size_t i = 0; i < map->n; i++) {
        ASSAY_TRY(read_language(&s->languages[i], r, map->keys[i], map->items[i], err));
        s->n_languages++;
    }
    return ASSAY_OK;
}
