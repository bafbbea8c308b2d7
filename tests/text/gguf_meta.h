/* gguf_meta.h: the tokenizer's keys of a GGUF file's metadata, for tests: enough of the format to fill an assay_gguf_vocab, trusting the
 * file. (Programs read GGUF in the room format.) */
#ifndef TEXT_GGUF_META_H
#define TEXT_GGUF_META_H

#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "text/text.h"

typedef struct gguf_meta {
    assay_map map;
    assay_gguf_vocab v;
    void *lists[2];
} gguf_meta;

static inline uint64_t gguf_number(const uint8_t **p, size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t) * (*p)++ << 8 * i;
    return v;
}
static inline assay_token_text gguf_text(const uint8_t **p) {
    uint64_t n = gguf_number(p, 8);
    assay_token_text t = {(const char *)*p, (uint32_t)n};
    *p += n;
    return t;
}
static inline size_t gguf_width(uint32_t type) {
    static const size_t width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return width[type];
}

static inline const assay_token_text *gguf_texts(gguf_meta *m, size_t slot, const uint8_t **p, uint64_t n) {
    assay_token_text *v = assay_mallocn(n ? n : 1, sizeof *v);
    for (uint64_t i = 0; i < n; i++)
        v[i] = gguf_text(p);
    return m->lists[slot] = v;
}

static inline void gguf_value(gguf_meta *m, const char *key, const uint8_t **p) {
    static const struct {
        const char *key;
        size_t at;
    } ids[] = {{"bos_token_id", offsetof(assay_gguf_vocab, bos)},
               {"eos_token_id", offsetof(assay_gguf_vocab, eos)},
               {"unknown_token_id", offsetof(assay_gguf_vocab, unk)},
               {"seperator_token_id", offsetof(assay_gguf_vocab, sep)},
               {"padding_token_id", offsetof(assay_gguf_vocab, pad)}},
      flags[] = {{"add_bos_token", offsetof(assay_gguf_vocab, add_bos)},
                 {"add_eos_token", offsetof(assay_gguf_vocab, add_eos)},
                 {"add_space_prefix", offsetof(assay_gguf_vocab, add_space_prefix)},
                 {"remove_extra_whitespaces", offsetof(assay_gguf_vocab, remove_extra_whitespaces)}};
    uint32_t type = (uint32_t)gguf_number(p, 4);
    if (type == 8) {
        assay_token_text t = gguf_text(p);
        if (strcmp(key, "tokenizer.ggml.model") == 0) m->v.model = t;
        if (strcmp(key, "tokenizer.ggml.pre") == 0) m->v.pre = t;
        if (strcmp(key, "tokenizer.chat_template") == 0) m->v.chat_template = t;
        return;
    }
    if (type == 9) {
        uint32_t of = (uint32_t)gguf_number(p, 4);
        uint64_t n = gguf_number(p, 8);
        if (strcmp(key, "tokenizer.ggml.tokens") == 0) {
            m->v.n_tokens = n;
            m->v.tokens = gguf_texts(m, 0, p, n);
        } else if (strcmp(key, "tokenizer.ggml.merges") == 0) {
            m->v.n_merges = n;
            m->v.merges = gguf_texts(m, 1, p, n);
        } else if (of == 8) {
            for (uint64_t i = 0; i < n; i++)
                gguf_text(p);
        } else {
            if (strcmp(key, "tokenizer.ggml.scores") == 0) m->v.scores = (const float *)(const void *)*p;
            if (strcmp(key, "tokenizer.ggml.token_type") == 0) m->v.types = (const int32_t *)(const void *)*p;
            *p += n * gguf_width(of);
        }
        return;
    }
    uint64_t number = gguf_number(p, gguf_width(type));
    if (strncmp(key, "tokenizer.ggml.", 15) != 0) return;
    for (size_t i = 0; i < ASSAY_LEN(ids); i++)
        if (strcmp(key + 15, ids[i].key) == 0) *(int32_t *)(void *)((char *)&m->v + ids[i].at) = (int32_t)(uint32_t)number;
    for (size_t i = 0; i < ASSAY_LEN(flags); i++)
        if (strcmp(key + 15, flags[i].key) == 0)
            *(assay_flag *)(void *)((char *)&m->v + flags[i].at) = number ? ASSAY_FLAG_TRUE : ASSAY_FLAG_FALSE;
}

/* The numbers of scores and types lie unaligned in the file: they are copied. */
static inline const void *gguf_copy(const void *p, size_t n) {
    void *copy = p ? assay_malloc(n) : NULL;
    if (copy) memcpy(copy, p, n);
    return copy;
}

static inline assay_status gguf_meta_open(gguf_meta *m, const char *path, assay_err *err) {
    *m = (gguf_meta){.v = ASSAY_GGUF_VOCAB_INIT};
    ASSAY_TRY(assay_map_open(&m->map, path, err));
    const uint8_t *p = m->map.data + 16;
    uint64_t n = gguf_number(&p, 8);
    for (uint64_t i = 0; i < n; i++) {
        char key[128];
        assay_token_text k = gguf_text(&p);
        memcpy(key, k.s, ASSAY_MIN(k.n, sizeof key - 1));
        key[ASSAY_MIN(k.n, sizeof key - 1)] = '\0';
        gguf_value(m, key, &p);
    }
    m->v.scores = gguf_copy(m->v.scores, m->v.n_tokens * 4);
    m->v.types = gguf_copy(m->v.types, m->v.n_tokens * 4);
    return ASSAY_OK;
}

static inline void gguf_meta_close(gguf_meta *m) {
    assay_free(m->lists[0]);
    assay_free(m->lists[1]);
    assay_free((void *)(uintptr_t)m->v.scores);
    assay_free((void *)(uintptr_t)m->v.types);
    assay_map_close(&m->map);
}

#endif
