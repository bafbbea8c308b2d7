/* fuzz_calib.c: any bytes as calibration data, under options that the first byte picks: bit 0 JSON lines, 1-2 the packing, 3 paragraphs,
 * 4-5 the template, 6 a model without a template; and the rest again as the one-line form of the options. What is taken must hold together. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "method/calib.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char tokenizer_json[] =
    "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
    "\"normalized\":false,\"special\":true}],\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":null,"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"u\",\"vocab\":{\"<s>\":0,\"u\":1,\"a\":2,\"b\":3,\"ab\":4,\"\\n\":5},\"merges\":[[\"a\",\"b\"]]}}";
static const char template_text[] = "{% for m in messages %}<s>{{ m['content'] }}{% endfor %}";

static void parse(const char *text, size_t n, unsigned bits, const assay_calib_model *m) {
    assay_calib_opts o = {.samples = 4,
                          .length = 8,
                          .seed = bits,
                          .pack = (assay_calib_pack)(bits >> 1 & 3) % 3,
                          .split_blank = bits >> 3 & 1,
                          .tmpl = (assay_calib_template)(bits >> 4 & 3) % 3};
    assay_calib c;
    assay_err err = {0};
    if (assay_calib_parse(&c, text, n, "fuzz", bits & 1, &o, m, &err) == ASSAY_OK) {
        json_t *j = assay_calib_to_json(&c);
        if (!j || !c.n_samples || c.n_samples > 4 || c.length > 8 || c.first[c.n_samples] != c.n_tokens) abort();
        for (size_t i = 0; i < c.n_tokens; i++)
            if (c.ids[i] < 0 || (size_t)c.ids[i] >= c.n_vocab) abort();
        json_decref(j);
    } else if (!*err.message) {
        abort();
    }
    assay_calib_deinit(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static assay_tokenizer *tokenizer;
    static assay_template *tmpl;
    if (!tokenizer && (assay_tokenizer_parse(&tokenizer, tokenizer_json, sizeof tokenizer_json - 1, NULL, 0, "t", NULL) != ASSAY_OK ||
                       assay_template_parse(&tmpl, template_text, sizeof template_text - 1, NULL) != ASSAY_OK))
        abort();
    if (size < 1) return 0;
    assay_calib_model m = {.tokenizer = tokenizer, .tmpl = data[0] >> 6 & 1 ? NULL : tmpl};
    parse((const char *)data + 1, size - 1, data[0], &m);
    char *line = assay_strndup((const char *)data + 1, size - 1);
    assay_calib_spec s;
    if (line && assay_calib_spec_from_string(&s, line, NULL) == ASSAY_OK) {
        json_t *j = assay_calib_spec_to_json(&s);
        if (!j || !*s.data) abort();
        json_decref(j);
        assay_calib_spec_deinit(&s);
    }
    assay_free(line);
    return 0;
}
