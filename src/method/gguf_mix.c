/* gguf_mix.c: the rules of gguf_mix.def applied. A rule asks for a tensor's place among its kind, which llama.cpp counts as it walks the
 * tensors by layer and name:
 *
 *   ordinal   how many of the category came before
 *   place     what EIGHTH, MORE and the like look at, out of n_layers: of DOWN, GATE and UP the layer where there are experts (several such
 *             tensors a layer), else the ordinal; in the smallest mixes always the ordinal, as there
 *
 * MORE of V counts out of the V tensors that there are. */
#include "method/gguf_mix.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "precision/block.h"

enum { CAT_HEAD, CAT_EMBED, CAT_V, CAT_K, CAT_Q, CAT_O, CAT_UP, CAT_GATE, CAT_DOWN, CAT_OTHER, CAT_COUNT };

enum {
    ALWAYS = 0,
    GQA4 = 1,
    EXPERTS4 = 2,
    EXPERTS8 = 4,
    EIGHTH = 8,
    SIXTEENTH = 16,
    MIDDLE = 32,
    MORE = 64,
    FIRST2 = 128,
    FIRST4 = 256,
    SEEN = 512,
    BLIND = 1024,
    UNEVEN = 2048,
    BIG = 4096
};

#define IN(NAME) (UINT64_C(1) << ASSAY_MIX_##NAME)
#define ANY      UINT64_MAX
#define TINY     (IN(IQ2_XXS) | IN(IQ2_XS) | IN(IQ2_S) | IN(IQ2_M) | IN(IQ1_S) | IN(IQ1_M))
#define ASSAY_PRECISION_OWN ASSAY_PRECISION_COUNT /* the mix's own type */

static const struct {
    const char *name;
    int file_type;
    assay_precision type;
} MIXES[ASSAY_MIX_COUNT] = {
    {"pure", -1, ASSAY_PRECISION_F32},
#define M(NAME, name, file_type, TYPE) {#name, file_type, ASSAY_PRECISION_##TYPE},
#include "method/gguf_mix.def"
#undef M
};

static const struct {
    const char *word;
    assay_mix mix;
} OTHER_WORDS[] = {
#define A(word, NAME) {word, ASSAY_MIX_##NAME},
#include "method/gguf_mix.def"
#undef A
};

typedef struct rule {
    int category;
    uint64_t mixes;
    unsigned when;
    assay_precision type, to; /* to: of a row S */
} rule;

static const rule RULES[] = {
#define R(CATEGORY, mixes, when, TYPE) {CAT_##CATEGORY, mixes, when, ASSAY_PRECISION_##TYPE, ASSAY_PRECISION_##TYPE},
#include "method/gguf_mix.def"
#undef R
};

static const rule AFTERWARDS[] = {
#define S(CATEGORY, mixes, when, TYPE, TO) {CAT_##CATEGORY, mixes, when, ASSAY_PRECISION_##TYPE, ASSAY_PRECISION_##TO},
#include "method/gguf_mix.def"
#undef S
};

static const struct {
    assay_precision type, to;
} FALLBACKS[] = {
#define F(TYPE, TO) {ASSAY_PRECISION_##TYPE, ASSAY_PRECISION_##TO},
#include "method/gguf_mix.def"
#undef F
};

static const struct {
    assay_precision type;
    uint64_t mixes;
} NEEDS[] = {
#define N(TYPE, mixes) {ASSAY_PRECISION_##TYPE, mixes},
#include "method/gguf_mix.def"
#undef N
};

static const struct {
    const char *arch;
    int64_t n_layers;
    bool grouped;
} BIG_MODELS[] = {
#define B(arch, layers, gqa) {arch, layers, gqa},
#include "method/gguf_mix.def"
#undef B
};

/* --- mixes by name --- */

const char *assay_mix_name(assay_mix m) {
    return (unsigned)m < ASSAY_MIX_COUNT ? MIXES[m].name : "?";
}

bool assay_mix_parse(assay_mix *out, const char *word) {
    for (int i = 1; i < ASSAY_MIX_COUNT; i++)
        if (!strcmp(MIXES[i].name, word)) {
            *out = (assay_mix)i;
            return true;
        }
    for (size_t i = 0; i < ASSAY_LEN(OTHER_WORDS); i++)
        if (!strcmp(OTHER_WORDS[i].word, word)) {
            *out = OTHER_WORDS[i].mix;
            return true;
        }
    return false;
}

assay_precision assay_mix_type(assay_mix m) {
    return MIXES[m].type;
}

int assay_mix_file_type(assay_mix m) {
    return MIXES[m].file_type;
}

/* --- tensors --- */

/* What a name that holds the text is; the first that fits. */
static const struct {
    const char *text;
    int category;
} CATEGORIES[] = {{"attn_qkv.weight", CAT_V},    {"attn_kv_b.weight", CAT_V}, {"attn_v.weight", CAT_V}, {"attn_k.weight", CAT_K}, {"attn_q.weight", CAT_Q},
                  {"attn_output.weight", CAT_O}, {"ffn_up", CAT_UP},          {"ffn_gate", CAT_GATE},   {"ffn_down", CAT_DOWN}};

static int category_of(const char *name, bool tied) {
    if (!strcmp(name, "output.weight")) return CAT_HEAD;
    if (!strcmp(name, "token_embd.weight")) return tied ? CAT_HEAD : CAT_EMBED;
    for (size_t i = 0; i < ASSAY_LEN(CATEGORIES); i++)
        if (strstr(name, CATEGORIES[i].text)) return CATEGORIES[i].category;
    return CAT_OTHER;
}

