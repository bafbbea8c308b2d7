/* checkpoint.c: a checkpoint as a set of named tensors, from one safetensors file or from shards with an
 * index, all mapped.
 *
 *   DIR/model.safetensors.index.json   {"weight_map": {tensor: shard file}}: every named tensor must be in the
 *                                      shard that the index says
 *   DIR/model.safetensors              otherwise
 *   FILE.safetensors                   a file alone; its folder is where config.json is looked for
 *   FILE.gguf, or a folder with one    a GGUF model, all parts of a split: its tensors under the names that they have in a
 *                                      config.json's model (gguf_read.c)
 *
 * What the tensors mean is convention.c's business. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/gguf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "format/checkpoint.h"
#include "format/gguf_impl.h"
#include "format/names.h"
#include "format/safetensors.h"
#include "num/convert.h"

typedef struct shard {
    char *path;
    assay_map map;
    bool borrowed; /* the bytes are the caller's, not a mapping */
    assay_safetensors file;
    const assay_tensor *tensors; /* of this shard, [n] */
    size_t n;
} shard;

struct assay_checkpoint {
    char *dir;
    shard *shards;
    size_t n_shards, cap_shards;
    const assay_tensor **tensors; /* in the order of shards and of places in them */
    size_t n_tensors;
    uint64_t n_bytes;
    assay_names names;
    bool is_gguf;
    assay_gguf_set gguf; /* whose mappings the shards name */
    assay_gguf_tensors gguf_tensors;
};

void assay_checkpoint_close(assay_checkpoint *c) {
    if (!c) return;
    for (size_t i = 0; i < c->n_shards; i++) {
        assay_safetensors_free(&c->shards[i].file);
        if (!c->shards[i].borrowed && !c->is_gguf) assay_map_close(&c->shards[i].map);
        assay_free(c->shards[i].path);
    }
    assay_gguf_tensors_free(&c->gguf_tensors);
    assay_gguf_set_close(&c->gguf);
    assay_free(c->shards);
    assay_free(c->tensors);
    assay_names_free(&c->names);
    assay_free(c->dir);
    assay_free(c);
}

static assay_status add_shard(shard **out, assay_checkpoint *c, const char *name, assay_err *err) {
    ASSAY_TRY(assay_grow(&c->shards, &c->cap_shards, c->n_shards + 1, sizeof *c->shards, err));
    shard *s = *out = &c->shards[c->n_shards];
    memset(s, 0, sizeof *s);
    c->n_shards++;
    s->path = assay_path_join(c->dir, name);
    return s->path ? ASSAY_OK : assay_nomem(err);
}

static assay_status parse_shard(shard *s, assay_err *err) {
    ASSAY_TRY(assay_safetensors_parse(&s->file, s->map.data, s->map.size, s->path, err));
    s->tensors = s->file.tensors;
    s->n = s->file.n;
    return ASSAY_OK;
}

static assay_status open_shard(assay_checkpoint *c, const char *name, assay_err *err) {
    shard *s;
    ASSAY_TRY(add_shard(&s, c, name, err));
    ASSAY_TRY(assay_map_open(&s->map, s->path, err));
    return parse_shard(s, err);
}

/* After all shards are open: the list of tensors and their names. */
static assay_status collect(assay_checkpoint *c, assay_err *err) {
    size_t n = 0;
    for (size_t i = 0; i < c->n_shards; i++) n += c->shards[i].n;
    c->tensors = assay_mallocn(n ? n : 1, sizeof *c->tensors);
    if (!c->tensors) return assay_nomem(err);
    for (size_t i = 0; i < c->n_shards; i++) {
        for (size_t k = 0; k < c->shards[i].n; k++) {
            const assay_tensor *t = &c->shards[i].tensors[k];
            bool fresh;
            ASSAY_TRY(assay_names_add(&c->names, t->name, c->n_tensors, &fresh, err));
            if (!fresh)
                return assay_fail(err, ASSAY_EINPUT, "%s: tensor %s is in another shard too",
                                  c->shards[i].path, t->name);
            c->tensors[c->n_tensors++] = t;
            c->n_bytes += t->n_bytes;
        }
    }
    return ASSAY_OK;
}

