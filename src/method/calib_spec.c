/* calib_spec.c: what is asked for as calibration: from YAML, from one line, as JSON. The data itself is calib.c's.
 *
 * The one-line form is turned into YAML and read by the same code, so that both know the same keys and say the same. */
#include "method/calib.h"

#include <string.h>
#include "base/mem.h"
#include "base/str.h"

static const char *const template_words[] = {"auto", "yes", "no"};
static const char *const pack_words[] = {"auto", "windows", "documents"};
static const char *const split_words[] = {"none", "blank"};

/* One of a few words; `template: yes` is the word, quoted or not. *out is left as it was when the key is absent. */
static assay_status get_word(int *out, const assay_yaml_doc *d, const assay_yaml *map, const char *key, const char *const *words, size_t n,
                             assay_err *err) {
    const char *text = NULL;
    assay_str list = {0};
    ASSAY_TRY(assay_yaml_get_str(&text, d, map, key, err));
    if (!text) return ASSAY_OK;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(words[i], text)) {
            *out = (int)i;
            return ASSAY_OK;
        }
    for (size_t i = 0; i < n; i++) assay_str_printf(&list, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ", words[i]);
    assay_status s = assay_yaml_fail(d, assay_yaml_find(map, key), err, "%s must be %s, not '%s'", key, assay_str_c(&list), text);
    assay_str_free(&list);
    return s;
}

static assay_status read_opts(assay_calib_opts *o, const assay_yaml_doc *d, const assay_yaml *map, assay_err *err) {
    int64_t samples = 0, length = 0, seed = 0;
    int tmpl = 0, pack = 0, split = 0;
    if (assay_yaml_find(map, "samples")) ASSAY_TRY(assay_yaml_get_int(&samples, d, map, "samples", 1, ASSAY_CALIB_MAX_SAMPLES, err));
    if (assay_yaml_find(map, "length")) ASSAY_TRY(assay_yaml_get_int(&length, d, map, "length", 2, ASSAY_CALIB_MAX_LENGTH, err));
    ASSAY_TRY(assay_yaml_get_int(&seed, d, map, "seed", 0, INT64_MAX, err));
    ASSAY_TRY(get_word(&tmpl, d, map, "template", template_words, ASSAY_LEN(template_words), err));
    ASSAY_TRY(get_word(&pack, d, map, "pack", pack_words, ASSAY_LEN(pack_words), err));
    ASSAY_TRY(get_word(&split, d, map, "split", split_words, ASSAY_LEN(split_words), err));
    *o = (assay_calib_opts){.samples = (size_t)samples,
                            .length = (size_t)length,
                            .seed = (uint64_t)seed,
                            .tmpl = (assay_calib_template)tmpl,
                            .pack = (assay_calib_pack)pack,
                            .split_blank = split != 0};
    return ASSAY_OK;
}

assay_status assay_calib_spec_from_yaml(assay_calib_spec *out, const assay_yaml_doc *d, const assay_yaml *map, assay_err *err) {
    static const char *const known[] = {"data", "samples", "length", "seed", "template", "pack", "split"};
    const char *data = NULL;
    *out = (assay_calib_spec){0};
    ASSAY_TRY(assay_yaml_want(d, map, ASSAY_YAML_MAP, "a mapping of calibration options", err));
    ASSAY_TRY(assay_yaml_get_str(&data, d, map, "data", err));
    ASSAY_TRY(read_opts(&out->opts, d, map, err));
    ASSAY_TRY(assay_yaml_check_unknown(d, map, "calibration", known, ASSAY_LEN(known), err));
    if (!data || !*data) return assay_yaml_fail(d, map, err, "calibration needs data: a text or JSONL file");
    out->data = assay_strdup(data);
    return out->data ? ASSAY_OK : assay_nomem(err);
}

/* --- the one-line form --- */

static bool only(const char *text, size_t n, const char *allowed) {
    for (size_t i = 0; i < n; i++)
        if (!text[i] || !strchr(allowed, text[i])) return false;
    return n > 0;
}

