/* gguf_write.c: the files of a GGUF model: which tensor stands where, and their headers.
 *
 *   header                   "GGUF", metadata, one entry a tensor; filled up to 32 bytes
 *   tensor, tensor, ...      each filled up to 32 bytes; experts of a stack follow each other without
 *
 * Outside the layers first, then layer by layer, by name in each: the order of llama.cpp's own tools. Splits are cut between tensors,
 * named NAME-00001-of-0000N.gguf, and tell split.no, split.count and split.tensors.count; the first alone has the metadata. */
#include "format/gguf_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/writer_plan.h"

enum { ALIGNMENT = 32 };

/* --- the target --- */

void assay_gguf_output_free(assay_gguf_output *o) {
    if (!o) return;
    json_decref(o->config);
    assay_free(o->base);
    assay_free(o->name);
    assay_free(o->license);
    assay_str_free(&o->values);
    assay_free(o);
}

/* Qwen's models may leave experts out of some layers; llama.cpp wants them in all. */
static assay_status check_experts(const assay_gguf_output *o, assay_err *err) {
    bool listed = json_array_size(json_object_get(o->config, "mlp_only_layers")) > 0;
    if (o->arch->family != ASSAY_GGUF_QWEN_MOE || (!listed && json_integer_value(json_object_get(o->config, "decoder_sparse_step")) <= 1))
        return ASSAY_OK;
    return assay_fail(err, ASSAY_EUNSUPPORTED, "config.json: some layers have no experts (%s): GGUF cannot say so",
                      listed ? "mlp_only_layers" : "decoder_sparse_step");
}

static assay_status take_config(assay_gguf_output *o, const json_t *config, assay_err *err) {
    o->arch = assay_gguf_arch_of_config(config);
    if (!o->arch) {
        const char *class_name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
        return assay_fail(err, ASSAY_EUNSUPPORTED, "architecture '%.64s' has no GGUF form here", class_name ? class_name : "?");
    }
    json_t *given = json_deep_copy(config);
    o->config = json_loads(o->arch->defaults, 0, NULL);
    bool merged = given && o->config && json_object_update(o->config, given) == 0;
    json_decref(given);
    if (!merged) return assay_nomem(err);
    bool gpt2 = o->arch->family == ASSAY_GGUF_GPT2;
    o->n_heads = json_integer_value(json_object_get(o->config, gpt2 ? "n_head" : "num_attention_heads"));
    const json_t *kv = json_object_get(o->config, "num_key_value_heads");
    o->n_kv_heads = json_is_integer(kv) ? json_integer_value(kv) : o->n_heads;
    return check_experts(o, err);
}

static char *base_of(const char *file) {
    size_t n = file ? strlen(file) : 0;
    if (n > 5 && strcmp(file + n - 5, ".gguf") == 0) n -= 5;
    return n ? assay_strndup(file, n) : assay_strdup("model");
}

assay_status assay_ckpt_writer_set_gguf(assay_ckpt_writer *w, const assay_gguf_target *t, assay_err *err) {
    if (w->n_tensors && !w->tensors[0].to)
        return assay_fail(err, ASSAY_EINPUT, "%s: what was begun there is no GGUF file: remove its .partial-* files", w->dir);
    assay_gguf_output_free(w->gguf);
    assay_gguf_output *o = w->gguf = assay_calloc(1, sizeof *o);
    if (!o) return assay_nomem(err);
    o->file_type = t->file_type;
    o->n_values = t->n_values;
    o->base = base_of(t->file);
    o->name = t->name ? assay_strdup(t->name) : NULL;
    o->license = t->license ? assay_strdup(t->license) : NULL;
    assay_str_putn(&o->values, t->values, t->n_value_bytes);
    if (!o->base || (t->name && !o->name) || (t->license && !o->license)) return assay_nomem(err);
    if (strlen(o->base) > 96)
        return assay_fail(err, ASSAY_EUSAGE, "'%s' is too long a name for a GGUF file", o->base);
    ASSAY_TRY(assay_str_status(&o->values, err));
    return take_config(o, t->config, err);
}

assay_status assay_gguf_finish(assay_ckpt_writer *w, assay_err *err) {
    float factors[512];
    const char *name;
    int64_t n;
    if (w->moved || w->placing) return ASSAY_OK;
    bool planning = assay_ckpt_writer_is_planning(w);
    for (int i = 0; i < 2; i++) {
        ASSAY_TRY(assay_gguf_factors(&name, factors, &n, w->gguf, i, err));
        if (!name || (!planning && assay_ckpt_writer_has(w, name))) continue;
        assay_tensor t = {.name = name, .dtype = ASSAY_DTYPE_F32, .n_dims = 1, .dims = {n}, .data = factors};
        ASSAY_TRY(assay_spool_add(w, &t, name, -1, err));
        ASSAY_TRY(assay_ckpt_writer_record(w, name, err));
    }
    return ASSAY_OK;
}

/* --- the layout --- */

static long layer_of(const char *name) {
    return strncmp(name, "blk.", 4) == 0 ? strtol(name + 4, NULL, 10) : -1;
}

