/* decode.c: the decoders of tokenizer.json as transducers.
 *
 * The original maps a list of token strings through one decoder after another and joins what is left. Here
 * each decoder is a stage that receives the same list in pieces: text() brings a part of the current token
 * (always whole characters), end() closes the token, close() the list; it passes its own output on to the
 * next stage in the same way. Decoding a whole sequence and decoding it token by token are therefore one code
 * path, and agree for every prefix:
 *
 *   token ─► Replace ─► ByteFallback ─► Fuse ─► Strip ─► out          (Llama 2)
 *   token ─► ByteLevel ─► out                                         (GPT-2, Llama 3, Qwen)
 *
 * What is held back: ByteLevel an unfinished UTF-8 sequence; ByteFallback a run of bytes up to its end,
 * because one bad byte turns the whole run into U+FFFD; Strip the characters it may have to cut off at the
 * end; the others nothing beyond the token. */
#include "text/decode.h"

#include <string.h>
#include "base/mem.h"
#include "text/unicode.h"

typedef struct assay_stage {
    const struct assay_stage_ops *ops;
    const assay_step *step;
    assay_str token; /* text of the current token so far, for stages that need it whole */
    assay_str hold;  /* what is held back across tokens */
    size_t count;    /* tokens seen; Strip: characters looked at in this token */
    bool open;       /* Strip: still cutting at the start; BPEDecoder: a token is held */
} assay_stage;

typedef struct assay_stage_ops {
    assay_status (*text)(assay_chain *c, size_t k, const char *s, size_t n, assay_err *err);
    assay_status (*end)(assay_chain *c, size_t k, assay_err *err);
    assay_status (*close)(assay_chain *c, size_t k, assay_err *err);
} assay_stage_ops;

struct assay_chain {
    assay_str *out; /* during a call */
    size_t n;
    assay_stage *stages;
};

/* ---- passing on ---- */

static assay_status pass_text(assay_chain *c, size_t k, const char *s, size_t n, assay_err *err) {
    if (n == 0) return ASSAY_OK;
    if (k + 1 < c->n) return c->stages[k + 1].ops->text(c, k + 1, s, n, err);
    assay_str_putn(c->out, s, n);
    return ASSAY_OK;
}
static assay_status pass_end(assay_chain *c, size_t k, assay_err *err) {
    return k + 1 < c->n ? c->stages[k + 1].ops->end(c, k + 1, err) : ASSAY_OK;
}
static assay_status pass_close(assay_chain *c, size_t k, assay_err *err) {
    return k + 1 < c->n ? c->stages[k + 1].ops->close(c, k + 1, err) : ASSAY_OK;
}
/* A whole token. */
static assay_status pass_token(assay_chain *c, size_t k, const char *s, size_t n, assay_err *err) {
    ASSAY_TRY(pass_text(c, k, s, n, err));
    return pass_end(c, k, err);
}
static assay_status keep_text(assay_chain *c, size_t k, const char *s, size_t n, assay_err *err) {
    assay_str_putn(&c->stages[k].token, s, n);
    return assay_str_status(&c->stages[k].token, err);
}

/* ---- ByteLevel: alphabet to bytes, bytes to UTF-8 ---- */

/* Passes on what of hold is certain; at the end of the list everything is. */
static assay_status flush_utf8(assay_chain *c, size_t k, bool last, assay_err *err) {
    assay_str *h = &c->stages[k].hold;
    size_t i = 0;
    while (i < h->len) {
        size_t bad;
        bool cut;
        size_t good = assay_utf8_valid(&bad, &cut, h->s + i, h->len - i);
        ASSAY_TRY(pass_text(c, k, h->s + i, good, err));
        i += good;
        if (!bad || (cut && !last)) break;
        ASSAY_TRY(pass_text(c, k, "\xEF\xBF\xBD", 3, err));
        i += bad;
    }
    if (i && i < h->len) memmove(h->s, h->s + i, h->len - i);
    h->len -= i;
    return ASSAY_OK;
}

