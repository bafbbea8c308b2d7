/* gguf_names.c: the tables of gguf_tensors.def and gguf_config.def turned into look-ups: which architecture a file or a config.json is
 * of, and what a tensor is called in the other world. Both patterns of a row hold '#' at most once and Hugging Face's '@' at most once;
 * numbers are decimal without leading zeros. */
#include "format/gguf.h"
#include "format/gguf_impl.h"

#include <stdio.h>
#include <string.h>

enum { WHEN_ALWAYS, WHEN_EXPERTS, WHEN_WINDOW };

static const assay_gguf_arch ARCHS[] = {
#define ARCH(name, class, type, FAMILY, FLAGS, WHEN, defaults)                                                                     \
    {name, class, type, ASSAY_GGUF_##FAMILY, ASSAY_GGUF_##FLAGS, WHEN_##WHEN, defaults},
#include "format/gguf_config.def"
#undef ARCH
};

typedef struct row {
    unsigned families;
    const char *gguf, *hf;
    assay_gguf_form form;
} row;

#include "format/gguf_families.h"
static const row ROWS[] = {
#define T(FAMILIES, gguf, hf, FORM) {FAMILIES, gguf, hf, ASSAY_GGUF_##FORM},
#include "format/gguf_tensors.def"
#undef T
};

const assay_gguf_key assay_gguf_keys[] = {
#define KEY(FAMILIES, gguf, TYPE, hf) {FAMILIES, gguf, ASSAY_GGUF_##TYPE, hf},
#include "format/gguf_config.def"
#undef KEY
};
const size_t assay_gguf_n_keys = ASSAY_LEN(assay_gguf_keys);

/* --- architectures --- */

static bool holds(const assay_gguf_arch *a, const assay_gguf *g) {
    int64_t n;
    if (a->when == WHEN_EXPERTS) return assay_gguf_arch_int(&n, g, a, "expert_count") && n > 0;
    if (a->when == WHEN_WINDOW) return assay_gguf_arch_int(&n, g, a, "attention.sliding_window") && n > 0;
    return true;
}

const assay_gguf_arch *assay_gguf_arch_of_file(const assay_gguf *g) {
    const char *name;
    size_t n;
    if (!assay_gguf_string(&name, &n, g, assay_gguf_find(g, "general.architecture"), 0)) return NULL;
    for (size_t i = 0; i < ASSAY_LEN(ARCHS); i++)
        if (strlen(ARCHS[i].name) == n && memcmp(ARCHS[i].name, name, n) == 0 && holds(&ARCHS[i], g)) return &ARCHS[i];
    return NULL;
}

const assay_gguf_arch *assay_gguf_arch_of_config(const json_t *config) {
    const char *class_name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0)),
               *type = json_string_value(json_object_get(config, "model_type"));
    for (size_t i = 0; i < ASSAY_LEN(ARCHS); i++)
        if (class_name ? !strcmp(ARCHS[i].class_name, class_name) : type && !strcmp(ARCHS[i].model_type, type)) return &ARCHS[i];
    return NULL;
}

/* --- names --- */

/* A decimal number of at most six digits; its length, or 0. */
static size_t number(int64_t *out, const char *s) {
    size_t n = strspn(s, "0123456789");
    if (n == 0 || n > 6 || (n > 1 && s[0] == '0')) return 0;
    *out = 0;
    for (size_t i = 0; i < n; i++) *out = *out * 10 + (s[i] - '0');
    return n;
}

/* Does the text have this pattern? '#' and '@' stand for numbers. */
static bool match(const char *pattern, const char *text, int64_t *layer, int64_t *expert) {
    while (*pattern) {
        if (*pattern == '#' || *pattern == '@') {
            size_t n = number(*pattern == '#' ? layer : expert, text);
            if (!n) return false;
            text += n;
        } else if (*pattern != *text++) {
            return false;
        }
        pattern++;
    }
    return *text == 0;
}

/* The pattern with its numbers; '@' stays where there is no expert's number. */
static bool expand(char *out, size_t cap, const char *pattern, int64_t layer, int64_t expert, const char *ending) {
    size_t n = 0;
    for (; *pattern && n + 24 < cap; pattern++) {
        if (*pattern == '#' || (*pattern == '@' && expert >= 0))
            n += (size_t)snprintf(out + n, cap - n, "%lld", (long long)(*pattern == '#' ? layer : expert));
        else
            out[n++] = *pattern;
    }
    int k = snprintf(out + n, cap - n, "%s", ending);
    return !*pattern && k >= 0 && (size_t)k < cap - n;
}

