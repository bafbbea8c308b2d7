/* detok.c: ids to text, at once or one by one; both run the decoder chain of decode.c.
 *
 * Special tokens are left out by id. (tokenizers 0.23 compares the normalized content with the special
 * contents, so that a special token with normalized=true, as in Llama 2, survives skip_special_tokens there;
 * earlier versions skip it as we do.) */
#include "base/mem.h"
#include "text/tokenizer.h"

struct assay_detok {
    const assay_tokenizer *t; /* borrowed */
    assay_chain *chain;
    bool skip_special;
};

assay_status assay_detok_new(assay_detok **out, const assay_tokenizer *t, bool skip_special, assay_err *err) {
    assay_detok *d = assay_calloc(1, sizeof *d);
    if (!d) return assay_nomem(err);
    d->t = t;
    d->skip_special = skip_special;
    assay_status s = assay_chain_new(&d->chain, &t->decoders, err);
    if (s != ASSAY_OK) {
        assay_free(d);
        return s;
    }
    *out = d;
    return ASSAY_OK;
}

assay_status assay_detok_push(assay_detok *d, assay_str *out, int32_t id, assay_err *err) {
    const assay_tokenizer *t = d->t;
    if (id < 0 || (size_t)id >= t->n_tokens || !t->tokens[id].content.s)
        return assay_fail(err, ASSAY_EINPUT, "token id %d is not in the vocabulary of %zu", id, t->n_tokens);
    if (d->skip_special && t->tokens[id].special) return ASSAY_OK;
    return assay_chain_token(d->chain, out, t->tokens[id].decode.s, t->tokens[id].decode.n, err);
}

assay_status assay_detok_finish(assay_detok *d, assay_str *out, assay_err *err) {
    return assay_chain_finish(d->chain, out, err);
}

void assay_detok_free(assay_detok *d) {
    if (!d) return;
    assay_chain_free(d->chain);
    assay_free(d);
}

assay_status assay_tokenizer_decode(assay_str *out, const assay_tokenizer *t, const int32_t *ids, size_t n,
                                    bool skip_special, assay_err *err) {
    assay_detok *d = NULL;
    ASSAY_TRY(assay_detok_new(&d, t, skip_special, err));
    assay_status s = ASSAY_OK;
    for (size_t i = 0; i < n && s == ASSAY_OK; i++)
        s = assay_detok_push(d, out, ids[i], err);
    if (s == ASSAY_OK) s = assay_detok_finish(d, out, err);
    assay_detok_free(d);
    return s;
}