/* A token with a character outside the alphabet counts as it is. */
static assay_status byte_level_end(assay_chain *c, size_t k, assay_err *err) {
    assay_str *h = &c->stages[k].hold, *t = &c->stages[k].token;
    size_t before = h->len;
    for (size_t i = 0, len; i < t->len; i += len) {
        int b = assay_char_to_byte(assay_utf8_next(&len, t->s + i, t->len - i));
        if (b < 0) {
            h->len = before;
            assay_str_putn(h, t->s, t->len);
            break;
        }
        assay_str_putc(h, (char)b);
    }
    assay_str_clear(t);
    ASSAY_TRY(assay_str_status(h, err));
    return flush_utf8(c, k, false, err);
}
static assay_status byte_level_close(assay_chain *c, size_t k, assay_err *err) {
    ASSAY_TRY(flush_utf8(c, k, true, err));
    ASSAY_TRY(pass_end(c, k, err));
    return pass_close(c, k, err);
}
static const assay_stage_ops stage_byte_level = {keep_text, byte_level_end, byte_level_close};

/* ---- Fuse: one token out of all ---- */

static assay_status nothing(assay_chain *c, size_t k, assay_err *err) {
    (void)c, (void)k, (void)err;
    return ASSAY_OK;
}
static assay_status fuse_close(assay_chain *c, size_t k, assay_err *err) {
    ASSAY_TRY(pass_end(c, k, err));
    return pass_close(c, k, err);
}
static const assay_stage_ops stage_fuse = {pass_text, nothing, fuse_close};

/* ---- ByteFallback: runs of "<0xHH>" to text; hold keeps the run ---- */

