/* gguf_head.c: see gguf_head.h. The model's settings come from config.json (format/gguf.h makes metadata of it), the tokenizer from the
 * text room, the name from the folder. */
#include "method/gguf_head.h"

#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "format/gguf.h"
#include "text/gguf_vocab.h"

void assay_gguf_head_free(assay_gguf_head *h) {
    assay_str_free(&h->values);
    assay_free(h->name);
    *h = (assay_gguf_head){0};
}

/* The folder's name, as llama.cpp's converter has it. */
static char *name_of(const char *model) {
    size_t n = strlen(model);
    while (n > 1 && model[n - 1] == '/') n--;
    char *path = assay_strndup(model, n), *name = path ? assay_strdup(assay_path_base(path)) : NULL;
    assay_free(path);
    return name;
}

assay_status assay_gguf_head_make(assay_gguf_head *out, const char *model, const json_t *config, assay_err *err) {
    int64_t n_vocab = json_integer_value(json_object_get(config, "vocab_size"));
    *out = (assay_gguf_head){.name = name_of(model)};
    assay_status s = out->name ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK) s = assay_gguf_vocab_carry(&out->values, &out->n, model, n_vocab > 0 ? (size_t)n_vocab : 0, err);
    if (s == ASSAY_OK) s = assay_str_status(&out->values, err);
    if (s != ASSAY_OK) assay_gguf_head_free(out);
    return s;
}

assay_status assay_gguf_head_set(assay_ckpt_writer *w, const assay_gguf_head *h, const json_t *config, int file_type, assay_err *err) {
    ASSAY_TRY(assay_str_status(&h->values, err));
    assay_gguf_target t = {.config = config,
                           .name = h->name,
                           .file_type = file_type,
                           .values = h->values.s,
                           .n_value_bytes = h->values.len,
                           .n_values = h->n};
    return assay_ckpt_writer_set_gguf(w, &t, err);
}