static bool is_plain_name(const char *s) {
    return *s && *s != '.' && !strchr(s, '/') && !strchr(s, '\\');
}

static int by_string(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct shard names of a weight_map, sorted; borrowed from it. */
static assay_status list_shards(const char ***out, size_t *n, const json_t *map, const char *where,
                                assay_err *err) {
    const char *name, **files = assay_mallocn(json_object_size(map) + 1, sizeof *files);
    json_t *value;
    size_t count = 0, kept = 0;
    if (!files) return assay_nomem(err);
    *out = files;
    json_object_foreach((json_t *)map, name, value) {
        if (!json_is_string(value) || !is_plain_name(json_string_value(value)))
            return assay_fail(err, ASSAY_EINPUT,
                              "%s: tensor %s is said to be in something that is no file name", where, name);
        files[count++] = json_string_value(value);
    }
    qsort(files, count, sizeof *files, by_string);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(files[i], files[kept - 1]) != 0) files[kept++] = files[i];
    *n = kept;
    return ASSAY_OK;
}

static const char *shard_path_of(const assay_checkpoint *c, const assay_tensor *t) {
    for (size_t i = 0; i < c->n_shards; i++) {
        const uint8_t *begin = c->shards[i].map.data, *p = t->data;
        if (p >= begin && p <= begin + c->shards[i].map.size) return c->shards[i].path;
    }
    return "";
}

static assay_status open_sharded(assay_checkpoint *c, const char *index_path, assay_err *err) {
    json_t *index = NULL, *value;
    const char **files = NULL, *name;
    size_t n = 0;
    assay_status s;
    ASSAY_GO(assay_json_load(&index, index_path, err));
    const json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map)) {
        s = assay_fail(err, ASSAY_EINPUT, "%s: it has no weight_map", index_path);
        goto out;
    }
    ASSAY_GO(list_shards(&files, &n, map, index_path, err));
    for (size_t i = 0; i < n; i++) {
        s = open_shard(c, files[i], err);
        if (s == ASSAY_ENOTFOUND)
            assay_err_prefix(err, "shard named by %s is missing", assay_path_base(index_path));
        if (s != ASSAY_OK) goto out;
    }
    ASSAY_GO(collect(c, err));
    json_object_foreach((json_t *)map, name, value) {
        const assay_tensor *t = assay_checkpoint_find(c, name);
        if (t && strcmp(assay_path_base(shard_path_of(c, t)), json_string_value(value)) == 0) continue;
        s = assay_fail(err, ASSAY_EINPUT, "%s: tensor %s is not in %s", index_path, name,
                       json_string_value(value));
        goto out;
    }
out:
    assay_free(files);
    json_decref(index);
    return s;
}

static assay_status open_single(assay_checkpoint *c, const char *name, assay_err *err) {
    ASSAY_TRY(open_shard(c, name, err));
    return collect(c, err);
}

/* The parts' tensors follow each other, part by part. */
static assay_status take_gguf(assay_checkpoint *c, assay_err *err) {
    size_t at = 0;
    c->is_gguf = true;
    ASSAY_TRY(assay_gguf_tensors_read(&c->gguf_tensors, &c->gguf, err));
    for (size_t i = 0; i < c->gguf.n; i++) {
        shard *s;
        ASSAY_TRY(add_shard(&s, c, assay_path_base(c->gguf.paths[i]), err));
        s->map.data = assay_gguf_data(c->gguf.parts[i], &s->map.size);
        s->tensors = c->gguf_tensors.n ? c->gguf_tensors.v + at : NULL;
        while (at < c->gguf_tensors.n && c->gguf_tensors.part[at] == i) at++, s->n++;
    }
    return collect(c, err);
}

