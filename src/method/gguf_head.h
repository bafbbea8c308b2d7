/* method/gguf_head.h: what a GGUF file needs besides tensors, for conversion and quantization. Inside the room only. */
#ifndef ASSAY_METHOD_GGUF_HEAD_H
#define ASSAY_METHOD_GGUF_HEAD_H

#include "base/json.h"
#include "base/str.h"
#include "format/format.h"

typedef struct assay_gguf_head {
    assay_str values; /* metadata as base/gguf.h encodes them: the tokenizer's, and what the caller adds */
    uint64_t n;
    char *name;       /* general.name */
} assay_gguf_head;

/* Of the model at that path (a folder or a GGUF file) with that config.json: its tokenizer, chat template and name. Without a tokenizer
 * that llama.cpp has, no GGUF: a file that loads nowhere is no result. */
assay_status assay_gguf_head_make(assay_gguf_head *out, const char *model, const json_t *config, assay_err *err);
/* Makes a writer that was just opened write a GGUF file. file_type: LLAMA_FTYPE, -1 = by the type of most matrices. */
assay_status assay_gguf_head_set(assay_ckpt_writer *w, const assay_gguf_head *h, const json_t *config, int file_type, assay_err *err);
void assay_gguf_head_free(assay_gguf_head *h); /* all-zero is fine */

#endif
