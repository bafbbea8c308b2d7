/* stopper.c: stop strings across token boundaries.
 *
 * The search runs on decoded text, because a stop string may begin in the middle of one token and end in
 * another. Of the stop strings found, the one that begins first cuts the text. Text that could still become
 * the beginning of a stop string is held back from on_text, so that nobody sees a part of one. The
 * detokenizer has seen the prompt's last token, whose text is dropped: a continuation is not the beginning of
 * a text, where some decoders strip a space. Special tokens leave no text; a stop string that is a special
 * token's own name is matched by its id. */
#include "runtime/stopper.h"
#include <string.h>
#include "base/mem.h"

assay_status assay_stopper_init(assay_stopper *s, const assay_tokenizer *t, const assay_generate_req *req,
                                assay_err *err) {
    *s = (assay_stopper){.req = req, .tokenizer = t};
    if (!t) return ASSAY_OK;
    ASSAY_TRY(assay_detok_new(&s->detok, t, true, err));
    int32_t last = req->ids[req->n_ids - 1];
    if (last < assay_tokenizer_n_vocab(t)) ASSAY_TRY(assay_detok_push(s->detok, &s->text, last, err));
    assay_str_clear(&s->text);
    return ASSAY_OK;
}

void assay_stopper_deinit(assay_stopper *s) {
    if (!s) return;
    assay_detok_free(s->detok);
    assay_str_free(&s->text);
    memset(s, 0, sizeof *s);
}

/* Cuts the text at the earliest stop string that ends after byte `old`. */
static void search(assay_stopper *s, size_t old) {
    size_t cut = s->text.len;
    for (int k = 0; k < s->req->n_stop; k++) {
        size_t n = strlen(s->req->stop[k]), from = old >= n ? old - n + 1 : 0;
        if (from >= s->text.len) continue;
        const char *at = memmem(s->text.s + from, s->text.len - from, s->req->stop[k], n);
        if (!at) continue;
        s->stopped = true;
        cut = ASSAY_MIN(cut, (size_t)(at - s->text.s));
    }
    if (!s->stopped) return;
    s->text.len = cut;
    s->text.s[cut] = 0;
}

/* Bytes at the end of the text that begin some stop string. */
static size_t held_back(const assay_stopper *s) {
    size_t most = 0;
    for (int k = 0; k < s->req->n_stop; k++) {
        size_t n = ASSAY_MIN(strlen(s->req->stop[k]) - 1, s->text.len);
        while (n > most && memcmp(s->text.s + s->text.len - n, s->req->stop[k], n) != 0) n--;
        most = ASSAY_MAX(most, n);
    }
    return most;
}

static void send(assay_stopper *s, size_t end) {
    if (!s->req->on_text || end <= s->sent) return;
    size_t from = s->sent;
    s->sent = end;
    if (s->req->on_text(s->req->on_text_ctx, s->text.s + from, end - from)) s->stopped = true;
}

assay_status assay_stopper_push(assay_stopper *s, int32_t id, assay_err *err) {
    size_t old = s->text.len;
    if (!s->tokenizer || id >= assay_tokenizer_n_vocab(s->tokenizer))
        return ASSAY_OK; /* a padding row of the output matrix */
    if (s->req->n_stop > 0 && assay_tokenizer_is_special(s->tokenizer, id)) {
        const char *name = assay_tokenizer_token(s->tokenizer, id);
        for (int k = 0; k < s->req->n_stop; k++)
            s->stopped = s->stopped || (name && strcmp(name, s->req->stop[k]) == 0);
        if (s->stopped) return ASSAY_OK;
    }
    ASSAY_TRY(assay_detok_push(s->detok, &s->text, id, err));
    ASSAY_TRY(assay_str_status(&s->text, err));
    if (s->text.len == old) return ASSAY_OK;
    search(s, old);
    send(s, s->stopped ? s->text.len : s->text.len - held_back(s));
    return ASSAY_OK;
}

assay_status assay_stopper_finish(assay_stopper *s, assay_err *err) {
    size_t old = s->text.len;
    if (s->tokenizer && !s->stopped) {
        ASSAY_TRY(assay_detok_finish(s->detok, &s->text, err));
        ASSAY_TRY(assay_str_status(&s->text, err));
        if (s->text.len > old) search(s, old);
    }
    send(s, s->text.len);
    return ASSAY_OK;
}