static long layer_of(const char *name) {
    return strncmp(name, "blk.", 4) == 0 ? strtol(name + 4, NULL, 10) : -1;
}

static int by_layer(const void *a, const void *b) {
    const assay_mix_tensor *x = a, *y = b;
    long m = layer_of(x->name), n = layer_of(y->name);
    return m != n ? (m > n) - (m < n) : strcmp(x->name, y->name);
}

static bool divides(assay_precision type, int64_t cols) {
    const assay_block_info *b = assay_block_get(type);
    return !b || cols % b->elements == 0;
}

assay_precision assay_mix_fallback(assay_precision type, int64_t cols) {
    if (divides(type, cols)) return type;
    for (size_t i = 0; i < ASSAY_LEN(FALLBACKS); i++)
        if (FALLBACKS[i].type == type && divides(FALLBACKS[i].to, cols)) return FALLBACKS[i].to;
    return ASSAY_PRECISION_F16;
}

/* --- what holds of a tensor --- */

static bool is_big(const assay_mix_model *m) {
    for (size_t i = 0; i < ASSAY_LEN(BIG_MODELS); i++)
        if (!strcmp(BIG_MODELS[i].arch, m->arch) && BIG_MODELS[i].n_layers == m->n_layers)
            return !BIG_MODELS[i].grouped || m->n_heads != m->n_kv_heads;
    return false;
}

static unsigned facts_of_model(const assay_mix_model *m) {
    unsigned f = m->has_importance ? SEEN : BLIND;
    if (m->n_kv_heads > 0 && m->n_heads / m->n_kv_heads >= 4) f |= GQA4;
    if (m->n_experts >= 4) f |= EXPERTS4;
    if (m->n_experts == 8) f |= EXPERTS8;
    if (is_big(m)) f |= BIG;
    return f;
}

static unsigned facts_of_place(int64_t place, int64_t n) {
    unsigned f = 0;
    if (place < n / 8) f |= EIGHTH;
    if (place < n / 16) f |= SIXTEENTH;
    if (place >= n / 8 && place < 7 * n / 8) f |= MIDDLE;
    if (place < n / 8 || place >= 7 * n / 8 || (place - n / 8) % 3 == 2) f |= MORE;
    return f;
}

static bool is_feed_forward(int category) {
    return category == CAT_UP || category == CAT_GATE || category == CAT_DOWN;
}

static assay_precision choose(int category, assay_mix mix, unsigned facts) {
    uint64_t bit = UINT64_C(1) << mix;
    assay_precision type = MIXES[mix].type;
    for (size_t i = 0; i < ASSAY_LEN(RULES); i++) {
        const rule *r = &RULES[i];
        if (r->category != category || !(r->mixes & bit) || (r->when & facts) != r->when) continue;
        if (r->type != ASSAY_PRECISION_OWN) type = r->type;
        break;
    }
    for (size_t i = 0; i < ASSAY_LEN(AFTERWARDS); i++) {
        const rule *r = &AFTERWARDS[i];
        if (r->category == category && (r->mixes & bit) && (r->when & facts) == r->when && r->type == type) return r->to;
    }
    return type;
}

static bool needs_importance(assay_precision type, assay_mix mix, const char *name) {
    if (!strcmp(name, "output.weight") || !strcmp(name, "token_embd.weight")) return false;
    for (size_t i = 0; i < ASSAY_LEN(NEEDS); i++)
        if (NEEDS[i].type == type && (NEEDS[i].mixes & UINT64_C(1) << mix)) return true;
    return false;
}

void assay_mix_assign(assay_mix_tensor *t, size_t n, assay_mix mix, const assay_mix_model *model) {
    int64_t ordinal[CAT_COUNT] = {0}, n_v = 0;
    bool tied = true, ordinals = (TINY >> mix & 1) || model->n_experts <= 1;
    unsigned facts = facts_of_model(model);
    qsort(t, n, sizeof *t, by_layer);
    for (size_t i = 0; i < n; i++) {
        tied = tied && strcmp(t[i].name, "output.weight") != 0;
        n_v += category_of(t[i].name, false) == CAT_V && !(i && !strcmp(t[i].name, t[i - 1].name));
    }
    for (size_t i = 0; i < n; i++) {
        int category = category_of(t[i].name, tied);
        if (i && !strcmp(t[i].name, t[i - 1].name)) {
            t[i].type = t[i - 1].type;
            t[i].needs_importance = t[i - 1].needs_importance;
            continue;
        }
        if (t[i].given) {
            t[i].type = assay_mix_fallback(t[i].type, t[i].cols);
            t[i].needs_importance = needs_importance(t[i].type, mix, t[i].name);
            continue;
        }
        int64_t k = ordinal[category]++, place = is_feed_forward(category) && !ordinals ? layer_of(t[i].name) : k;
        unsigned f = facts | facts_of_place(place, category == CAT_V ? n_v : model->n_layers);
        if (k < 2) f |= FIRST2;
        if (k < 4) f |= FIRST4;
        if (!divides(MIXES[mix].type, t[i].cols)) f |= UNEVEN;
        t[i].type = assay_mix_fallback(choose(category, mix, f), t[i].cols);
        t[i].needs_importance = needs_importance(t[i].type, mix, t[i].name);
    }
}
