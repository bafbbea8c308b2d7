/* layout.c: which tensor goes to which place of which file.
 *
 * Tensors are sorted by name, numbers in names by value, so that layers follow one another, and cut into
 * shards of at most the wanted size (a larger tensor has one of its own). Inside a shard the types with
 * larger elements come first, as the original has it: sizes are then multiples of every later element, and
 * with the header's length a multiple of 8, every tensor is aligned to its element. */
#include "format/layout.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* "layers.2." before "layers.10."; falls back to bytes so that different names never compare equal. */
static int compare_names(const char *a, const char *b) {
    const char *x = a, *y = b;
    while (*x && *y) {
        if (isdigit((unsigned char)*x) && isdigit((unsigned char)*y)) {
            while (*x == '0') x++;
            while (*y == '0') y++;
            size_t n = strspn(x, "0123456789"), m = strspn(y, "0123456789");
            if (n != m) return n < m ? -1 : 1;
            int d = strncmp(x, y, n);
            if (d) return d;
            x += n;
            y += m;
        } else if (*x != *y) {
            return (unsigned char)*x < (unsigned char)*y ? -1 : 1;
        } else {
            x++;
            y++;
        }
    }
    return *x || *y ? (*x ? 1 : -1) : strcmp(a, b);
}

static int by_name(const void *a, const void *b) {
    return compare_names((*(const assay_spooled *const *)a)->tensor.name,
                         (*(const assay_spooled *const *)b)->tensor.name);
}

static int by_alignment(const void *a, const void *b) {
    size_t x = assay_dtype_size((*(const assay_spooled *const *)a)->tensor.dtype);
    size_t y = assay_dtype_size((*(const assay_spooled *const *)b)->tensor.dtype);
    return x != y ? (x > y ? -1 : 1) : by_name(a, b);
}

/* Cuts the order into shards; only counts them when l->shards is NULL. */
static size_t cut(assay_layout *l, uint64_t shard_bytes) {
    size_t n_shards = 0, first = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i <= l->n; i++) {
        uint64_t next = i < l->n ? l->order[i]->tensor.n_bytes : 0;
        bool full = i > first && bytes + next > shard_bytes;
        if (i == l->n || full) {
            if (l->shards) l->shards[n_shards] = (assay_shard){.first = first, .n = i - first};
            n_shards++;
            first = i;
            bytes = 0;
        }
        bytes += next;
    }
    return n_shards;
}

assay_status assay_layout_init(assay_layout *l, const assay_spooled *tensors, size_t n, uint64_t shard_bytes,
                               assay_err *err) {
    *l = (assay_layout){.n = n};
    l->order = assay_mallocn(n + 1, sizeof *l->order);
    if (!l->order) return assay_nomem(err);
    for (size_t i = 0; i < n; i++) l->order[i] = &tensors[i];
    qsort(l->order, n, sizeof *l->order, by_name);
    l->n_shards = cut(l, shard_bytes);
    l->shards = assay_calloc(l->n_shards, sizeof *l->shards);
    if (!l->shards) {
        assay_layout_free(l);
        return assay_nomem(err);
    }
    cut(l, shard_bytes);
    for (size_t i = 0; i < l->n_shards; i++) {
        assay_shard *s = &l->shards[i];
        if (l->n_shards == 1)
            snprintf(s->name, sizeof s->name, ASSAY_SINGLE_NAME);
        else
            snprintf(s->name, sizeof s->name, "model-%05zu-of-%05zu.safetensors", i + 1, l->n_shards);
        qsort(l->order + s->first, s->n, sizeof *l->order, by_alignment);
    }
    return ASSAY_OK;
}

static uint64_t align_up(const assay_layout *l, uint64_t at) {
    return l->align ? (at + l->align - 1) / l->align * l->align : at;
}

uint64_t assay_layout_places(uint64_t *at, const assay_layout *l, size_t shard, uint64_t header) {
    const assay_shard *s = &l->shards[shard];
    uint64_t to = header;
    for (size_t i = s->first; i < s->first + s->n; i++) {
        if (!l->joins || !l->joins[i]) to = align_up(l, to);
        if (at) at[i] = to;
        to += l->order[i]->tensor.n_bytes;
    }
    return align_up(l, to); /* the last one is filled up, too */
}

void assay_layout_free(assay_layout *l) {
    assay_free(l->order);
    assay_free(l->shards);
    assay_free(l->joins);
    memset(l, 0, sizeof *l);
}

json_t *assay_layout_index(const assay_layout *l) {
    json_t *map = json_object();
    uint64_t total = 0;
    for (size_t i = 0; i < l->n_shards; i++) {
        for (size_t k = 0; k < l->shards[i].n; k++) {
            const assay_tensor *t = &l->order[l->shards[i].first + k]->tensor;
            if (json_object_set_new(map, t->name, json_string(l->shards[i].name)) != 0) {
                json_decref(map);
                return NULL;
            }
            total += t->n_bytes;
        }
    }
    return json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
}
