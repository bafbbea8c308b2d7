/* inspect.c: what a checkpoint is: architecture, how each part is stored and what that costs, tokenizer, chat
 * template.
 *
 * Every tensor that the architecture calls for is looked up as the runtime would bind it, so a checkpoint
 * that inspects cleanly is complete; what the file holds beyond that is listed as extra. Nothing of the
 * weights is read but headers, except for --hash. */
#include <stdio.h>
#include <string.h>
#include "api/doc.h"
#include "base/file.h"
#include "base/gguf.h"
#include "base/mem.h"
#include "format/format.h"
#include "format/runtimes.h"
#include "format/traps.h"
#include "model/arch.h"
#include "report/table.h"
#include "text/text.h"

enum { PART_LINEAR, PART_EMBEDDING, PART_HEAD, PART_VECTOR, N_PARTS };
static const char *const part_names[N_PARTS] = {"decoder matrices", "embedding", "head", "norms and biases"};

/* All tensors of one part that are stored the same way. */
typedef struct group {
    int part;
    char storage[48];
    size_t n;
    double params, bits, code_bits;
} group;

typedef struct inspection {
    const assay_config *config;
    const assay_checkpoint *ckpt;
    assay_convention convention;
    char storages[32][100]; /* kinds of storage among matrices, in the words of runtimes.def */
    size_t n_storages;
    group groups[64];
    size_t n_groups;
    double params, bits, code_bits;
    json_t *tensors;    /* NULL unless asked for */
    assay_table *table; /* NULL unless asked for */
} inspection;

static void describe_matrix(char *buf, size_t n, const assay_matrix *m) {
    const char *name = assay_precision_name(m->precision);
    const char *zeros = m->zeros ? ", asymmetric" : m->real_zeros ? ", real zeros" : "";
    switch (assay_precision_get_kind(m->precision)) {
    case ASSAY_KIND_DENSE:
    case ASSAY_KIND_BLOCK:
        snprintf(buf, n, "%s", name);
        return;
    case ASSAY_KIND_CODEBOOK:
        snprintf(buf, n, "%s block %lld%s", name, (long long)m->group_size,
                 m->nested ? ", double quant" : "");
        return;
    case ASSAY_KIND_FLOAT:
        if (m->row_block > 1 && m->group_size)
            snprintf(buf, n, "%s block %lld x %lld", name, (long long)m->row_block, (long long)m->group_size);
        else if (m->row_block > 1)
            snprintf(buf, n, "%s per tensor", name);
        else if (m->group_size)
            snprintf(buf, n, "%s group %lld", name, (long long)m->group_size);
        else
            snprintf(buf, n, "%s per channel", name);
        return;
    case ASSAY_KIND_INT:
        if (m->group_size)
            snprintf(buf, n, "%s group %lld%s", name, (long long)m->group_size,
                     zeros);
        else
            snprintf(buf, n, "%s per channel%s", name, zeros);
        return;
    }
}

static assay_status add(inspection *in, int part, const char *storage, double params, double bits,
                        double code_bits, assay_err *err) {
    group *g = NULL;
    for (size_t i = 0; i < in->n_groups && !g; i++)
        if (in->groups[i].part == part && !strcmp(in->groups[i].storage, storage)) g = &in->groups[i];
    if (!g) {
        if (in->n_groups == ASSAY_LEN(in->groups))
            return assay_fail(err, ASSAY_EUNSUPPORTED, "more than 64 kinds of storage");
        g = &in->groups[in->n_groups++];
        *g = (group){.part = part};
        snprintf(g->storage, sizeof g->storage, "%s", storage);
    }
    g->n++;
    g->params += params;
    g->bits += bits;
    g->code_bits += code_bits;
    in->params += params;
    in->bits += bits;
    in->code_bits += code_bits;
    return ASSAY_OK;
}

/* Remembers a kind of storage. Beyond 32 kinds the rest is not told. */
static void note_storage(inspection *in, const assay_matrix *m) {
    char text[100];
    assay_storage_describe(text, sizeof text, in->convention, m);
    for (size_t i = 0; i < in->n_storages; i++)
        if (!strcmp(in->storages[i], text)) return;
    if (in->n_storages < ASSAY_LEN(in->storages)) snprintf(in->storages[in->n_storages++], sizeof in->storages[0], "%s", text);
}

