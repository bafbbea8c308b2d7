/* method/calib.h: calibration data: a file of texts, chats or a suite's items -> sequences of token ids, and what they are.
 *
 * Kinds of files. A name that ends in .jsonl, .ndjson or .json has one JSON object per line, of one of these kinds; other keys are ignored:
 *
 *   {"text": "..."}                                plain text
 *   {"messages": [{"role", "content"}, ...]}       a chat; "tools" beside it is handed to the template
 *   {"prompt": "...", "answer": ...}               a suite's item (or "messages" with "answer"): the first answer when there are several
 *   {"ids": [1, 5, ...]}                           token ids, taken as they are; not mixed with other kinds
 *
 * Any other file is text. split: none (the default) takes it as running text, cut at line ends into stretches of about 16 bytes per token of
 * `length`, which are the documents; split: blank makes a document of each paragraph between empty lines, as a suite's texts have it.
 *
 * Template. auto: chats go through the model's chat template, items too where the model has one, text never. yes: text as well, as a
 * user's message. no: nothing; a chat's contents, or prompt and answer, are joined by line ends. A rendered chat is encoded without the
 * tokenizer's own BOS (the template writes it), other documents with it. Special tokens written out in a text are recognised.
 *
 * Sequences. Documents are taken in an order drawn by `seed` and only as far as needed: a line that is never reached is never read.
 *   pack: windows     (the default, GPTQ's way) their tokens one behind the other, cut into windows of exactly `length`; where the last
 *                     document gives more than are asked for, the windows are drawn by `seed`. What is left over is dropped.
 *   pack: documents   (llm-compressor's way) one sequence per document, cut to `length`, in the file's order.
 * Lines of ids are sequences themselves, as with `documents`, unless `windows` is asked for by name.
 *
 * As a YAML mapping, in a study's `calibration`:  {data: FILE, samples: 128, length: 2048, seed: 1, template: auto, pack: windows, split: none}
 * As one line, the command line's --calibration:  FILE or FILE,samples=64,length=512 (a FILE with a comma needs the YAML form). */
#ifndef ASSAY_METHOD_CALIB_H
#define ASSAY_METHOD_CALIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/json.h"
#include "base/status.h"
#include "base/yaml.h"
#include "text/text.h"

typedef enum assay_calib_template {
    ASSAY_CALIB_TEMPLATE_AUTO,
    ASSAY_CALIB_TEMPLATE_YES,
    ASSAY_CALIB_TEMPLATE_NO
} assay_calib_template;

typedef enum assay_calib_pack {
    ASSAY_CALIB_PACK_AUTO, /* windows, but ready ids as they are */
    ASSAY_CALIB_PACK_WINDOWS,
    ASSAY_CALIB_PACK_DOCUMENTS
} assay_calib_pack;

typedef struct assay_calib_opts { /* all-zero = defaults */
    size_t samples;               /* sequences wanted; 0 = 128 */
    size_t length;                /* tokens of a sequence; 0 = 2048, or the model's context where that is less */
    uint64_t seed;                /* of what is drawn */
    assay_calib_template tmpl;
    assay_calib_pack pack;
    bool split_blank; /* text files: paragraphs are documents */
} assay_calib_opts;

#define ASSAY_CALIB_MAX_SAMPLES 1000000
#define ASSAY_CALIB_MAX_LENGTH  (1 << 20)

/* What is to be calibrated: borrowed by load, for the call. */
typedef struct assay_calib_model {
    const assay_tokenizer *tokenizer; /* NULL: files of ids only */
    const assay_template *tmpl;       /* NULL: the model has none */
    size_t n_vocab;                   /* rows of the embedding: ids must be below; 0 = the tokenizer's */
    size_t context;                   /* longest sequence; 0 = unbounded */
    size_t max_cols;                  /* columns of the widest matrix, for the warning that tokens are too few; 0 = no warning */
} assay_calib_model;

typedef struct assay_calib {
    int32_t *ids;    /* of all sequences, one behind the other */
    size_t *first;   /* [n_samples + 1] where each begins in ids */
    size_t n_samples;
    size_t n_tokens; /* first[n_samples] */
    size_t length;   /* of the longest sequence */
    size_t n_documents;       /* of the file */
    size_t n_documents_used;  /* read for these sequences */
    size_t n_templated;       /* of these, gone through the chat template */
    size_t n_distinct;        /* different ids among the tokens */
    size_t n_vocab;           /* that there could be */
    assay_calib_opts opts;    /* in effect: samples and length as asked for, or their defaults; pack never AUTO */
    char *path;
    char data_hash[ASSAY_HASH_HEX];     /* SHA-256 of the file */
    char ids_hash[ASSAY_HASH_HEX];      /* SHA-256 of the sequences: each one's length (u64) and ids (i32), little-endian */
    char template_hash[ASSAY_HASH_HEX]; /* of the chat template where it was applied, else "" */
    char **warnings;                    /* complete sentences without the final stop */
    size_t n_warnings;
} assay_calib;

/* Reads the file. o may be NULL. ENOTFOUND, EIO; EINPUT: a line that is no document (file, line, what was expected), an id that the model does
 * not have, a chat without a template to render it, no tokens at all; EUSAGE: a length that the model's context does not hold, a template
 * asked for that the model lacks. Memory: the file is mapped; the tokens of the sequences and of the document in work. */
assay_status assay_calib_load(assay_calib *out, const char *path, const assay_calib_opts *o, const assay_calib_model *m, assay_err *err);
/* The same from memory; `name` names the data in messages, `lines` says that it is JSON lines. */
assay_status assay_calib_parse(assay_calib *out, const char *data, size_t n, const char *name, bool lines, const assay_calib_opts *o,
                               const assay_calib_model *m, assay_err *err);
void assay_calib_deinit(assay_calib *c); /* all-zero is fine */

/* For the manifest: data, hashes, counts, options in effect, warnings. New reference; NULL when out of memory. */
json_t *assay_calib_to_json(const assay_calib *c);

/* What a study or a command line asks for. */
typedef struct assay_calib_spec {
    char *data; /* path as written; owned */
    assay_calib_opts opts;
} assay_calib_spec;

/* EINPUT with file, line and the nearest known key. */
assay_status assay_calib_spec_from_yaml(assay_calib_spec *out, const assay_yaml_doc *d, const assay_yaml *map, assay_err *err);
assay_status assay_calib_spec_from_string(assay_calib_spec *out, const char *text, assay_err *err);
/* Canonical: every option written out. New reference; NULL when out of memory. */
json_t *assay_calib_spec_to_json(const assay_calib_spec *s);
void assay_calib_spec_deinit(assay_calib_spec *s); /* all-zero is fine */

#endif
