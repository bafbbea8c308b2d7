/* format/gguf_impl.h: what the files that read and write GGUF share. Not for other rooms. */
#ifndef ASSAY_FORMAT_GGUF_IMPL_H
#define ASSAY_FORMAT_GGUF_IMPL_H

#include "base/gguf.h"
#include "base/json.h"
#include "base/mem.h"
#include "num/dtype.h"
#include "precision/precision.h"

/* --- architectures and names (gguf_names.c) --- */

/* Architectures whose tensors have the same names. */
enum {
    ASSAY_GGUF_LLAMA = 1,
    ASSAY_GGUF_MIXTRAL = 2,
    ASSAY_GGUF_QWEN_MOE = 4,
    ASSAY_GGUF_GEMMA = 8,
    ASSAY_GGUF_OLMO2 = 16,
    ASSAY_GGUF_PHI3 = 32,
    ASSAY_GGUF_STARCODER2 = 64,
    ASSAY_GGUF_DEEPSEEK = 128,
    ASSAY_GGUF_GPT2 = 256,
    ASSAY_GGUF_NEOX = 512,
    ASSAY_GGUF_EXPERTS = ASSAY_GGUF_QWEN_MOE | ASSAY_GGUF_DEEPSEEK,
    ASSAY_GGUF_MOST = 255,
    ASSAY_GGUF_ALL = 1023
};

typedef enum assay_gguf_form {
    ASSAY_GGUF_AS_IS,
    ASSAY_GGUF_QUERY,
    ASSAY_GGUF_KEY,
    ASSAY_GGUF_QKV,
    ASSAY_GGUF_TURNED,
    ASSAY_GGUF_NORM,
    ASSAY_GGUF_ROW,
    ASSAY_GGUF_WIDE,
    ASSAY_GGUF_KEYS,
    ASSAY_GGUF_VALUES
} assay_gguf_form;

enum { ASSAY_GGUF_NONE = 0, ASSAY_GGUF_PAIRS = 1, ASSAY_GGUF_NORM_ONE = 2 };

typedef struct assay_gguf_arch {
    const char *name, *class_name, *model_type;
    unsigned family, flags;
    int when;
    const char *defaults; /* JSON */
} assay_gguf_arch;

/* NULL for one that is not in the table. */
const assay_gguf_arch *assay_gguf_arch_of_file(const assay_gguf *g);
const assay_gguf_arch *assay_gguf_arch_of_config(const json_t *config);

/* A name in the other world, into out. */
typedef struct assay_gguf_name {
    char text[160]; /* of an expert's stack: with '@' for its number */
    assay_gguf_form form;
    bool is_stack;
    int64_t expert; /* to GGUF: the place in the stack, or -1 */
} assay_gguf_name;
/* false: there is no such name in the table. A form that the architecture does not need comes as AS_IS. */
bool assay_gguf_name_to_hf(assay_gguf_name *out, const assay_gguf_arch *arch, const char *name);
bool assay_gguf_name_from_hf(assay_gguf_name *out, const assay_gguf_arch *arch, const char *name);
/* The same for names without the model's prefix too, as checkpoints of a model without its head have them. */
bool assay_gguf_name_find(assay_gguf_name *out, const assay_gguf_arch *arch, const char *name);

/* --- types (gguf_types.c) --- */

/* How ggml stores a type: plain elements (precision 0) or blocks. */
typedef struct assay_gguf_storage {
    assay_dtype dtype; /* U8 for blocks */
    int block;         /* assay_precision, 0 = plain */
    int elements, bytes;
} assay_gguf_storage;
bool assay_gguf_storage_of(assay_gguf_storage *out, uint32_t ggml_type);
/* The ggml type of plain elements or of a precision's blocks; false when ggml has none. */
bool assay_gguf_type_of(uint32_t *out, assay_dtype dtype, int block);
/* Bytes of a row; 0 when cols is no multiple of the block. */
size_t assay_gguf_row_bytes(const assay_gguf_storage *s, int64_t cols);
/* Elements and bytes of the blocks of a precision (BLOCK, MXFP4, NVFP4). */
bool assay_gguf_block_of(assay_gguf_storage *out, int block);

/* --- the files of one model (gguf_read.c) --- */

typedef struct assay_gguf_set {
    assay_gguf **parts;
    char **paths;
    size_t n, cap;
    const assay_gguf_arch *arch; /* NULL: unknown */
} assay_gguf_set;
/* `path` is a file; of a split the first. */
assay_status assay_gguf_set_open(assay_gguf_set *out, const char *path, assay_err *err);
assay_status assay_gguf_set_parse(assay_gguf_set *out, const uint8_t *data, size_t n, const char *where, assay_err *err);
void assay_gguf_set_close(assay_gguf_set *s);

/* A tensor that lies in two. */
typedef struct assay_gguf_joint {
    const char *name;
    assay_tensor keys, values; /* [heads, latent, size] and [heads, size, latent] */
} assay_gguf_joint;

typedef struct assay_gguf_tensors {
    assay_tensor *v;
    size_t *part; /* of the set, for each */
    size_t n, cap, cap_part;
    assay_gguf_joint *joints;
    size_t n_joints, cap_joints;
    assay_arena arena;
} assay_gguf_tensors;
/* The tensors of all parts under Hugging Face's names; they borrow from the set. */
assay_status assay_gguf_tensors_read(assay_gguf_tensors *out, const assay_gguf_set *s, assay_err *err);
void assay_gguf_tensors_free(assay_gguf_tensors *t);

/* --- metadata --- */

/* The KEY rows of gguf_config.def. */
typedef struct assay_gguf_key {
    unsigned families;
    const char *gguf;
    assay_gguf_type type; /* U32, F32 or BOOL */
    const char *hf;
} assay_gguf_key;
extern const assay_gguf_key assay_gguf_keys[];
extern const size_t assay_gguf_n_keys;

/* config.json of a set (gguf_config.c); new reference. */
assay_status assay_gguf_set_config(json_t **out, const assay_gguf_set *s, assay_err *err);
/* A key of the file's architecture. */
const assay_gguf_value *assay_gguf_arch_value(const assay_gguf *g, const assay_gguf_arch *arch, const char *key);
bool assay_gguf_arch_int(int64_t *out, const assay_gguf *g, const assay_gguf_arch *arch, const char *key);
bool assay_gguf_arch_float(double *out, const assay_gguf *g, const assay_gguf_arch *arch, const char *key);
/* Llama 3's factors of the frequencies, [n]. */
void assay_gguf_llama3_factors(float *out, int64_t n, double theta, double factor, double low, double high, double context);

#endif