/* A scale of a whole matrix has no rows to be in order. */
static assay_gguf_form form_of(const row *r, const assay_gguf_arch *arch, const char *ending) {
    if (strcmp(ending, ".weight") != 0 && strcmp(ending, ".bias") != 0) return ASSAY_GGUF_AS_IS;
    bool rotated = r->form == ASSAY_GGUF_QUERY || r->form == ASSAY_GGUF_KEY;
    if (rotated && !(arch->flags & ASSAY_GGUF_PAIRS)) return ASSAY_GGUF_AS_IS;
    if (r->form == ASSAY_GGUF_NORM && !(arch->flags & ASSAY_GGUF_NORM_ONE)) return ASSAY_GGUF_AS_IS;
    return r->form;
}

/* Endings in the two worlds: NVFP4's scale of a whole matrix is a tensor of its own. */
static const char *const ENDINGS[][2] = {{".weight", ".weight"}, {".bias", ".bias"}, {".scale", ".weight_global_scale"}};

/* Cuts a known ending off. */
static const char *cut_ending(char *base, size_t cap, const char *name, int world) {
    size_t n = strlen(name);
    for (size_t i = 0; i < ASSAY_LEN(ENDINGS); i++) {
        size_t k = strlen(ENDINGS[i][world]);
        if (n <= k || n - k >= cap || strcmp(name + n - k, ENDINGS[i][world]) != 0) continue;
        memcpy(base, name, n - k);
        base[n - k] = 0;
        return ENDINGS[i][!world];
    }
    return NULL;
}

bool assay_gguf_name_to_hf(assay_gguf_name *out, const assay_gguf_arch *arch, const char *name) {
    char base[sizeof out->text];
    int64_t layer = 0, expert = -1;
    const char *ending = cut_ending(base, sizeof base, name, 0);
    *out = (assay_gguf_name){.expert = -1};
    for (size_t i = 0; ending && i < ASSAY_LEN(ROWS); i++) {
        const row *r = &ROWS[i];
        if (!(r->families & arch->family) || !match(r->gguf, base, &layer, &expert)) continue;
        out->form = form_of(r, arch, ending);
        out->is_stack = strchr(r->hf, '@') != NULL;
        return expand(out->text, sizeof out->text, r->hf, layer, -1, ending);
    }
    return false;
}

bool assay_gguf_name_from_hf(assay_gguf_name *out, const assay_gguf_arch *arch, const char *name) {
    char base[sizeof out->text];
    int64_t layer = 0;
    const char *ending = cut_ending(base, sizeof base, name, 1);
    *out = (assay_gguf_name){.expert = -1};
    for (size_t i = 0; ending && i < ASSAY_LEN(ROWS); i++) {
        const row *r = &ROWS[i];
        if (!(r->families & arch->family) || !match(r->hf, base, &layer, &out->expert)) continue;
        out->form = form_of(r, arch, ending);
        out->is_stack = strchr(r->hf, '@') != NULL;
        return expand(out->text, sizeof out->text, r->gguf, layer, -1, ending);
    }
    return false;
}

bool assay_gguf_name_find(assay_gguf_name *out, const assay_gguf_arch *arch, const char *name) {
    static const char *const PREFIXES[] = {"", "transformer.", "gpt_neox.", "model."};
    char whole[256];
    for (size_t i = 0; i < ASSAY_LEN(PREFIXES); i++)
        if (snprintf(whole, sizeof whole, "%s%s", PREFIXES[i], name) < (int)sizeof whole && assay_gguf_name_from_hf(out, arch, whole)) return true;
    return false;
}

/* --- for other rooms --- */

const char *assay_gguf_arch_name(const json_t *config) {
    const assay_gguf_arch *arch = assay_gguf_arch_of_config(config);
    return arch ? arch->name : NULL;
}

bool assay_gguf_place_of(assay_gguf_place *out, const json_t *config, const char *name) {
    const assay_gguf_arch *arch = assay_gguf_arch_of_config(config);
    assay_gguf_name n;
    if (!arch || !assay_gguf_name_find(&n, arch, name)) return false;
    *out = (assay_gguf_place){.expert = n.expert,
                              .is_plain = n.form == ASSAY_GGUF_WIDE || n.form == ASSAY_GGUF_ROW || n.form == ASSAY_GGUF_TURNED ||
                                          n.form == ASSAY_GGUF_KEYS || n.form == ASSAY_GGUF_VALUES};
    snprintf(out->name, sizeof out->name, "%s", n.text);
    return true;
}
