/* format/gguf.h: what a GGUF file has besides tensors: its metadata as a config.json, and the settings of one to be written.
 * assay_checkpoint_open (format.h) opens its tensors. */
#ifndef ASSAY_FORMAT_GGUF_H
#define ASSAY_FORMAT_GGUF_H

#include "base/gguf.h"
#include "base/json.h"
#include "format/format.h"

/* What config.json would say of the model in a GGUF file (of a split: the first), made from its metadata and tensors through
 * gguf_config.def: architecture, sizes, rotary scaling (Llama 3's and longrope's factors come from their tensors), windows, soft caps,
 * experts, tied embeddings, special tokens, and "quantization_config": {"quant_method": "gguf"} when it holds quantized blocks.
 * "torch_dtype" is what its plain matrices are stored in; float32 when there are blocks. New reference. EUNSUPPORTED names an
 * architecture that is not in the table. */
assay_status assay_gguf_config(json_t **out, const char *path, assay_err *err);

/* The name that GGUF has for a Hugging Face tensor of the model whose config.json that is; false for a tensor that it has not. */
typedef struct assay_gguf_place {
    char name[160];   /* "blk.3.ffn_down_exps.weight" */
    int64_t expert;   /* place in the stack; -1: none */
    bool is_plain;    /* never of blocks: routers and positions, which llama.cpp has in float32, and what lies transposed there */
} assay_gguf_place;
bool assay_gguf_place_of(assay_gguf_place *out, const json_t *config, const char *name);
/* "llama"; NULL for an architecture that is not in the table. */
const char *assay_gguf_arch_name(const json_t *config);

/* --- writing --- */

typedef struct assay_gguf_target { /* all borrowed for the call */
    const char *file;         /* name in the writer's folder, "model.gguf" when NULL; splits get -00001-of-0000N before the ending */
    const json_t *config;     /* config.json's object */
    const char *name;         /* general.name; NULL: none */
    const char *license;      /* general.license; NULL: none */
    int file_type;            /* general.file_type (llama.cpp's LLAMA_FTYPE); -1: by the type of most matrices */
    const void *values;       /* further metadata as assay_gguf_put_* made it (the tokenizer's); n_values of them */
    size_t n_value_bytes;
    uint64_t n_values;
} assay_gguf_target;
/* Makes the writer write a GGUF file. After opening, before anything is put, the same in each session of a resumed run. Tensors keep
 * their Hugging Face names, dimensions and orders in every call; what GGUF has otherwise (names, rows of Llama's queries and keys, norms
 * with one added, float32 vectors, stacks of experts) is made here. A matrix is put by ASSAY_CONVENTION_GGUF. EUNSUPPORTED: an
 * architecture that llama.cpp's table here has not, a config.json that says what GGUF cannot. */
assay_status assay_ckpt_writer_set_gguf(assay_ckpt_writer *w, const assay_gguf_target *t, assay_err *err);

#endif