/* "key=value" as ", key: value". */
static assay_status put_option(assay_str *b, const char *text, size_t n, assay_err *err) {
    const char *eq = memchr(text, '=', n);
    size_t key = eq ? (size_t)(eq - text) : 0;
    if (!eq || !only(text, key, "abcdefghijklmnopqrstuvwxyz_") ||
        !only(eq + 1, n - key - 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-"))
        return assay_fail(err, ASSAY_EINPUT, "calibration: '%.*s' is not key=value (a file with a comma in its name needs the YAML form)",
                          (int)ASSAY_MIN(n, (size_t)80), text);
    assay_str_printf(b, ", %.*s: %.*s", (int)key, text, (int)(n - key - 1), eq + 1);
    return ASSAY_OK;
}

assay_status assay_calib_spec_from_string(assay_calib_spec *out, const char *text, assay_err *err) {
    assay_str b = {0};
    assay_yaml_doc *doc = NULL;
    size_t n = strcspn(text, ",");
    assay_status s;
    *out = (assay_calib_spec){0};
    assay_str_put(&b, "{data: ");
    assay_yaml_put_quoted(&b, text, n);
    for (const char *p = text + n; *p; p += n) {
        n = strcspn(++p, ",");
        ASSAY_GO(put_option(&b, p, n, err));
    }
    assay_str_putc(&b, '}');
    ASSAY_GO(assay_str_status(&b, err));
    ASSAY_GO(assay_yaml_parse(&doc, b.s, b.len, "calibration", err));
    s = assay_calib_spec_from_yaml(out, doc, assay_yaml_root(doc), err);
out:
    assay_yaml_free(doc);
    assay_str_free(&b);
    return s;
}

void assay_calib_spec_deinit(assay_calib_spec *s) {
    assay_free(s->data);
    *s = (assay_calib_spec){0};
}

/* --- JSON --- */

static int put_opts(json_t *j, const assay_calib_opts *o) {
    return json_object_set_new(j, "seed", json_integer((json_int_t)o->seed)) |
           json_object_set_new(j, "template", json_string(template_words[o->tmpl])) |
           json_object_set_new(j, "pack", json_string(pack_words[o->pack])) |
           json_object_set_new(j, "split", json_string(split_words[o->split_blank]));
}

json_t *assay_calib_spec_to_json(const assay_calib_spec *s) {
    json_t *j = json_pack("{s:o?, s:I, s:I}", "data", assay_json_text(s->data), "samples", (json_int_t)s->opts.samples, "length",
                          (json_int_t)s->opts.length);
    if (j && !put_opts(j, &s->opts)) return j;
    json_decref(j);
    return NULL;
}

json_t *assay_calib_to_json(const assay_calib *c) {
    json_t *warnings = json_array();
    int bad = !warnings;
    for (size_t i = 0; i < c->n_warnings && !bad; i++) bad = json_array_append_new(warnings, assay_json_text(c->warnings[i]));
    json_t *j = json_object();
    bad |= !j || json_object_set_new(j, "data", assay_json_text(c->path));
    const struct {
        const char *key, *text;
    } texts[] = {{"data_sha256", c->data_hash}, {"ids_sha256", c->ids_hash}, {"template_sha256", c->template_hash}};
    const struct {
        const char *key;
        size_t n;
    } counts[] = {{"samples", c->n_samples},           {"samples_asked", c->opts.samples}, {"length", c->opts.length},
                  {"tokens", c->n_tokens},             {"documents", c->n_documents},      {"documents_used", c->n_documents_used},
                  {"documents_templated", c->n_templated}, {"distinct_tokens", c->n_distinct}, {"vocabulary", c->n_vocab}};
    for (size_t i = 0; i < ASSAY_LEN(texts) && !bad; i++)
        if (*texts[i].text) bad = json_object_set_new(j, texts[i].key, json_string(texts[i].text));
    for (size_t i = 0; i < ASSAY_LEN(counts) && !bad; i++)
        bad = json_object_set_new(j, counts[i].key, json_integer((json_int_t)counts[i].n));
    if (!bad) bad = put_opts(j, &c->opts) | json_object_set(j, "warnings", warnings);
    json_decref(warnings);
    if (!bad) return j;
    json_decref(j);
    return NULL;
}
