/* encode_file.c: encodes a file of NUL-separated texts, for comparing with other tokenizers
 * (tools/interop_tokenizers.py).
 *
 * encode_file DIR|FILE.gguf INPUT OUTPUT [special|nospecial|plain [written|asis [hf=DIR]]]
 * OUTPUT holds for each text: u32 n, n x i32 ids, u32 length, the bytes that the ids decode to (special
 * tokens kept). Prints the time to open and the speed. nospecial: special tokens in the text are ordinary
 * text; plain: neither are any added around it.
 * written: through GGUF's fields and back; hf=DIR: what was opened is also written there as Hugging Face's files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "text/hf.h"

static int fail(const char *what, const assay_err *err) {
    fprintf(stderr, "encode_file: %s: %s\n", what, err->message);
    return 1;
}

static int put(FILE *f, const int32_t *ids, size_t n, const assay_str *text) {
    uint32_t n_ids = (uint32_t)n, len = (uint32_t)text->len;
    return fwrite(&n_ids, 4, 1, f) == 1 && fwrite(ids, 4, n, f) == n && fwrite(&len, 4, 1, f) == 1 &&
           fwrite(assay_str_c(text), 1, len, f) == len;
}

/* Of a model's folder, or of a GGUF file. "written": what to_gguf makes of it, read again. */
static assay_status open_any(assay_tokenizer **t, const char *path, bool written, assay_err *err) {
    ASSAY_TRY(assay_tokenizer_open(t, path, err));
    assay_gguf_vocab v = ASSAY_GGUF_VOCAB_INIT;
    if (!written) return ASSAY_OK;
    assay_status s = assay_tokenizer_to_gguf(&v, *t, NULL, 0, err);
    assay_tokenizer_close(*t);
    *t = NULL;
    if (s == ASSAY_OK) s = assay_tokenizer_from_gguf(t, &v, err);
    assay_gguf_vocab_free(&v);
    return s;
}

/* DIR/tokenizer.json and DIR/tokenizer_config.json of t. */
static assay_status write_hf(const char *dir, const assay_tokenizer *t, assay_err *err) {
    json_t *tokenizer = NULL, *config = NULL;
    char *first = assay_path_join(dir, "tokenizer.json"), *second = assay_path_join(dir, "tokenizer_config.json");
    assay_status s = assay_mkdirs(dir, err);
    if (s == ASSAY_OK) s = assay_tokenizer_to_hf(&tokenizer, &config, t, (assay_token_text){0}, err);
    if (s == ASSAY_OK) s = assay_json_save(first, tokenizer, 0, err);
    if (s == ASSAY_OK) s = assay_json_save(second, config, 0, err);
    json_decref(tokenizer);
    json_decref(config);
    assay_free(first);
    assay_free(second);
    return s;
}

int main(int argc, char **argv) {
    assay_err err = {0};
    assay_tokenizer *t = NULL;
    char *data = NULL;
    size_t size = 0;
    if (argc < 4) return 2;
    const char *mode = argc > 4 ? argv[4] : "special";
    bool add_special = strcmp(mode, "plain") != 0,
         parse_special = add_special && strcmp(mode, "nospecial") != 0;
    double begin = assay_now();
    if (open_any(&t, argv[1], argc > 5 && strcmp(argv[5], "written") == 0, &err) != ASSAY_OK)
        return fail("open", &err);
    if (argc > 6 && strncmp(argv[6], "hf=", 3) == 0 && write_hf(argv[6] + 3, t, &err) != ASSAY_OK)
        return fail("write", &err);
    double opened = assay_now();
    if (assay_read_file(&data, &size, argv[2], 0, &err) != ASSAY_OK) return fail("read", &err);
    FILE *f = fopen(argv[3], "wb");
    if (!f) return 1;
    double encoding = 0, decoding = 0;
    size_t n_tokens = 0;
    for (size_t i = 0; i < size;) {
        const char *end = memchr(data + i, 0, size - i);
        size_t n = end ? (size_t)(end - (data + i)) : size - i;
        int32_t *ids = NULL;
        size_t n_ids = 0;
        assay_str text = {0};
        double a = assay_now();
        if (assay_tokenizer_encode(&ids, &n_ids, t, data + i, n, add_special, parse_special, &err) !=
            ASSAY_OK)
            return fail("encode", &err);
        double b = assay_now();
        if (assay_tokenizer_decode(&text, t, ids, n_ids, false, &err) != ASSAY_OK)
            return fail("decode", &err);
        double c = assay_now();
        encoding += b - a;
        decoding += c - b;
        n_tokens += n_ids;
        if (!put(f, ids, n_ids, &text)) return 1;
        assay_free(ids);
        assay_str_free(&text);
        i += n + 1;
    }
    fclose(f);
    printf("open %.1f ms, %zu bytes, %zu tokens, encode %.2f MB/s, decode %.2f MB/s, peak %.0f MiB\n",
           (opened - begin) * 1e3, size, n_tokens, (double)size / 1e6 / encoding,
           (double)size / 1e6 / decoding, (double)assay_peak_rss() / 1048576);
    free(data);
    assay_tokenizer_close(t);
    return 0;
}