static assay_status list_tensor(inspection *in, const assay_tensor_spec *spec, const char *storage,
                                double bits, assay_err *err) {
    double params = (double)spec->rows * (double)spec->cols;
    if (in->tensors) {
        json_t *t = json_pack("{s:s, s:[I,I], s:s, s:f}", "name", spec->name, "shape", (json_int_t)spec->rows,
                              (json_int_t)spec->cols, "storage", storage, "bits_per_weight", bits / params);
        if (!t || json_array_append_new(in->tensors, t)) return assay_nomem(err);
    }
    if (in->table) {
        assay_table_cell(in->table, ASSAY_TONE_NONE, "%s", spec->name);
        if (spec->is_vector)
            assay_table_cell(in->table, ASSAY_TONE_NONE, "%lld", (long long)spec->rows);
        else
            assay_table_cell(in->table, ASSAY_TONE_NONE, "%lld x %lld", (long long)spec->rows,
                             (long long)spec->cols);
        assay_table_cell(in->table, ASSAY_TONE_NONE, "%s", storage);
        assay_table_cell(in->table, ASSAY_TONE_NONE, "%.3f", bits / params);
    }
    return ASSAY_OK;
}

static assay_status visit(void *ctx, const assay_tensor_spec *spec, assay_err *err) {
    inspection *in = ctx;
    char storage[48];
    double bits, code_bits, params = (double)spec->rows * (double)spec->cols;
    int part = spec->is_linear      ? PART_LINEAR
               : spec->is_embedding ? PART_EMBEDDING
               : spec->is_head      ? PART_HEAD
                                    : PART_VECTOR;
    if (spec->is_vector) {
        const assay_tensor *t = assay_checkpoint_find(in->ckpt, spec->name);
        if (!t) return assay_fail(err, ASSAY_ENOTFOUND, "tensor '%s' is missing", spec->name);
        if (assay_tensor_n_elements(t) != spec->rows)
            return assay_fail(err, ASSAY_EINPUT, "tensor '%s' has %lld elements, the architecture wants %lld",
                              spec->name, (long long)assay_tensor_n_elements(t), (long long)spec->rows);
        snprintf(storage, sizeof storage, "%s", assay_dtype_name(t->dtype));
        for (char *p = storage; *p; p++)
            if (*p >= 'A' && *p <= 'Z') *p = (char)(*p + 32);
        bits = code_bits = 8.0 * (double)t->n_bytes;
    } else {
        assay_matrix m = {0};
        ASSAY_TRY(assay_checkpoint_matrix(&m, in->ckpt, in->config->quantization_config, spec->name,
                                          spec->rows, spec->cols, in->config->dtype, err));
        describe_matrix(storage, sizeof storage, &m);
        note_storage(in, &m);
        bits = assay_matrix_bits(&m, &code_bits, NULL);
        assay_matrix_deinit(&m);
    }
    ASSAY_TRY(add(in, part, storage, params, bits, code_bits, err));
    return list_tensor(in, spec, storage, bits, err);
}

/* --- the answer --- */

static void put_config(assay_str *t, const char *model, const assay_config *c, double params) {
    assay_str_printf(t, "%s\n", model);
    assay_str_printf(t, "  architecture   %s, %.4g %s parameters\n", c->architecture,
                     params >= 1e9 ? params / 1e9 : params / 1e6, params >= 1e9 ? "billion" : "million");
    assay_str_printf(t, "  layers         %lld, hidden %lld, feed-forward %lld, vocabulary %lld%s\n",
                     (long long)c->n_layers, (long long)c->hidden_size, (long long)c->intermediate_size,
                     (long long)c->vocab_size, c->tie_word_embeddings ? ", tied embeddings" : "");
    assay_str_printf(t, "  attention      %lld heads, %lld KV heads, head size %lld", (long long)c->n_heads,
                     (long long)c->n_kv_heads, (long long)c->head_dim);
    if (c->kv_rank)
        assay_str_printf(t, ", latents of %lld + %lld cached for all", (long long)c->kv_rank, (long long)c->rotary_dim);
    if (c->sliding_window) assay_str_printf(t, ", window %lld", (long long)c->sliding_window);
    assay_str_printf(t, "\n  context        %lld, rope theta %g", (long long)c->max_position_embeddings,
                     c->rope.theta);
    if (c->rope.kind > ASSAY_ROPE_DEFAULT) assay_str_printf(t, ", %s scaling x%g", assay_rope_word(c->rope.kind), c->rope.factor);
    assay_str_putc(t, '\n');
}

static const assay_column group_columns[] = {{.head = "part"},
                                             {.head = "stored as", .shrink = true, .least = 16},
                                             {.head = "tensors", .right = true},
                                             {.head = "parameters", .right = true},
                                             {.head = "size", .right = true},
                                             {.head = "bits/weight", .right = true}};

