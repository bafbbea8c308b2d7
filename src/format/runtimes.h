/* format/runtimes.h: which runtime computes what is stored with a kernel of its own, which only by decoding it, which not at all, as far
 * as was found out (runtimes.def). */
#ifndef ASSAY_FORMAT_RUNTIMES_H
#define ASSAY_FORMAT_RUNTIMES_H

#include "format/format.h"

typedef enum assay_support { ASSAY_SUPPORT_NATIVE, ASSAY_SUPPORT_DECODES, ASSAY_SUPPORT_UNKNOWN, ASSAY_SUPPORT_NO } assay_support; /* better first */
const char *assay_support_word(assay_support s); /* "native" "decodes" "unknown" "no" */

typedef struct assay_runtime_rule {
    const char *runtime, *storage;
    assay_support how;
    const char *note, *source; /* source: a code below, NULL = no rule was found */
} assay_runtime_rule;

typedef struct assay_runtime_source {
    const char *code, *title, *url, *date;
} assay_runtime_source;

/* The runtimes in their order; NULL after the last. */
const char *assay_runtime_name(size_t i);
/* How a matrix is stored, in the words that the rules match: "gptq int4 g128 sym plain a16". */
void assay_storage_describe(char *out, size_t n, assay_convention c, const assay_matrix *m);
/* The rule for a storage; UNKNOWN without a source when there is none. */
assay_runtime_rule assay_runtime_rule_for(const char *runtime, const char *storage);
const assay_runtime_source *assay_runtime_source_find(const char *code); /* NULL when there is none */

#endif
