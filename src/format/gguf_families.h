/* format/gguf_families.h: the families of gguf_impl.h by the short names that the .def tables use; for the files that include a table. */
#ifndef ASSAY_FORMAT_GGUF_FAMILIES_H
#define ASSAY_FORMAT_GGUF_FAMILIES_H

#define LLAMA      ASSAY_GGUF_LLAMA
#define MIXTRAL    ASSAY_GGUF_MIXTRAL
#define QWEN_MOE   ASSAY_GGUF_QWEN_MOE
#define GEMMA      ASSAY_GGUF_GEMMA
#define OLMO2      ASSAY_GGUF_OLMO2
#define PHI3       ASSAY_GGUF_PHI3
#define STARCODER2 ASSAY_GGUF_STARCODER2
#define DEEPSEEK   ASSAY_GGUF_DEEPSEEK
#define GPT2       ASSAY_GGUF_GPT2
#define NEOX       ASSAY_GGUF_NEOX
#define EXPERTS    ASSAY_GGUF_EXPERTS
#define MOST       ASSAY_GGUF_MOST
#define ALL        ASSAY_GGUF_ALL

#endif