static assay_status put_groups(assay_str *text, json_t *parts, const inspection *in, const assay_term *term,
                               assay_err *err) {
    assay_table t;
    assay_table_init(&t, group_columns, ASSAY_LEN(group_columns));
    char size[32];
    assay_status s = ASSAY_OK;
    for (int part = 0; part < N_PARTS; part++)
        for (size_t i = 0; i < in->n_groups; i++) {
            const group *g = &in->groups[i];
            if (g->part != part) continue;
            assay_table_cell(&t, ASSAY_TONE_NONE, "%s", part_names[part]);
            assay_table_cell(&t, ASSAY_TONE_NONE, "%s", g->storage);
            assay_table_cell(&t, ASSAY_TONE_NONE, "%zu", g->n);
            assay_table_cell(&t, ASSAY_TONE_NONE, "%.0f", g->params);
            assay_table_cell(&t, ASSAY_TONE_NONE, "%s", assay_format_bytes(size, sizeof size, g->bits / 8));
            assay_table_cell(&t, ASSAY_TONE_NONE, "%.3f", g->bits / g->params);
            json_t *j = json_pack("{s:s, s:s, s:I, s:f, s:f, s:f}", "part", part_names[part], "storage",
                                  g->storage, "tensors", (json_int_t)g->n, "parameters", g->params, "bytes",
                                  g->bits / 8, "bits_per_weight", g->bits / g->params);
            if (!j || json_array_append_new(parts, j)) s = assay_nomem(err);
        }
    assay_table_rule(&t);
    assay_table_cell(&t, ASSAY_TONE_BOLD, "all");
    assay_table_cell(&t, ASSAY_TONE_NONE, "%s", "");
    assay_table_cell(&t, ASSAY_TONE_NONE, "%s", "");
    assay_table_cell(&t, ASSAY_TONE_BOLD, "%.0f", in->params);
    assay_table_cell(&t, ASSAY_TONE_BOLD, "%s", assay_format_bytes(size, sizeof size, in->bits / 8));
    assay_table_cell(&t, ASSAY_TONE_BOLD, "%.3f", in->bits / in->params);
    if (s == ASSAY_OK) s = assay_table_text(text, &t, term, err);
    assay_table_free(&t);
    return s;
}

static assay_status put_text_side(assay_str *text, json_t *j, const char *model, assay_err *err) {
    assay_tokenizer *tok = NULL;
    assay_template *tpl = NULL;
    assay_err e = {0};
    if (assay_tokenizer_open(&tok, model, &e) == ASSAY_OK) {
        assay_str_printf(text, "\ntokenizer      %d tokens", assay_tokenizer_n_vocab(tok));
        if (assay_tokenizer_bos(tok) >= 0)
            assay_str_printf(text, ", begins with %s", assay_tokenizer_token(tok, assay_tokenizer_bos(tok)));
        if (assay_tokenizer_eos(tok) >= 0)
            assay_str_printf(text, ", ends with %s", assay_tokenizer_token(tok, assay_tokenizer_eos(tok)));
        assay_str_putc(text, '\n');
        ASSAY_TRY(assay_doc_set(j, "tokenizer",
                                json_pack("{s:i, s:s}", "n_vocab", (int)assay_tokenizer_n_vocab(tok),
                                          "sha256", assay_tokenizer_hash(tok)),
                                err));
    } else {
        assay_str_printf(text, "\ntokenizer      none usable: %s\n", e.message);
        ASSAY_TRY(assay_doc_set(j, "tokenizer", json_null(), err));
    }
    assay_tokenizer_close(tok);
    e = (assay_err){0};
    assay_status s = assay_template_open(&tpl, model, &e);
    assay_str_printf(text, "chat template  %s\n",
                     s == ASSAY_OK          ? "yes"
                     : s == ASSAY_ENOTFOUND ? "none"
                                            : e.message);
    json_t *hash = s == ASSAY_OK ? json_string(assay_template_hash(tpl)) : json_null();
    assay_template_close(tpl);
    return assay_doc_set(j, "chat_template", hash, err);
}