static int hex_digit(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    if (ch >= 'a' && ch <= 'f') return ch - 'a' + 10;
    return ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : -1;
}
static int byte_token(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int hi = hex_digit(s[3]), lo = hex_digit(s[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

static assay_status fallback_flush(assay_chain *c, size_t k, assay_err *err) {
    assay_str *h = &c->stages[k].hold;
    if (h->len == 0) return ASSAY_OK;
    size_t bad, n = h->len;
    bool cut;
    if (assay_utf8_valid(&bad, &cut, h->s, n) == n) {
        ASSAY_TRY(pass_token(c, k, h->s, n, err));
    } else {
        for (size_t i = 0; i < n; i++)
            ASSAY_TRY(pass_token(c, k, "\xEF\xBF\xBD", 3, err));
    }
    assay_str_clear(h);
    return ASSAY_OK;
}
static assay_status fallback_end(assay_chain *c, size_t k, assay_err *err) {
    assay_stage *g = &c->stages[k];
    int b = byte_token(assay_str_c(&g->token), g->token.len);
    if (b >= 0) {
        assay_str_putc(&g->hold, (char)b);
        assay_str_clear(&g->token);
        return assay_str_status(&g->hold, err);
    }
    ASSAY_TRY(fallback_flush(c, k, err));
    ASSAY_TRY(pass_token(c, k, assay_str_c(&g->token), g->token.len, err));
    assay_str_clear(&g->token);
    return ASSAY_OK;
}
static assay_status fallback_close(assay_chain *c, size_t k, assay_err *err) {
    ASSAY_TRY(fallback_flush(c, k, err));
    return pass_close(c, k, err);
}
static const assay_stage_ops stage_byte_fallback = {keep_text, fallback_end, fallback_close};

/* ---- Replace ---- */

static assay_status replace_end(assay_chain *c, size_t k, assay_err *err) {
    assay_stage *g = &c->stages[k];
    assay_str t = {0};
    assay_status s = assay_step_replace(&t, g->step, assay_str_c(&g->token), g->token.len, err);
    if (s == ASSAY_OK) s = assay_str_status(&t, err);
    assay_str_clear(&g->token);
    if (s == ASSAY_OK) s = pass_token(c, k, assay_str_c(&t), t.len, err);
    assay_str_free(&t);
    return s;
}
static const assay_stage_ops stage_replace = {keep_text, replace_end, pass_close};

/* ---- Strip: at most `start` characters off each token's front and `stop` off its back ---- */

static bool is_content(const assay_step *step, const char *s, size_t n) {
    return n == step->n_text && memcmp(s, step->text, n) == 0;
}

static assay_status strip_text(assay_chain *c, size_t k, const char *s, size_t n, assay_err *err) {
    assay_stage *g = &c->stages[k];
    size_t i = 0;
    for (size_t len; i < n && !g->open; i += len) { /* `open`: past the characters to cut at the front */
        assay_utf8_next(&len, s + i, n - i);
        if (g->count++ < g->step->start && is_content(g->step, s + i, len)) continue;
        g->open = true;
        break;
    }
    if (g->step->stop == 0) return pass_text(c, k, s + i, n - i, err);
    assay_str_putn(&g->hold, s + i, n - i);
    ASSAY_TRY(assay_str_status(&g->hold, err));
    size_t chars = assay_utf8_count(assay_str_c(&g->hold), g->hold.len);
    if (chars <= g->step->stop) return ASSAY_OK;
    size_t sure = assay_utf8_offset(g->hold.s, g->hold.len, chars - g->step->stop);
    ASSAY_TRY(pass_text(c, k, g->hold.s, sure, err));
    memmove(g->hold.s, g->hold.s + sure, g->hold.len - sure);
    g->hold.len -= sure;
    return ASSAY_OK;
}
static assay_status strip_end(assay_chain *c, size_t k, assay_err *err) {
    assay_stage *g = &c->stages[k];
    size_t n = g->hold.len, m = g->step->n_text;
    while (n >= m && is_content(g->step, g->hold.s + n - m, m))
        n -= m;
    ASSAY_TRY(pass_token(c, k, assay_str_c(&g->hold), n, err));
    assay_str_clear(&g->hold);
    g->count = 0;
    g->open = false;
    return ASSAY_OK;
}
static const assay_stage_ops stage_strip = {strip_text, strip_end, pass_close};

/* ---- Metaspace: the replacement character is a space again; in the first token it vanishes unless the
 * scheme is "never" ---- */

static assay_status metaspace_text(assay_chain *c, size_t k, const char *s, size_t n, assay_err *err) {
    assay_stage *g = &c->stages[k];
    bool drop = g->count == 0 && g->step->prepend != ASSAY_PREPEND_NEVER;
    for (size_t i = 0, len; i < n; i += len) {
        assay_utf8_next(&len, s + i, n - i);
        if (!is_content(g->step, s + i, len))
            ASSAY_TRY(pass_text(c, k, s + i, len, err));
        else if (!drop)
            ASSAY_TRY(pass_text(c, k, " ", 1, err));
    }
    return ASSAY_OK;
}
static assay_status metaspace_end(assay_chain *c, size_t k, assay_err *err) {
    c->stages[k].count++;
    return pass_end(c, k, err);
}
static const assay_stage_ops stage_metaspace = {metaspace_text, metaspace_end, pass_close};

/* ---- BPEDecoder: the end-of-word suffix is a space, but nothing in the last token, which is therefore held
 * ---- */

static assay_status bpe_flush(assay_chain *c, size_t k, const char *space, assay_err *err) {
    assay_stage *g = &c->stages[k];
    const char *s = assay_str_c(&g->token), *end = s + g->token.len;
    while (s < end) {
        const char *hit =
            g->step->n_text ? memmem(s, (size_t)(end - s), g->step->text, g->step->n_text) : NULL;
        ASSAY_TRY(pass_text(c, k, s, (size_t)((hit ? hit : end) - s), err));
        if (hit) ASSAY_TRY(pass_text(c, k, space, strlen(space), err));
        s = hit ? hit + g->step->n_text : end;
    }
    assay_str_clear(&g->token);
    return pass_end(c, k, err);
}
static assay_status bpe_text(assay_chain *c, size_t k, const char *s, size_t n, assay_err *err) {
    assay_stage *g = &c->stages[k];
    if (g->open) ASSAY_TRY(bpe_flush(c, k, " ", err));
    g->open = false;
    return keep_text(c, k, s, n, err);
}
static assay_status bpe_end(assay_chain *c, size_t k, assay_err *err) {
    assay_stage *g = &c->stages[k];
    if (g->open) ASSAY_TRY(bpe_flush(c, k, " ", err)); /* an empty token follows the held one */
    g->open = true;
    return ASSAY_OK;
}
static assay_status bpe_close(assay_chain *c, size_t k, assay_err *err) {
    if (c->stages[k].open) ASSAY_TRY(bpe_flush(c, k, "", err));
    return pass_close(c, k, err);
}
static const assay_stage_ops stage_bpe = {bpe_text, bpe_end, bpe_close};

/* ---- no decoder: tokens joined with spaces ---- */

static assay_status join_text(assay_chain *c, size_t k, const char *s, size_t n, assay_err *err) {
    assay_stage *g = &c->stages[k];
    if (g->count && !g->open) ASSAY_TRY(pass_text(c, k, " ", 1, err));
    g->open = true;
    return pass_text(c, k, s, n, err);
}
static assay_status join_end(assay_chain *c, size_t k, assay_err *err) {
    assay_stage *g = &c->stages[k];
    if (g->count && !g->open) ASSAY_TRY(pass_text(c, k, " ", 1, err));
    g->open = false;
    g->count++;
    return ASSAY_OK;
}
static const assay_stage_ops stage_join = {join_text, join_end, pass_close};

/* ---- the chain ---- */

assay_status assay_chain_new(assay_chain **out, const assay_step_list *decoders, assay_err *err) {
    size_t n = decoders->n ? decoders->n : 1;
    assay_chain *c = assay_calloc(1, sizeof *c);
    assay_stage *stages = assay_calloc(n, sizeof *stages);
    if (!c || !stages) {
        assay_free(c);
        assay_free(stages);
        return assay_nomem(err);
    }
    c->n = n;
    c->stages = stages;
    stages[0].ops = &stage_join;
    for (size_t k = 0; k < decoders->n; k++)
        stages[k] = (assay_stage){.ops = decoders->v[k].ops->decode, .step = &decoders->v[k]};
    *out = c;
    return ASSAY_OK;
}

assay_status assay_chain_token(assay_chain *c, assay_str *out, const char *s, size_t n, assay_err *err) {
    c->out = out;
    if (n) ASSAY_TRY(c->stages[0].ops->text(c, 0, s, n, err));
    ASSAY_TRY(c->stages[0].ops->end(c, 0, err));
    return assay_str_status(out, err);
}

assay_status assay_chain_finish(assay_chain *c, assay_str *out, assay_err *err) {
    c->out = out;
    ASSAY_TRY(c->stages[0].ops->close(c, 0, err));
    return assay_str_status(out, err);
}

void assay_chain_free(assay_chain *c) {
    if (!c) return;
    for (size_t k = 0; k < c->n; k++) {
        assay_str_free(&c->stages[k].token);
        assay_str_free(&c->stages[k].hold);
    }
    assay_free(c->stages);
    assay_free(c);
}

/* ---- reading ---- */

static assay_status parse_strip(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    int64_t start = 0, stop = 0;
    ASSAY_TRY(assay_step_parse_text(step, j, "content", NULL, where, err));
    ASSAY_TRY(assay_json_get_int(&start, j, "start", where, err));
    ASSAY_TRY(assay_json_get_int(&stop, j, "stop", where, err));
    if (step->n_text == 0 || assay_utf8_count(step->text, step->n_text) != 1 || start < 0 || stop < 0 ||
        start > 1 << 20 || stop > 1 << 20)
        return assay_fail(err, ASSAY_EINPUT, "%s: Strip wants one character and small counts", where);
    step->start = (size_t)start;
    step->stop = (size_t)stop;
    return ASSAY_OK;
}

static assay_status parse_bpe(assay_step *step, const json_t *j, const char *where, assay_err *err) {
    return assay_step_parse_text(step, j, "suffix", "</w>", where, err);
}

#define NORMALIZER(type, parse, fn)
#define PRE_TOKENIZER(type, parse, fn)
#define DECODER(type, parse, stage) {type, parse, NULL, NULL, &stage},
const assay_step_ops assay_decoders[] = {
#include "text/steps.def"
    {NULL, NULL, NULL, NULL, NULL}};
