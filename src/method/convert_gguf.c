/* convert_gguf.c: what a GGUF file needs besides tensors: the model's settings (format/gguf.h makes them of config.json), its name, and the
 * tokenizer with its chat template. Without a tokenizer that llama.cpp has, no GGUF: a file that loads nowhere is no conversion. */
#include <string.h>
#include "base/file.h"
#include "method/convert_impl.h"
#include "text/gguf_vocab.h"

struct assay_gguf_extra { /* lives as long as the writer */
    assay_str values;
    uint64_t n;
    char *name;
};

void convert_gguf_free(struct assay_gguf_extra *e) {
    if (!e) return;
    assay_str_free(&e->values);
    assay_free(e->name);
    assay_free(e);
}

/* The folder's name, as llama.cpp's converter has it. */
static char *name_of(const char *model) {
    size_t n = strlen(model);
    while (n > 1 && model[n - 1] == '/') n--;
    char *path = assay_strndup(model, n), *name = path ? assay_strdup(assay_path_base(path)) : NULL;
    assay_free(path);
    return name;
}

assay_status convert_set_gguf(convert_run *r, assay_err *err) {
    struct assay_gguf_extra *e = assay_calloc(1, sizeof *e);
    int64_t n_vocab = json_integer_value(json_object_get(r->config, "vocab_size"));
    r->gguf = e;
    if (!e || !(e->name = name_of(r->model))) return assay_nomem(err);
    ASSAY_TRY(assay_gguf_vocab_carry(&e->values, &e->n, r->model, n_vocab > 0 ? (size_t)n_vocab : 0, err));
    ASSAY_TRY(assay_str_status(&e->values, err));
    assay_gguf_target t = {.config = r->config, .name = e->name, .file_type = -1, .values = e->values.s, .n_value_bytes = e->values.len,
                           .n_values = e->n};
    return assay_ckpt_writer_set_gguf(r->writer, &t, err);
}