static assay_status put_extras(assay_str *text, json_t *j, const assay_checkpoint *ckpt, const inspection *in,
                               bool hash, assay_err *err) {
    char size[32], hex[65];
    assay_str_printf(text, "\nin the file    %zu tensors, %s; %.3f bits per weight, %.3f of them codes\n",
                     assay_checkpoint_n_tensors(ckpt),
                     assay_format_bytes(size, sizeof size, (double)assay_checkpoint_n_bytes(ckpt)),
                     in->bits / in->params, in->code_bits / in->params);
    ASSAY_TRY(assay_doc_set(j, "file_bytes", json_real((double)assay_checkpoint_n_bytes(ckpt)), err));
    ASSAY_TRY(assay_doc_set(j, "raw_bits_per_weight", json_real(in->code_bits / in->params), err));
    ASSAY_TRY(assay_doc_set(j, "bits_per_weight", json_real(in->bits / in->params), err));
    if (!hash) return ASSAY_OK;
    ASSAY_TRY(assay_checkpoint_hash(hex, ckpt, err));
    assay_str_printf(text, "sha256         %s\n", hex);
    return assay_doc_set(j, "sha256", json_string(hex), err);
}

/* --- traps and runtimes --- */

static assay_status put_traps(assay_str *text, json_t *j, const assay_checkpoint *ckpt, const assay_config *c, const char *folder,
                              assay_err *err) {
    assay_trap traps[ASSAY_TRAP_COUNT];
    json_t *list = json_array(), *config = json_pack("{s:b}", "tie_word_embeddings", c->tie_word_embeddings);
    assay_status s = list && config ? ASSAY_OK : assay_nomem(err);
    const char *dtype = c->dtype == ASSAY_DTYPE_F32 ? "float32" : c->dtype == ASSAY_DTYPE_F16 ? "float16" : "bfloat16";
    if (s == ASSAY_OK && (json_object_set_new(config, "dtype", json_string(dtype)) ||
                          (c->quantization_config && json_object_set(config, "quantization_config", c->quantization_config))))
        s = assay_nomem(err);
    if (s == ASSAY_OK) s = assay_traps_find(traps, ckpt, config, folder, err);
    json_decref(config);
    for (int i = 0; s == ASSAY_OK && i < ASSAY_TRAP_COUNT; i++) {
        if (!traps[i].n) continue;
        assay_str_printf(text, "trap           %s: %s; %s%s", assay_trap_name((assay_trap_id)i), assay_trap_text((assay_trap_id)i),
                         traps[i].n > 1 ? "first " : "", traps[i].where);
        if (traps[i].n > 1) assay_str_printf(text, ", %zu in all", traps[i].n);
        assay_str_putc(text, '\n');
        if (json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I}", "id", assay_trap_name((assay_trap_id)i), "text",
                                                  assay_trap_text((assay_trap_id)i), "first", traps[i].where, "count", (json_int_t)traps[i].n)))
            s = assay_nomem(err);
    }
    if (s == ASSAY_OK) return assay_doc_set(j, "traps", list, err);
    json_decref(list);
    return s;
}

static const assay_column runtime_columns[] = {{.head = "runtime"},
                                               {.head = "computes"},
                                               {.head = "source", .right = true},
                                               {.head = "note", .shrink = true, .least = 20}};

/* The worst rule among the kinds of storage, which decides about the model. */
static assay_runtime_rule worst_rule(const char *runtime, const inspection *in, const char **storage) {
    assay_runtime_rule worst = {.how = ASSAY_SUPPORT_NATIVE, .note = ""};
    *storage = "";
    for (size_t i = 0; i < in->n_storages; i++) {
        assay_runtime_rule r = assay_runtime_rule_for(runtime, in->storages[i]);
        if (i && r.how < worst.how) continue;
        if (i && r.how == worst.how && !strncmp(in->storages[i], "hf ", 3)) continue;
        worst = r;
        *storage = in->storages[i];
    }
    return worst;
}

