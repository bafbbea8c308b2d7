/* runtimes.c: see runtimes.h; the rules are data in runtimes.def. */
#include "format/runtimes.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "format/convention.h"

#define NATIVE  ASSAY_SUPPORT_NATIVE
#define DECODES ASSAY_SUPPORT_DECODES
#define NO      ASSAY_SUPPORT_NO
#define S(code, title, url, date)
#define R(runtime, storage, how, note, source) {runtime, storage, how, note, source},
static const assay_runtime_rule RULES[] = {
#include "format/runtimes.def"
};
#undef S
#undef R
#define S(code, title, url, date) {code, title, url, date},
#define R(runtime, storage, how, note, source)
static const assay_runtime_source SOURCES[] = {
#include "format/runtimes.def"
};
#undef S
#undef R

const char *assay_support_word(assay_support s) {
    static const char *const words[] = {"native", "decodes", "unknown", "no"};
    return (size_t)s < ASSAY_LEN(words) ? words[s] : "?";
}

/* In the order of their first rules. */
const char *assay_runtime_name(size_t i) {
    const char *last = "";
    for (size_t k = 0, n = 0; k < ASSAY_LEN(RULES); k++) {
        if (strcmp(RULES[k].runtime, last) == 0) continue;
        last = RULES[k].runtime;
        if (n++ == i) return last;
    }
    return NULL;
}

static void put_sharing(char *out, size_t n, const assay_matrix *m) {
    assay_sharing sharing = m->row_block > 1 ? assay_matrix_sharing(m) : m->group_size ? ASSAY_SHARING_GROUP : ASSAY_SHARING_CHANNEL;
    if (sharing == ASSAY_SHARING_BLOCK)
        snprintf(out, n, "block%lld", (long long)m->group_size);
    else if (sharing == ASSAY_SHARING_GROUP)
        snprintf(out, n, "g%lld", (long long)m->group_size);
    else
        snprintf(out, n, "%s", sharing == ASSAY_SHARING_TENSOR ? "tensor" : "channel");
}

void assay_storage_describe(char *out, size_t n, assay_convention c, const assay_matrix *m) {
    char sharing[40];
    assay_precision_kind kind = assay_precision_get_kind(m->precision);
    bool plain = kind == ASSAY_KIND_DENSE || kind == ASSAY_KIND_BLOCK;
    put_sharing(sharing, sizeof sharing, m);
    snprintf(out, n, "%s %s %s %s %s a%d%s", kind == ASSAY_KIND_DENSE && c != ASSAY_CONVENTION_GGUF ? "hf" : assay_convention_name(c), assay_precision_name(m->precision),
             plain ? "-" : sharing,
             kind != ASSAY_KIND_INT ? "-" : m->zeros ? "asym" : m->real_zeros ? "real" : "sym", m->g_idx ? "order" : "plain",
             m->act_bits == 8 ? 8 : 16, m->act_bits == 8 && m->input_scale > 0 ? "s" : "");
}

assay_runtime_rule assay_runtime_rule_for(const char *runtime, const char *storage) {
    for (size_t i = 0; i < ASSAY_LEN(RULES); i++)
        if (strcmp(RULES[i].runtime, runtime) == 0 && fnmatch(RULES[i].storage, storage, 0) == 0) return RULES[i];
    return (assay_runtime_rule){.runtime = runtime, .storage = storage, .how = ASSAY_SUPPORT_UNKNOWN, .note = ""};
}

const assay_runtime_source *assay_runtime_source_find(const char *code) {
    for (size_t i = 0; code && i < ASSAY_LEN(SOURCES); i++)
        if (strcmp(SOURCES[i].code, code) == 0) return &SOURCES[i];
    return NULL;
}