static int by_place(const void *a, const void *b) {
    const assay_spooled *x = *(const assay_spooled *const *)a, *y = *(const assay_spooled *const *)b;
    long m = layer_of(x->to), n = layer_of(y->to);
    if (m != n) return m < n ? -1 : 1;
    int d = strcmp(x->to, y->to);
    if (d) return d;
    return (x->part > y->part) - (x->part < y->part);
}

static bool same_shape(const assay_tensor *a, const assay_tensor *b) {
    return a->n_dims == b->n_dims && a->dtype == b->dtype && a->block == b->block && a->n_bytes == b->n_bytes &&
           memcmp(a->dims, b->dims, (size_t)a->n_dims * sizeof *a->dims) == 0;
}

/* Marks what belongs to the tensor before; a stack must have all its parts, of one kind. */
static assay_status join_parts(assay_layout *l, assay_err *err) {
    for (size_t i = 0; i < l->n; i++) {
        const assay_spooled *p = l->order[i], *before = i ? l->order[i - 1] : NULL;
        l->joins[i] = before && strcmp(before->to, p->to) == 0;
        int64_t want = l->joins[i] ? before->part + 1 : 0;
        if (p->part < 0 && !l->joins[i]) continue;
        if (p->part < 0) return assay_fail(err, ASSAY_EINPUT, "%s and %s are both %s in GGUF", before->tensor.name, p->tensor.name, p->to);
        if (p->part != want)
            return assay_fail(err, ASSAY_EINPUT, "%s: of the experts that GGUF keeps in %s number %lld is missing", p->tensor.name, p->to,
                              (long long)want);
        if (l->joins[i] && !same_shape(&before->tensor, &p->tensor))
            return assay_fail(err, ASSAY_EUNSUPPORTED, "%s: GGUF stores all experts of %s alike, this one differs in type or shape", p->tensor.name,
                              p->to);
    }
    return ASSAY_OK;
}

/* Cuts the order into shards between tensors; only counts them when l->shards is NULL. */
static size_t cut(assay_layout *l, uint64_t shard_bytes) {
    size_t n_shards = 0, first = 0;
    uint64_t bytes = 0, tensor = 0;
    for (size_t i = 0; i <= l->n; i++) {
        bool begins = i < l->n && !l->joins[i];
        if (begins) {
            tensor = l->order[i]->tensor.n_bytes;
            for (size_t k = i + 1; k < l->n && l->joins[k]; k++) tensor += l->order[k]->tensor.n_bytes;
        }
        if (i == l->n || (begins && i > first && bytes + tensor > shard_bytes)) {
            if (l->shards) l->shards[n_shards] = (assay_shard){.first = first, .n = i - first};
            n_shards++;
            first = i;
            bytes = 0;
        }
        if (begins) bytes += tensor;
    }
    return n_shards;
}

assay_status assay_gguf_layout(assay_layout *l, const assay_spooled *tensors, size_t n, uint64_t shard_bytes, assay_err *err) {
    assay_status s = ASSAY_OK;
    *l = (assay_layout){.n = n, .align = ALIGNMENT};
    l->order = assay_mallocn(n + 1, sizeof *l->order);
    l->joins = assay_calloc(n + 1, sizeof *l->joins);
    if (!l->order || !l->joins) {
        s = assay_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        l->order[i] = &tensors[i];
        if (tensors[i].to) continue;
        s = assay_fail(err, ASSAY_EINPUT, "tensor %s was not written for a GGUF file: remove the .partial-* files", tensors[i].tensor.name);
        goto out;
    }
    qsort(l->order, n, sizeof *l->order, by_place);
    ASSAY_GO(join_parts(l, err));
    l->n_shards = cut(l, shard_bytes);
    l->shards = assay_calloc(l->n_shards, sizeof *l->shards);
    if (!l->shards)
        s = assay_nomem(err);
    else
        cut(l, shard_bytes);
out:
    if (s != ASSAY_OK) assay_layout_free(l);
    return s;
}

assay_status assay_gguf_name_shards(assay_layout *l, const assay_gguf_output *o, assay_err *err) {
    if (l->n_shards > 65535) return assay_fail(err, ASSAY_EUSAGE, "%zu files are more than a GGUF split can have", l->n_shards);
    for (size_t i = 0; i < l->n_shards; i++) {
        if (l->n_shards == 1)
            snprintf(l->shards[i].name, sizeof l->shards[i].name, "%.96s.gguf", o->base);
        else
            snprintf(l->shards[i].name, sizeof l->shards[i].name, "%.96s-%05zu-of-%05zu.gguf", o->base, i + 1, l->n_shards);
    }
    return ASSAY_OK;
}

/* --- headers --- */

/* llama.cpp's LLAMA_FTYPE of a file whose matrices are mostly of one type. */
static const struct {
    uint32_t ggml_type;
    int file_type;
} FILE_TYPES[] = {{0, 0},   {1, 1},   {2, 2},   {3, 3},   {8, 7},   {6, 8},   {7, 9},   {10, 10}, {11, 11}, {12, 14}, {13, 16}, {14, 18}, {16, 19},
                  {17, 20}, {18, 23}, {19, 24}, {20, 25}, {21, 26}, {22, 28}, {23, 30}, {29, 31}, {30, 32}, {34, 36}, {35, 37}, {39, 38}, {40, 39}};

