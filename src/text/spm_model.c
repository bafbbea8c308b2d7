/* spm_model.c: tokenizer.model, the protocol buffer ModelProto of SentencePiece 0.2
 * (sentencepiece_model.proto):
 *
 *   1 pieces (repeated)   1 piece, 2 score, 3 type
 *   2 trainer_spec        3 model_type (1 Unigram, 2 BPE), 24 treat_whitespace_as_suffix, 35 byte_fallback,
 * 41 bos_id, 42 eos_id, 43 pad_id 3 normalizer_spec     2 precompiled_charsmap, 3 add_dummy_prefix, 4
 * remove_extra_whitespaces, 5 escape_whitespaces
 *
 * Ids are SentencePiece's own. Models whose Hugging Face ids are others (XLM-RoBERTa and its kin shift them)
 * need tokenizer.json and are refused. Word and character models, which nobody ships, are refused too. The file
 * of the same name that Llama 3 brings is tiktoken.c's. */
#include "text/spm_model.h"

#include <string.h>
#include "base/mem.h"
#include "text/proto.h"

typedef struct model_file {
    assay_token_text *tokens;
    float *scores;
    int32_t *types;
    size_t n, cap, cap_scores, cap_types;
    int64_t model_type, bos, eos, pad;
    bool byte_fallback;
} model_file;

static assay_status read_piece(model_file *m, const assay_proto_field *f, const char *where, assay_err *err) {
    assay_proto r = {f->data, f->data + f->n, false};
    assay_proto_field g;
    assay_token_text token = {"", 0};
    float score = 0;
    int32_t type = ASSAY_TOKEN_NORMAL;
    while (assay_proto_next(&g, &r)) {
        if (g.number == 1 && g.wire == 2) token = (assay_token_text){(const char *)g.data, (uint32_t)g.n};
        if (g.number == 2 && g.wire == 5) score = assay_proto_float(&g);
        if (g.number == 3 && g.wire == 0) type = g.value <= ASSAY_TOKEN_BYTE ? (int32_t)g.value : -1;
    }
    if (r.broken || f->n > UINT32_MAX)
        return assay_fail(err, ASSAY_EINPUT, "%s: piece %zu is broken", where, m->n);
    if (m->n == m->cap) ASSAY_TRY(assay_grow(&m->tokens, &m->cap, m->n + 1, sizeof *m->tokens, err));
    if (m->n == m->cap_scores)
        ASSAY_TRY(assay_grow(&m->scores, &m->cap_scores, m->n + 1, sizeof *m->scores, err));
    if (m->n == m->cap_types)
        ASSAY_TRY(assay_grow(&m->types, &m->cap_types, m->n + 1, sizeof *m->types, err));
    m->tokens[m->n] = token;
    m->scores[m->n] = score;
    m->types[m->n++] = type;
    return ASSAY_OK;
}

static bool read_trainer(model_file *m, assay_spm_rules *rules, const assay_proto_field *f) {
    assay_proto r = {f->data, f->data + f->n, false};
    assay_proto_field g;
    while (assay_proto_next(&g, &r)) {
        if (g.wire != 0) continue;
        switch (g.number) {
        case 3:
            m->model_type = g.value <= 4 ? (int64_t)g.value : 0;
            break;
        case 24:
            rules->suffix = g.value != 0;
            break;
        case 35:
            m->byte_fallback = g.value != 0;
            break;
        case 41:
            m->bos = (int32_t)(uint32_t)g.value;
            break;
        case 42:
            m->eos = (int32_t)(uint32_t)g.value;
            break;
        case 43:
            m->pad = (int32_t)(uint32_t)g.value;
            break;
        default:
            break;
        }
    }
    return !r.broken;
}

static assay_status read_normalizer(assay_spm_rules *rules, const assay_proto_field *f, const char *where,
                                    assay_err *err) {
    assay_proto r = {f->data, f->data + f->n, false};
    assay_proto_field g;
    while (assay_proto_next(&g, &r)) {
        if (g.number == 2 && g.wire == 2) {
            assay_charsmap_free(&rules->map);
            ASSAY_TRY(assay_charsmap_new(&rules->map, g.data, g.n, where, err));
        }
        if (g.wire != 0) continue;
        if (g.number == 3) rules->prefix = g.value != 0;
        if (g.number == 4) rules->trim = g.value != 0;
        if (g.number == 5) rules->keep_spaces = g.value == 0;
    }
    return r.broken ? assay_fail(err, ASSAY_EINPUT, "%s: normalizer_spec is broken", where) : ASSAY_OK;
}

static assay_status read_file(model_file *m, assay_spm_rules *rules, const void *data, size_t n,
                              const char *where, assay_err *err) {
    assay_proto r = {data, (const uint8_t *)data + n, false};
    assay_proto_field f;
    rules->prefix = rules->trim = true; /* the defaults of the format, as are those below */
    *m = (model_file){.model_type = 1, .bos = 1, .eos = 2, .pad = -1};
    while (assay_proto_next(&f, &r)) {
        if (f.wire != 2) continue;
        if (f.number == 1) ASSAY_TRY(read_piece(m, &f, where, err));
        if (f.number == 2 && !read_trainer(m, rules, &f))
            return assay_fail(err, ASSAY_EINPUT, "%s: trainer_spec is broken", where);
        if (f.number == 3) ASSAY_TRY(read_normalizer(rules, &f, where, err));
    }
    if (r.broken)
        return assay_fail(err, ASSAY_EINPUT, "%s: not a SentencePiece model: broken at byte %zu of %zu",
                          where, (size_t)(r.p - (const uint8_t *)data), n);
    if (m->model_type != 1 && m->model_type != 2)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s: a SentencePiece model of type %s is not supported, only BPE and Unigram are",
                          where,
                          m->model_type == 3   ? "word"
                          : m->model_type == 4 ? "char"
                                               : "unknown");
    return ASSAY_OK;
}

static int32_t in_range(int64_t id, const model_file *m) {
    return id >= 0 && (uint64_t)id < m->n ? (int32_t)id : -1;
}

assay_status assay_spm_model_read(assay_tokenizer *t, const void *data, size_t n, const assay_spm_config *c,
                                  const char *where, assay_err *err) {
    model_file m = {0};
    assay_status s;
    ASSAY_GO(read_file(&m, &t->spm, data, n, where, err));
    assay_spm_pieces pieces = {.tokens = m.tokens,
                               .scores = m.scores,
                               .types = m.types,
                               .n = m.n,
                               .unigram = m.model_type == 1,
                               .byte_fallback = m.byte_fallback};
    ASSAY_GO(assay_spm_build(t, &pieces, where, err));
    if (t->unk < 0) {
        s = assay_fail(err, ASSAY_EINPUT, "%s: no piece is the unknown one", where);
        goto out;
    }
    t->bos = in_range(m.bos, &m);
    t->eos = in_range(m.eos, &m);
    t->pad = in_range(m.pad, &m);
    t->add_bos = m.model_type == 2; /* as Llama and Gemma do, and T5 */
    t->add_eos = m.model_type == 1;
    ASSAY_GO(assay_spm_config_read(t, c, where, err));
    ASSAY_GO(assay_tokenizer_index(t, err));
    s = assay_tokenizer_wrap(t, err);
out:
    assay_free(m.tokens);
    assay_free(m.scores);
    assay_free(m.types);
    return s;
}