static assay_status open_gguf(assay_checkpoint *c, const char *path, assay_err *err) {
    ASSAY_TRY(assay_gguf_set_open(&c->gguf, path, err));
    return take_gguf(c, err);
}

static assay_status open_dir(assay_checkpoint *c, assay_err *err) {
    assay_status s;
    char *index = assay_path_join(c->dir, "model.safetensors.index.json"),
         *single = assay_path_join(c->dir, "model.safetensors");
    char *pickle = assay_path_join(c->dir, "pytorch_model.bin");
    if (!index || !single || !pickle)
        s = assay_nomem(err);
    else if (assay_path_exists(index))
        s = open_sharded(c, index, err);
    else if (assay_path_exists(single))
        s = open_single(c, "model.safetensors", err);
    else if (assay_path_exists(pickle))
        s = assay_fail(err, ASSAY_EUNSUPPORTED,
                       "%s holds only pytorch_model.bin, a pickle: convert it to safetensors first", c->dir);
    else
        s = assay_fail(err, ASSAY_ENOTFOUND,
                       "%s holds neither model.safetensors nor model.safetensors.index.json", c->dir);
    assay_free(index);
    assay_free(single);
    assay_free(pickle);
    return s;
}

assay_status assay_checkpoint_check_path(const char *model, assay_err *err) {
    char *gguf = NULL;
    size_t n = strlen(model);
    if (!assay_path_exists(model)) return assay_fail(err, ASSAY_ENOTFOUND, "there is no model at '%s'", model);
    if (assay_path_is_dir(model) || (n > 5 && strcmp(model + n - 5, ".json") == 0)) return ASSAY_OK;
    assay_err why = {0};
    assay_status s = assay_gguf_find_file(&gguf, model, &why);
    assay_free(gguf);
    if (s == ASSAY_ENOTFOUND)
        return assay_fail(err, ASSAY_EINPUT, "'%s' is a file, and none of GGUF: give the folder that it lies in", model);
    return s == ASSAY_OK ? ASSAY_OK : assay_fail(err, s, "%s", why.message);
}

assay_status assay_checkpoint_open(assay_checkpoint **out, const char *path, assay_err *err) {
    assay_status s;
    assay_err tried = {0};
    *out = NULL;
    if (!assay_path_exists(path))
        return assay_fail(err, ASSAY_ENOTFOUND, "there is no checkpoint at %s", path);
    assay_checkpoint *c = assay_calloc(1, sizeof *c);
    if (!c) return assay_nomem(err);
    bool is_dir = assay_path_is_dir(path);
    c->dir = is_dir ? assay_strdup(path) : assay_path_dir(path);
    char *gguf = NULL;
    s = c->dir ? assay_gguf_find_file(&gguf, path, err ? &tried : NULL) : assay_nomem(err);
    if (s == ASSAY_OK)
        s = open_gguf(c, gguf, err);
    else if (s == ASSAY_ENOTFOUND)
        s = is_dir ? open_dir(c, err) : open_single(c, assay_path_base(path), err);
    else if (err)
        *err = tried;
    assay_free(gguf);
    if (s == ASSAY_OK)
        *out = c;
    else
        assay_checkpoint_close(c);
    return s;
}

assay_status assay_checkpoint_open_memory(assay_checkpoint **out, const uint8_t *data, size_t size,
                                          const char *where, assay_err *err) {
    shard *s;
    assay_status status;
    *out = NULL;
    assay_checkpoint *c = assay_calloc(1, sizeof *c);
    if (!c) return assay_nomem(err);
    c->dir = assay_strdup(".");
    status = c->dir ? add_shard(&s, c, where, err) : assay_nomem(err);
    if (status == ASSAY_OK) {
        s->borrowed = true;
        s->map = (assay_map){.data = data, .size = size};
        status = parse_shard(s, err);
    }
    if (status == ASSAY_OK) status = collect(c, err);
    if (status == ASSAY_OK)
        *out = c;
    else
        assay_checkpoint_close(c);
    return status;
}

