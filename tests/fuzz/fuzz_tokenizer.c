/* fuzz_tokenizer.c: a tokenizer.json from anybody: parse it, encode a fixed text with it and the input itself
 * as text, decode what came out at once and in a stream, and hold the two against each other. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "text/text.h"

static const char TEXT[] = "Hello  World, don't stop: 123 \xC3\xA9 e\xCC\x81 \xE4\xBD\xA0\xE5\xA5\xBD "
                           "\xF0\x9F\x99\x82\n\t[MASK] <s>\xFF ab";

static void run(const assay_tokenizer *t, const char *text, size_t n, bool special) {
    assay_err err = {0};
    int32_t *ids = NULL;
    size_t n_ids = 0;
    assay_str whole = {0}, streamed = {0};
    assay_detok *d = NULL;
    if (assay_tokenizer_encode(&ids, &n_ids, t, text, n, special, special, &err) != ASSAY_OK) return;
    assay_status s = assay_tokenizer_decode(&whole, t, ids, n_ids, !special, &err);
    if (s == ASSAY_OK && assay_detok_new(&d, t, !special, &err) == ASSAY_OK) {
        for (size_t i = 0; i < n_ids && s == ASSAY_OK; i++)
            s = assay_detok_push(d, &streamed, ids[i], &err);
        if (s == ASSAY_OK) s = assay_detok_finish(d, &streamed, &err);
        if (s == ASSAY_OK && (streamed.len != whole.len ||
                              memcmp(assay_str_c(&streamed), assay_str_c(&whole), whole.len) != 0))
            abort();
    }
    assay_detok_free(d);
    assay_free(ids);
    assay_str_free(&whole);
    assay_str_free(&streamed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    if (assay_tokenizer_parse(&t, (const char *)data, size, NULL, 0, "fuzz", &err) != ASSAY_OK) return 0;
    run(t, TEXT, sizeof TEXT - 1, true);
    run(t, TEXT, sizeof TEXT - 1, false);
    run(t, (const char *)data, size < 2000 ? size : 2000, true);
    assay_tokenizer_close(t);
    return 0;
}
