/* method/gguf_mix.h: llama.cpp's mixes as rules (gguf_mix.def): a type for each tensor of a model. Inside the room only. */
#ifndef ASSAY_METHOD_GGUF_MIX_H
#define ASSAY_METHOD_GGUF_MIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "precision/precision.h"

/* PURE: no mix, every tensor in one type. */
typedef enum assay_mix {
    ASSAY_MIX_PURE,
#define M(NAME, name, file_type, TYPE) ASSAY_MIX_##NAME,
#include "method/gguf_mix.def"
#undef M
    ASSAY_MIX_COUNT
} assay_mix;

const char *assay_mix_name(assay_mix m);               /* "pure", "q4_k_m" */
bool assay_mix_parse(assay_mix *out, const char *word); /* also llama.cpp's other words: q4_k is q4_k_m */
assay_precision assay_mix_type(assay_mix m);           /* of what no rule names */
int assay_mix_file_type(assay_mix m);                  /* general.file_type; -1 for PURE */

/* What the rules ask of a model. */
typedef struct assay_mix_model {
    const char *arch; /* GGUF's name: "llama" */
    int64_t n_layers, n_heads, n_kv_heads, n_experts; /* n_experts 0 = none */
    bool has_importance;
} assay_mix_model;

typedef struct assay_mix_tensor {
    char name[160]; /* GGUF's, with ".weight" */
    int64_t cols;
    bool given;             /* type is given: no rule asks for this tensor, nor counts it */
    assay_precision type;   /* out: of blocks, or F16 where no block divides the row */
    bool needs_importance;  /* out: llama.cpp refuses to make it without */
    size_t index;           /* the caller's */
} assay_mix_tensor;

/* Fills the types of a model's matrices: all of them, in any order, a stack's experts under one name. They come out sorted by layer and
 * name, as llama.cpp counts them. */
void assay_mix_assign(assay_mix_tensor *t, size_t n, assay_mix mix, const assay_mix_model *model);
/* The type itself where its blocks divide cols, else what llama.cpp takes instead. */
assay_precision assay_mix_fallback(assay_precision type, int64_t cols);

#endif
