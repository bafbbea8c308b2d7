/* vocab.c: the two hash tables of a tokenizer. Sizes are fixed before filling, so that 128k tokens and 280k
 * merges cost one allocation each. */
#include "text/vocab.h"

#include <string.h>

static uint32_t hash_bytes(const char *s, size_t n) { /* FNV-1a, finished */
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h ^ h >> 15;
}

static size_t table_size(size_t n) {
    size_t size = 16;
    while (size < n * 2)
        size *= 2;
    return size;
}

static void place(assay_vocab *v, size_t key) {
    size_t i = v->keys[key].hash & (v->n_slots - 1);
    while (v->slots[i] >= 0)
        i = (i + 1) & (v->n_slots - 1);
    v->slots[i] = (int32_t)key;
}

assay_status assay_vocab_reserve(assay_vocab *v, size_t n, assay_err *err) {
    if (n > ASSAY_VOCAB_MAX_ID)
        return assay_fail(err, ASSAY_EINPUT, "a vocabulary of %zu tokens is too large", n);
    size_t size = table_size(n);
    if (size <= v->n_slots) return ASSAY_OK;
    int32_t *slots = assay_mallocn(size, sizeof *slots);
    if (!slots) return assay_nomem(err);
    memset(slots, 0xFF, size * sizeof *slots);
    assay_free(v->slots);
    v->slots = slots;
    v->n_slots = size;
    for (size_t i = 0; i < v->n_keys; i++)
        place(v, i);
    return assay_grow(&v->keys, &v->cap_keys, n, sizeof *v->keys, err);
}

static assay_status set_id(assay_vocab *v, const char *s, size_t n, int64_t id, assay_err *err) {
    size_t need = (size_t)id + 1;
    if (need > v->cap_ids) {
        size_t old = v->cap_ids;
        ASSAY_TRY(assay_grow(&v->by_id, &v->cap_ids, need, sizeof *v->by_id, err));
        memset(v->by_id + old, 0, (v->cap_ids - old) * sizeof *v->by_id);
    }
    v->by_id[id] = (assay_token_text){s, (uint32_t)n};
    if (need > v->n_ids) v->n_ids = need;
    return ASSAY_OK;
}

static const struct assay_vocab_key *find_key(const assay_vocab *v, const char *s, size_t n) {
    if (!v->n_slots) return NULL;
    uint32_t h = hash_bytes(s, n);
    for (size_t i = h & (v->n_slots - 1); v->slots[i] >= 0; i = (i + 1) & (v->n_slots - 1)) {
        const struct assay_vocab_key *k = &v->keys[v->slots[i]];
        if (k->hash == h && k->n == n && memcmp(k->s, s, n) == 0) return k;
    }
    return NULL;
}

assay_status assay_vocab_add(assay_vocab *v, const char *s, size_t n, int64_t id, assay_err *err) {
    if (id < 0 || id > ASSAY_VOCAB_MAX_ID)
        return assay_fail(err, ASSAY_EINPUT, "token '%.*s' has the id %lld, which is out of range",
                          (int)ASSAY_MIN(n, 60), s, (long long)id);
    const struct assay_vocab_key *known = find_key(v, s, n);
    if (known) return (size_t)id < v->n_ids && v->by_id[id].s ? ASSAY_OK : set_id(v, known->s, n, id, err);
    ASSAY_TRY(assay_vocab_reserve(v, v->n_keys + 1, err));
    if (v->n_keys == v->cap_keys)
        ASSAY_TRY(assay_grow(&v->keys, &v->cap_keys, v->n_keys + 1, sizeof *v->keys, err));
    char *copy = assay_arena_strndup(&v->text, s, n);
    if (!copy) return assay_nomem(err);
    v->keys[v->n_keys] = (struct assay_vocab_key){copy, (uint32_t)n, hash_bytes(s, n), (int32_t)id};
    place(v, v->n_keys++);
    return set_id(v, copy, n, id, err);
}

int32_t assay_vocab_find(const assay_vocab *v, const char *s, size_t n) {
    const struct assay_vocab_key *k = find_key(v, s, n);
    return k ? k->id : -1;
}

assay_status assay_vocab_find_bytes(int32_t out[256], const assay_vocab *v, assay_err *err) {
    assay_str name = {0};
    for (int b = 0; b < 256 && !name.failed; b++) {
        assay_str_clear(&name);
        assay_str_printf(&name, "<0x%02X>", b);
        out[b] = assay_vocab_find(v, assay_str_c(&name), name.len);
    }
    assay_status s = assay_str_status(&name, err);
    assay_str_free(&name);
    return s;
}

void assay_vocab_free(assay_vocab *v) {
    assay_arena_free(&v->text);
    assay_free(v->by_id);
    assay_free(v->slots);
    assay_free(v->keys);
    memset(v, 0, sizeof *v);
}

assay_status assay_merges_reserve(assay_merges *m, size_t n, assay_err *err) {
    if (n > ASSAY_VOCAB_MAX_ID) return assay_fail(err, ASSAY_EINPUT, "a list of %zu merges is too long", n);
    m->n_slots = table_size(n);
    m->slots = assay_mallocn(m->n_slots, sizeof *m->slots);
    if (!m->slots) {
        m->n_slots = 0;
        return assay_nomem(err);
    }
    for (size_t i = 0; i < m->n_slots; i++)
        m->slots[i].key = UINT64_MAX;
    return ASSAY_OK;
}

void assay_merges_put(assay_merges *m, int32_t left, int32_t right, uint32_t rank, int32_t id) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = assay_merge_hash(key) & (m->n_slots - 1);
    while (m->slots[i].key != UINT64_MAX && m->slots[i].key != key)
        i = (i + 1) & (m->n_slots - 1);
    m->slots[i] = (assay_merge){key, rank, id};
}

void assay_merges_free(assay_merges *m) {
    assay_free(m->slots);
    memset(m, 0, sizeof *m);
}