assay_status assay_checkpoint_open_gguf_memory(assay_checkpoint **out, const uint8_t *data, size_t size, const char *where,
                                               assay_err *err) {
    *out = NULL;
    assay_checkpoint *c = assay_calloc(1, sizeof *c);
    if (!c) return assay_nomem(err);
    c->dir = assay_strdup(".");
    assay_status s = c->dir ? assay_gguf_set_parse(&c->gguf, data, size, where, err) : assay_nomem(err);
    if (s == ASSAY_OK) s = take_gguf(c, err);
    for (size_t i = 0; i < c->n_shards; i++) c->shards[i].borrowed = true;
    if (s == ASSAY_OK)
        *out = c;
    else
        assay_checkpoint_close(c);
    return s;
}

bool assay_checkpoint_is_gguf(const assay_checkpoint *c) {
    return c->is_gguf;
}

const assay_gguf_set *assay_checkpoint_gguf(const assay_checkpoint *c) {
    return c->is_gguf ? &c->gguf : NULL;
}

const assay_gguf_joint *assay_checkpoint_joint(const assay_checkpoint *c, const char *name) {
    for (size_t i = 0; i < c->gguf_tensors.n_joints; i++)
        if (strcmp(c->gguf_tensors.joints[i].name, name) == 0) return &c->gguf_tensors.joints[i];
    return NULL;
}

size_t assay_checkpoint_n_tensors(const assay_checkpoint *c) {
    return c->n_tensors;
}
uint64_t assay_checkpoint_n_bytes(const assay_checkpoint *c) {
    return c->n_bytes;
}

const assay_tensor *assay_checkpoint_get(const assay_checkpoint *c, size_t i) {
    return i < c->n_tensors ? c->tensors[i] : NULL;
}

const assay_tensor *assay_checkpoint_find(const assay_checkpoint *c, const char *name) {
    size_t i = assay_names_find(&c->names, name);
    return i == SIZE_MAX ? NULL : c->tensors[i];
}

void assay_checkpoint_prefetch(const assay_checkpoint *c, const assay_tensor *t) {
    const uint8_t *p = t->data;
    for (size_t i = 0; i < c->n_shards; i++) {
        const assay_map *m = &c->shards[i].map;
        if (!c->shards[i].borrowed && m->data && p >= m->data && p + t->n_bytes <= m->data + m->size)
            assay_map_willneed(m, (size_t)(p - m->data), t->n_bytes);
    }
}

void assay_checkpoint_release(const assay_checkpoint *c, const assay_tensor *t) {
    const uint8_t *p = t->data;
    for (size_t i = 0; i < c->n_shards; i++) {
        const assay_map *m = &c->shards[i].map;
        if (!c->shards[i].borrowed && m->data && p >= m->data && p + t->n_bytes <= m->data + m->size)
            assay_map_dontneed(m, (size_t)(p - m->data), t->n_bytes);
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const assay_tensor *const *)a)->name, (*(const assay_tensor *const *)b)->name);
}

/* A number as text, so that the hash does not depend on the machine. */
static void hash_int(assay_hasher *h, int64_t v) {
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)v);
    assay_hasher_put_str(h, digits);
}

/* In pieces, so that memory stays small. */
static void hash_bytes(assay_hasher *h, const assay_checkpoint *c, const void *data, size_t n) {
    enum { PIECE = 1 << 24 };
    for (size_t at = 0; data && at < n; at += PIECE) {
        assay_tensor piece = {.data = (const uint8_t *)data + at, .n_bytes = ASSAY_MIN((size_t)PIECE, n - at)};
        assay_hasher_put(h, piece.data, piece.n_bytes);
        assay_checkpoint_release(c, &piece);
    }
}

