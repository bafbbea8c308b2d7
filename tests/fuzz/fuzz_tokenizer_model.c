/* fuzz_tokenizer_model.c: a tokenizer.model (SentencePiece's or tiktoken's) from anybody: read it, encode and decode, write it as GGUF's
 * fields and as tokenizer.json, read those. What it encodes it must be able to decode. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "text/hf.h"

static const char TEXT[] =
    "Hello  World, don't stop: 123 \xC3\xA9 e\xCC\x81 \xE4\xBD\xA0\xE5\xA5\xBD \xEF\xBD\x81\xEF\xAC\x81 "
    "\xF0\x9F\x99\x82\n\t<s> \xFF abc foo";

static void encode(const assay_tokenizer *t, const char *text, size_t n) {
    assay_err err = {0};
    int32_t *ids = NULL;
    size_t n_ids = 0;
    assay_str out = {0};
    if (assay_tokenizer_encode(&ids, &n_ids, t, text, n, true, true, &err) == ASSAY_OK &&
        assay_tokenizer_decode(&out, t, ids, n_ids, false, &err) != ASSAY_OK)
        abort(); /* ids that it gave itself */
    assay_free(ids);
    assay_str_free(&out);
}

/* As tokenizer.json, which must be one. */
static void rewrite(const assay_tokenizer *t) {
    assay_err err = {0};
    json_t *tokenizer = NULL, *config = NULL;
    assay_tokenizer *again = NULL;
    if (assay_tokenizer_to_hf(&tokenizer, &config, t, (assay_token_text){0}, &err) != ASSAY_OK) return;
    char *a = json_dumps(tokenizer, JSON_COMPACT), *b = json_dumps(config, JSON_COMPACT);
    if (assay_tokenizer_parse(&again, a, strlen(a), b, strlen(b), "written", &err) == ASSAY_OK) encode(again, TEXT, sizeof TEXT - 1);
    assay_tokenizer_close(again);
    free(a);
    free(b);
    json_decref(tokenizer);
    json_decref(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_err err = {0};
    assay_tokenizer *t = NULL, *again = NULL;
    assay_gguf_vocab v = {0};
    if (assay_tokenizer_parse_model(&t, data, size, NULL, 0, "fuzz", &err) != ASSAY_OK) return 0;
    encode(t, TEXT, sizeof TEXT - 1);
    encode(t, (const char *)data, size < 2000 ? size : 2000);
    rewrite(t);
    if (assay_tokenizer_to_gguf(&v, t, NULL, 0, &err) == ASSAY_OK) {
        if (assay_tokenizer_from_gguf(&again, &v, &err) == ASSAY_OK) {
            encode(again, TEXT, sizeof TEXT - 1);
            rewrite(again);
        }
        assay_tokenizer_close(again);
        assay_gguf_vocab_free(&v);
    }
    assay_tokenizer_close(t);
    return 0;
}