/* By elements, matrices of the layers alone. *quantized: blocks anywhere. */
static int usual_file_type(const assay_layout *l, bool *quantized) {
    double elements[ASSAY_LEN(FILE_TYPES)] = {0};
    size_t best = 0;
    *quantized = false;
    for (size_t i = 0; i < l->n; i++) {
        const assay_tensor *t = &l->order[i]->tensor;
        uint32_t type = 0;
        *quantized |= t->block != 0;
        if (t->n_dims < 2 || layer_of(l->order[i]->to) < 0 || !assay_gguf_type_of(&type, t->dtype, t->block)) continue;
        for (size_t k = 0; k < ASSAY_LEN(FILE_TYPES); k++)
            if (FILE_TYPES[k].ggml_type == type) elements[k] += (double)assay_tensor_n_elements(t);
    }
    for (size_t k = 1; k < ASSAY_LEN(FILE_TYPES); k++)
        if (elements[k] > elements[best]) best = k;
    return FILE_TYPES[best].file_type;
}

static void put_text(assay_str *out, uint64_t *n, const char *key, const char *text) {
    if (!text) return;
    assay_gguf_put_string(out, key, text, strlen(text));
    ++*n;
}

static void put_number(assay_str *out, uint64_t *n, const char *key, assay_gguf_type type, int64_t v) {
    assay_gguf_put_int(out, key, type, v);
    ++*n;
}

static assay_status put_metadata(assay_str *out, uint64_t *n, const assay_gguf_output *o, const assay_layout *l, assay_err *err) {
    bool quantized;
    int usual = usual_file_type(l, &quantized);
    put_text(out, n, "general.architecture", o->arch->name);
    put_text(out, n, "general.type", "model");
    put_text(out, n, "general.name", o->name);
    put_text(out, n, "general.license", o->license);
    put_number(out, n, "general.file_type", ASSAY_GGUF_U32, o->file_type >= 0 ? o->file_type : usual);
    if (quantized) put_number(out, n, "general.quantization_version", ASSAY_GGUF_U32, 2);
    put_number(out, n, "general.alignment", ASSAY_GGUF_U32, ALIGNMENT);
    ASSAY_TRY(assay_gguf_put_config(out, n, o, err));
    assay_str_putn(out, o->values.s, o->values.len);
    *n += o->n_values;
    return ASSAY_OK;
}

static size_t count_tensors(const assay_layout *l, size_t first, size_t n) {
    size_t count = 0;
    for (size_t i = first; i < first + n; i++) count += !l->joins[i];
    return count;
}

/* Entries of a shard's tensors, dimensions innermost first; a stack has one more, or is a vector of numbers. */
static void put_tensors(assay_str *out, const assay_layout *l, const assay_shard *shard) {
    uint64_t at = 0;
    for (size_t i = shard->first; i < shard->first + shard->n;) {
        const assay_tensor *t = &l->order[i]->tensor;
        int64_t dims[4] = {1, 1, 1, 1};
        int n_dims = t->n_dims;
        uint32_t type = 0;
        size_t end = i + 1;
        uint64_t bytes = t->n_bytes;
        for (; end < shard->first + shard->n && l->joins[end]; end++) bytes += t->n_bytes;
        for (int d = 0; d < n_dims && d < 3; d++) dims[d] = t->dims[n_dims - 1 - d];
        if (l->order[i]->part >= 0) {
            if (n_dims == 1 && dims[0] == 1) n_dims = 0;
            dims[n_dims++] = (int64_t)(end - i);
        }
        assay_gguf_type_of(&type, t->dtype, t->block);
        assay_gguf_put_tensor(out, l->order[i]->to, n_dims, dims, type, at);
        at = (at + bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        i = end;
    }
}

assay_status assay_gguf_put_header(assay_str *out, const assay_ckpt_writer *w, const assay_layout *l, size_t shard, assay_err *err) {
    assay_str values = {0};
    uint64_t n = 0;
    assay_status s = shard == 0 ? put_metadata(&values, &n, w->gguf, l, err) : ASSAY_OK;
    if (l->n_shards > 1) {
        put_number(&values, &n, "split.no", ASSAY_GGUF_U16, (int64_t)shard);
        put_number(&values, &n, "split.count", ASSAY_GGUF_U16, (int64_t)l->n_shards);
        put_number(&values, &n, "split.tensors.count", ASSAY_GGUF_I32, (int64_t)count_tensors(l, 0, l->n));
    }
    if (s == ASSAY_OK) s = assay_str_status(&values, err);
    assay_gguf_put_head(out, count_tensors(l, l->shards[shard].first, l->shards[shard].n), n);
    assay_str_putn(out, values.s, values.len);
    put_tensors(out, l, &l->shards[shard]);
    assay_str_fill(out, 0, (ALIGNMENT - out->len % ALIGNMENT) % ALIGNMENT);
    assay_str_free(&values);
    return s == ASSAY_OK ? assay_str_status(out, err) : s;
}