static void hash_tensor(assay_hasher *h, const assay_checkpoint *c, const assay_tensor *t) {
    assay_hasher_put_str(h, t->name);
    assay_hasher_put_str(h, assay_dtype_name(t->dtype));
    hash_int(h, t->n_dims);
    if (t->block) assay_hasher_put_str(h, assay_precision_name((assay_precision)t->block));
    for (int i = 0; i < t->n_dims; i++) hash_int(h, t->dims[i]);
    hash_bytes(h, c, t->data, t->n_bytes);
    const assay_gguf_joint *joint = t->order == ASSAY_ORDER_JOINED ? assay_checkpoint_joint(c, t->name) : NULL;
    if (joint) hash_bytes(h, c, joint->keys.data, joint->keys.n_bytes);
    if (joint) hash_bytes(h, c, joint->values.data, joint->values.n_bytes);
}
/* Metadata of a GGUF: every key with its bytes. */
static void hash_values(assay_hasher *h, const assay_gguf *g) {
    hash_int(h, (int64_t)assay_gguf_n_values(g));
    for (size_t i = 0; i < assay_gguf_n_values(g); i++) {
        const assay_gguf_value *v = assay_gguf_value_at(g, i);
        assay_hasher_put_str(h, v->key);
        hash_int(h, (int64_t)v->type * 16 + (int64_t)v->element);
        hash_int(h, (int64_t)v->n_bytes);
        assay_hasher_put(h, v->data, v->n_bytes);
    }
}

static assay_status hash_config(assay_hasher *h, const assay_checkpoint *c, assay_err *err) {
    for (size_t i = 0; i < c->gguf.n; i++) hash_values(h, c->gguf.parts[i]);
    if (c->is_gguf) return ASSAY_OK;
    char *path = assay_path_join(c->dir, "config.json"), *text = NULL;
    size_t n = 0;
    if (!path) return assay_nomem(err);
    assay_status s = assay_path_exists(path) ? assay_read_file(&text, &n, path, 0, err) : ASSAY_OK;
    hash_int(h, (int64_t)n);
    if (n) assay_hasher_put(h, text, n);
    assay_free(text);
    assay_free(path);
    return s;
}

assay_status assay_checkpoint_hash(char hex[65], const assay_checkpoint *c, assay_err *err) {
    assay_hasher *h = NULL;
    assay_status s;
    const assay_tensor **sorted = assay_mallocn(c->n_tensors + 1, sizeof *sorted);
    if (!sorted) return assay_nomem(err);
    memcpy(sorted, c->tensors, c->n_tensors * sizeof *sorted);
    qsort(sorted, c->n_tensors, sizeof *sorted, by_name);
    ASSAY_GO(assay_hasher_new(&h, err));
    assay_hasher_put_str(h, "assay checkpoint 1");
    ASSAY_GO(hash_config(h, c, err));
    for (size_t i = 0; i < c->n_tensors; i++) hash_tensor(h, c, sorted[i]);
    assay_hasher_finish(h, hex);
    h = NULL;
out:
    assay_hasher_free(h);
    assay_free(sorted);
    return s;
}

assay_status assay_checkpoint_vector(float *out, const assay_checkpoint *c, const char *name, int64_t n,
                                     assay_err *err) {
    const assay_tensor *t = assay_checkpoint_find(c, name);
    if (!t) return assay_fail(err, ASSAY_ENOTFOUND, "the checkpoint has no tensor %s", name);
    if (t->n_dims != 1 || t->dims[0] != n)
        return assay_fail(err, ASSAY_EINPUT,
                          "tensor %s has %d dimensions, the first %lld, where one of %lld is expected", name,
                          t->n_dims, t->n_dims ? (long long)t->dims[0] : 0, (long long)n);
    if (!assay_tensor_read(out, t, 0, n))
        return assay_fail(err, ASSAY_EINPUT, "tensor %s is of type %s where floats are expected", name,
                          assay_dtype_name(t->dtype));
    int64_t at = assay_find_nonfinite(out, ASSAY_DTYPE_F32, (size_t)n);
    if (at >= 0)
        return assay_fail(err, ASSAY_EINPUT, "tensor %s holds NaN or infinity at element %lld", name,
                          (long long)at);
    return ASSAY_OK;
}