static assay_status put_runtimes(assay_str *text, json_t *j, const inspection *in, const assay_term *term, assay_err *err) {
    static const assay_tone tones[] = {ASSAY_TONE_GOOD, ASSAY_TONE_OPEN, ASSAY_TONE_DIM, ASSAY_TONE_BAD};
    assay_table t;
    assay_str sources = {0};
    json_t *list = json_array();
    ASSAY_TRY(assay_doc_set(j, "runtimes", list, err));
    assay_table_init(&t, runtime_columns, ASSAY_LEN(runtime_columns));
    assay_status s = ASSAY_OK;
    for (size_t i = 0; assay_runtime_name(i) && s == ASSAY_OK; i++) {
        const char *storage, *runtime = assay_runtime_name(i);
        assay_runtime_rule r = worst_rule(runtime, in, &storage);
        const assay_runtime_source *source = assay_runtime_source_find(r.source);
        assay_table_cell(&t, ASSAY_TONE_NONE, "%s", runtime);
        assay_table_cell(&t, tones[r.how], "%s", assay_support_word(r.how));
        assay_table_cell(&t, ASSAY_TONE_NONE, source ? "[%zu]" : "-", i + 1);
        assay_table_cell(&t, ASSAY_TONE_NONE, "%s", source ? r.note : "nothing was found that says it");
        if (source) assay_str_printf(&sources, "  [%zu] %s, read %s\n      %s\n", i + 1, source->title, source->date, source->url);
        json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?}", "runtime", runtime, "support", assay_support_word(r.how), "storage",
                                storage, "note", r.note, "source", source ? source->title : NULL, "url", source ? source->url : NULL, "date",
                                source ? source->date : NULL);
        if (!row || json_array_append_new(list, row)) s = assay_nomem(err);
    }
    assay_str_putc(text, '\n');
    if (s == ASSAY_OK) s = assay_table_text(text, &t, term, err);
    assay_str_put(text, assay_str_c(&sources));
    if (s == ASSAY_OK) s = assay_str_status(&sources, err);
    assay_str_free(&sources);
    assay_table_free(&t);
    return s;
}

static const assay_column tensor_columns[] = {{.head = "tensor", .shrink = true, .least = 24},
                                              {.head = "shape", .right = true},
                                              {.head = "stored as"},
                                              {.head = "bits/weight", .right = true}};

static assay_status fill(assay_str *text, json_t *j, const char *model, const assay_config *c,
                         const assay_checkpoint *ckpt, const assay_inspect_opts *o, assay_err *err) {
    assay_term term = assay_term_of_view(&o->view);
    assay_table table;
    inspection in = {.config = c, .ckpt = ckpt};
    json_t *parts = json_array();
    ASSAY_TRY(assay_doc_set(j, "parts", parts, err));
    if (o->tensors) {
        in.tensors = json_array();
        ASSAY_TRY(assay_doc_set(j, "tensors", in.tensors, err));
    }
    assay_table_init(&table, tensor_columns, ASSAY_LEN(tensor_columns));
    if (o->tensors) in.table = &table;
    assay_status s;
    ASSAY_GO(assay_convention_detect(&in.convention, c->quantization_config, err));
    if (assay_checkpoint_is_gguf(ckpt)) in.convention = ASSAY_CONVENTION_GGUF;
    ASSAY_GO(assay_config_each_tensor(c, visit, &in, err));
    put_config(text, model, c, in.params);
    if (in.convention == ASSAY_CONVENTION_GGUF)
        assay_str_put(text, "  format         gguf\n\n");
    else
        assay_str_printf(text, "  format         safetensors, %s convention\n\n", assay_convention_name(in.convention));
    ASSAY_GO(assay_doc_set(j, "architecture", json_string(c->architecture), err));
    ASSAY_GO(assay_doc_set(j, "parameters", json_real(in.params), err));
    ASSAY_GO(assay_doc_set(j, "convention", json_string(assay_convention_name(in.convention)), err));
    ASSAY_GO(put_groups(text, parts, &in, &term, err));
    ASSAY_GO(put_extras(text, j, ckpt, &in, o->hash, err));
    ASSAY_GO(put_text_side(text, j, model, err));
    ASSAY_GO(put_traps(text, j, ckpt, c, assay_path_is_dir(model) ? model : NULL, err));
    if (o->runtimes) ASSAY_GO(put_runtimes(text, j, &in, &term, err));
    if (o->tensors) {
        assay_str_putc(text, '\n');
        ASSAY_GO(assay_table_text(text, &table, &term, err));
    }
out:
    assay_table_free(&table);
    return s;
}

assay_status assay_inspect(assay_doc **out, const char *model, const assay_inspect_opts *o, assay_err *err) {
    static const assay_inspect_opts defaults;
    *out = NULL;
    if (!o) o = &defaults;
    assay_config c = {0};
    assay_checkpoint *ckpt = NULL;
    assay_str text = {0};
    json_t *j = NULL;
    assay_status s;
    ASSAY_GO(assay_config_open(&c, model, err));
    ASSAY_GO(assay_checkpoint_open(&ckpt, model, err));
    j = json_pack("{s:s, s:s}", "schema", "assay.inspect/1", "model", model);
    if (!j) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(fill(&text, j, model, &c, ckpt, o, err));
    s = assay_doc_make(out, &text, j, 0, err);
    j = NULL;
out:
    json_decref(j);
    assay_str_free(&text);
    assay_checkpoint_close(ckpt);
    assay_config_deinit(&c);
    return s;
}
