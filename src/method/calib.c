/* calib.c: calibration data: the documents of a file, drawn, encoded and cut into sequences. calib.h says what they mean.
 *
 *   index     where the documents lie in the mapped file, without reading them
 *   order     Fisher-Yates over the documents, one step per document that is needed
 *   encode    a document -> ids (JSON, chat template, tokenizer)
 *   cut       ids -> sequences
 *
 * Selection is a function of file, options and tokenizer alone. Nothing here depends on threads. */
#include "method/calib.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

#define DEFAULT_SAMPLES 128
#define DEFAULT_LENGTH  2048
#define STRETCH_BYTES   16         /* of running text per token of a sequence: three or four sequences a stretch */
#define MAX_DOCUMENT    (1u << 30) /* bytes of one document */
/* What templates are told when they ask for the day (2024-07-26, as suites do), so that ids are the same tomorrow. */
#define TEMPLATE_NOW 1721952000

typedef struct document {
    size_t begin, n; /* in the data */
    size_t line;     /* from 1 */
} document;

typedef struct reader {
    assay_calib *out;
    const assay_calib_model *m;
    const char *name, *data;
    size_t n;
    bool lines; /* JSON lines */
    document *docs;
    size_t n_docs, cap_docs;
    bool ready;  /* the lines are ids */
    size_t *order;  /* documents in the order in which they are taken; [0, n_taken) are drawn */
    size_t n_taken;
    assay_rng rng;
    int32_t *stream; /* ids of the documents taken */
    size_t n_stream, cap_stream;
    size_t *ends; /* where each document taken ends in the stream */
    size_t n_ends, cap_ends;
    size_t n_cut; /* documents longer than a sequence */
} reader;

static const char *plural(size_t n) {
    return n == 1 ? "" : "s";
}

static assay_status warn(assay_calib *c, assay_err *err, const char *fmt, ...) ASSAY_PRINTF(3, 4);
static assay_status warn(assay_calib *c, assay_err *err, const char *fmt, ...) {
    va_list ap;
    assay_str b = {0};
    va_start(ap, fmt);
    assay_str_vprintf(&b, fmt, ap);
    va_end(ap);
    char **more = assay_reallocn(c->warnings, c->n_warnings + 1, sizeof *more);
    char *text = assay_str_take(&b);
    if (more) c->warnings = more;
    if (!more || !text) {
        assay_free(text);
        return assay_nomem(err);
    }
    more[c->n_warnings++] = text;
    return ASSAY_OK;
}

/* --- index --- */

static assay_status add_document(reader *r, size_t begin, size_t end, size_t line, assay_err *err) {
    if (end - begin > MAX_DOCUMENT)
        return assay_fail(err, ASSAY_EINPUT, "%s:%zu: a document of %zu bytes is too long (at most %u)", r->name, line, end - begin, MAX_DOCUMENT);
    ASSAY_TRY(assay_grow(&r->docs, &r->cap_docs, r->n_docs + 1, sizeof *r->docs, err));
    r->docs[r->n_docs++] = (document){begin, end - begin, line};
    return ASSAY_OK;
}

static bool is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    return true;
}

/* Lines that are not blank, or (paragraphs) maximal runs of them. */
static assay_status index_lines(reader *r, bool paragraphs, assay_err *err) {
    size_t begin = 0, last = 0, first_line = 0, line = 1;
    bool inside = false;
    for (size_t at = 0; at < r->n; line++) {
        const char *nl = memchr(r->data + at, '\n', r->n - at);
        size_t stop = nl ? (size_t)(nl - r->data) : r->n;
        bool blank = is_blank(r->data + at, stop - at);
        if (inside && (blank || !paragraphs)) {
            ASSAY_TRY(add_document(r, begin, last, first_line, err));
            inside = false;
        }
        if (!blank) {
            if (!inside) begin = at, first_line = line;
            inside = true;
            last = stop;
        }
        at = stop + 1;
    }
    return inside ? add_document(r, begin, last, first_line, err) : ASSAY_OK;
}

/* Running text: stretches that end at a line's end, or, where none comes for long, between characters. */
static assay_status index_stretches(reader *r, assay_err *err) {
    size_t want = STRETCH_BYTES * r->out->opts.length, line = 1;
    for (size_t at = 0; at < r->n;) {
        size_t end = r->n;
        if (r->n - at > 2 * want) {
            const char *nl = memchr(r->data + at + want, '\n', want);
            end = nl ? (size_t)(nl - r->data) + 1 : at + 2 * want;
            for (int k = 0; !nl && k < 3 && ((unsigned char)r->data[end] & 0xc0) == 0x80; k++) end++;
        }
        ASSAY_TRY(add_document(r, at, end, line, err));
        for (const char *p = r->data + at; (p = memchr(p, '\n', (size_t)(r->data + end - p))); p++) line++;
        at = end;
    }
    return ASSAY_OK;
}

/* --- order --- */

static assay_status start_order(reader *r, assay_err *err) {
    assay_rng_init(&r->rng, r->out->opts.seed);
    r->order = assay_mallocn(r->n_docs, sizeof *r->order);
    if (!r->order) return assay_nomem(err);
    for (size_t i = 0; i < r->n_docs; i++) r->order[i] = i;
    return ASSAY_OK;
}

/* The next document drawn, NULL when all were. */
static const document *draw(reader *r) {
    if (r->n_taken == r->n_docs) return NULL;
    size_t i = r->n_taken + (size_t)assay_rng_below(&r->rng, r->n_docs - r->n_taken), k = r->order[i];
    r->order[i] = r->order[r->n_taken];
    r->order[r->n_taken++] = k;
    return &r->docs[k];
}

/* --- encode --- */

static assay_status append_ids(reader *r, const int32_t *ids, size_t n, assay_err *err) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= r->out->n_vocab)
            return assay_fail(err, ASSAY_EINPUT, "token id %d is not in the model's vocabulary of %zu", (int)ids[i], r->out->n_vocab);
    ASSAY_TRY(assay_grow(&r->stream, &r->cap_stream, r->n_stream + n, sizeof *r->stream, err));
    if (n) memcpy(r->stream + r->n_stream, ids, n * sizeof *ids);
    r->n_stream += n;
    return ASSAY_OK;
}

static assay_status append_text(reader *r, const char *text, size_t n, bool add_special, assay_err *err) {
    int32_t *ids = NULL;
    size_t n_ids = 0;
    if (!r->m->tokenizer) return assay_fail(err, ASSAY_EINPUT, "a text needs the model's tokenizer, and there is none: give lines of ids");
    ASSAY_TRY(assay_tokenizer_encode(&ids, &n_ids, r->m->tokenizer, text, n, add_special, true, err));
    assay_status s = append_ids(r, ids, n_ids, err);
    assay_free(ids);
    return s;
}

static assay_status append_rendered(reader *r, const json_t *messages, const json_t *tools, bool generate, assay_err *err) {
    assay_str b = {0};
    json_t *vars = json_pack("{s:I}", "$now", (json_int_t)TEMPLATE_NOW);
    assay_status s = vars ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK) s = assay_template_render(&b, r->m->tmpl, r->m->tokenizer, messages, tools, generate, vars, err);
    if (s == ASSAY_OK) s = assay_str_status(&b, err);
    if (s == ASSAY_OK) s = append_text(r, assay_str_c(&b), b.len, false, err);
    if (s == ASSAY_OK) r->out->n_templated++;
    json_decref(vars);
    assay_str_free(&b);
    return s;
}

/* The contents one under the other. */
static assay_status append_joined(reader *r, const json_t *messages, assay_err *err) {
    assay_str b = {0};
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *content = json_object_get(json_array_get(messages, i), "content");
        if (!json_is_string(content)) {
            assay_str_free(&b);
            return assay_fail(err, ASSAY_EINPUT, "message %zu has no text as its 'content' to be joined without a template", i + 1);
        }
        if (i) assay_str_putc(&b, '\n');
        assay_str_putn(&b, json_string_value(content), json_string_length(content));
    }
    assay_status s = assay_str_status(&b, err);
    if (s == ASSAY_OK) s = append_text(r, assay_str_c(&b), b.len, true, err);
    assay_str_free(&b);
    return s;
}

/* is_chat: the document is a chat, which is nothing without a template unless that was asked for. */
static assay_status append_messages(reader *r, const json_t *messages, const json_t *tools, bool is_chat, assay_err *err) {
    assay_calib_template t = r->out->opts.tmpl;
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!json_is_string(json_object_get(json_array_get(messages, i), "role")))
            return assay_fail(err, ASSAY_EINPUT, "message %zu needs the string 'role'", i + 1);
    if (!json_array_size(messages)) return assay_fail(err, ASSAY_EINPUT, "'messages' must be a list of messages");
    if (t == ASSAY_CALIB_TEMPLATE_NO || (t == ASSAY_CALIB_TEMPLATE_AUTO && !is_chat && !r->m->tmpl)) return append_joined(r, messages, err);
    if (!r->m->tmpl)
        return assay_fail(err, ASSAY_EINPUT, "'messages' need a chat template, and the model has none: template=no joins their contents");
    const char *last = json_string_value(json_object_get(json_array_get(messages, json_array_size(messages) - 1), "role"));
    return append_rendered(r, messages, tools, !is_chat && strcmp(last, "assistant") != 0, err);
}

static assay_status append_plain(reader *r, const char *text, size_t n, assay_err *err) {
    if (r->out->opts.tmpl != ASSAY_CALIB_TEMPLATE_YES) return append_text(r, text, n, true, err);
    char *copy = assay_strndup(text, n); /* a NUL ends it: no template knows them */
    json_t *content = copy ? assay_json_text(copy) : NULL;
    assay_free(copy);
    json_t *messages = content ? json_pack("[{s:s, s:o}]", "role", "user", "content", content) : NULL;
    assay_status s = messages ? append_messages(r, messages, NULL, true, err) : assay_nomem(err);
    json_decref(messages);
    return s;
}

/* The first answer as a text: a string as it is, anything else as JSON. New reference. */
static assay_status answer_text(json_t **out, const json_t *answer, assay_err *err) {
    assay_str b = {0};
    if (json_is_array(answer)) answer = json_array_get(answer, 0);
    *out = NULL;
    if (!answer || json_is_null(answer)) return ASSAY_OK;
    if (json_is_string(answer)) {
        *out = json_incref((json_t *)answer);
        return ASSAY_OK;
    }
    assay_status s = assay_json_dump(&b, answer, 0, false, err);
    if (s == ASSAY_OK && !(*out = assay_json_text(assay_str_c(&b)))) s = assay_nomem(err);
    assay_str_free(&b);
    return s;
}

/* An item's prompt (or messages) and answer as a chat's turns. */
static assay_status append_item(reader *r, const json_t *line, assay_err *err) {
    const json_t *prompt = json_object_get(line, "prompt"), *messages = json_object_get(line, "messages");
    json_t *turns = messages ? json_copy((json_t *)messages) : json_array(), *answer = NULL;
    int bad = !turns;
    assay_status s = answer_text(&answer, json_object_get(line, "answer"), err);
    if (s == ASSAY_OK) {
        if (!bad && !messages) bad = json_array_append_new(turns, json_pack("{s:s, s:O}", "role", "user", "content", prompt));
        if (!bad && answer) bad = json_array_append_new(turns, json_pack("{s:s, s:O}", "role", "assistant", "content", answer));
        s = bad ? assay_nomem(err) : append_messages(r, turns, json_object_get(line, "tools"), messages != NULL, err);
    }
    json_decref(answer);
    json_decref(turns);
    return s;
}

static assay_status append_ready(reader *r, const json_t *ids, assay_err *err) {
    if (!json_is_array(ids)) return assay_fail(err, ASSAY_EINPUT, "'ids' must be a list of token ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *v = json_array_get(ids, i);
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > INT32_MAX)
            return assay_fail(err, ASSAY_EINPUT, "element %zu of 'ids' is no token id", i + 1);
        int32_t one = (int32_t)id;
        ASSAY_TRY(append_ids(r, &one, 1, err));
    }
    return ASSAY_OK;
}

static assay_status append_line(reader *r, const json_t *line, assay_err *err) {
    const json_t *text = json_object_get(line, "text"), *prompt = json_object_get(line, "prompt");
    const json_t *messages = json_object_get(line, "messages"), *ids = json_object_get(line, "ids");
    if (!json_is_object(line) || !!text + (prompt || messages) + !!ids != 1 || (prompt && messages))
        return assay_fail(err, ASSAY_EINPUT, "a line must be an object with one of 'text', 'messages', 'prompt' and 'ids'");
    if ((ids != NULL) != r->ready) return assay_fail(err, ASSAY_EINPUT, "lines of 'ids' cannot stand among others");
    if (ids) return append_ready(r, ids, err);
    if ((text && !json_is_string(text)) || (prompt && !json_is_string(prompt)))
        return assay_fail(err, ASSAY_EINPUT, "'%s' must be a string", text ? "text" : "prompt");
    if (messages && !json_is_array(messages)) return assay_fail(err, ASSAY_EINPUT, "'messages' must be a list of messages");
    return text ? append_plain(r, json_string_value(text), json_string_length(text), err) : append_item(r, line, err);
}

static assay_status append_document(reader *r, const document *d, assay_err *err) {
    size_t before = r->n_stream;
    assay_status s;
    if (r->lines) {
        json_t *line = NULL;
        assay_err why = {0};
        s = assay_json_parse(&line, r->data + d->begin, d->n, "not JSON", &why);
        if (s != ASSAY_OK && why.code != ASSAY_ENOMEM) return assay_fail(err, s, "%s:%zu: %s", r->name, d->line, why.message);
        if (s == ASSAY_OK) s = append_line(r, line, &why);
        json_decref(line);
        if (s != ASSAY_OK) return assay_fail(err, s, "%s:%zu: %s", r->name, d->line, why.message);
    } else {
        assay_err why = {0};
        s = append_plain(r, r->data + d->begin, d->n, &why);
        if (s != ASSAY_OK) return assay_fail(err, s, "%s:%zu: %s", r->name, d->line, why.message);
    }
    if (r->n_stream == before) return ASSAY_OK;
    r->out->n_documents_used++;
    ASSAY_TRY(assay_grow(&r->ends, &r->cap_ends, r->n_ends + 1, sizeof *r->ends, err));
    r->ends[r->n_ends++] = r->n_stream;
    return ASSAY_OK;
}

/* Are the lines ids? What the first says holds for all. */
static assay_status look_ahead(reader *r, assay_err *err) {
    json_t *line = NULL;
    if (!r->lines || !r->n_docs) return ASSAY_OK;
    assay_err why = {0};
    assay_status s = assay_json_parse(&line, r->data + r->docs[0].begin, r->docs[0].n, "not JSON", &why);
    if (s == ASSAY_ENOMEM) return assay_nomem(err);
    r->ready = s == ASSAY_OK && json_object_get(line, "ids");
    json_decref(line);
    return ASSAY_OK; /* a broken line is told when it is its turn */
}

/* --- cut --- */

static assay_status start_sequences(assay_calib *c, size_t n, size_t n_tokens, assay_err *err) {
    c->first = assay_calloc(n + 1, sizeof *c->first);
    c->ids = assay_mallocn(n_tokens, sizeof *c->ids);
    return c->first && c->ids ? ASSAY_OK : assay_nomem(err);
}

static void add_sequence(assay_calib *c, const int32_t *ids, size_t n) {
    memcpy(c->ids + c->n_tokens, ids, n * sizeof *ids);
    c->n_tokens += n;
    c->first[++c->n_samples] = c->n_tokens;
    c->length = ASSAY_MAX(c->length, n);
}

static assay_status cut_windows(reader *r, assay_err *err) {
    assay_calib *c = r->out;
    size_t length = c->opts.length, want = c->opts.samples, enough;
    if (!assay_mul_size(&enough, length, want)) return assay_fail(err, ASSAY_EINPUT, "%zu samples of %zu tokens are too many", want, length);
    for (const document *d; r->n_stream < enough && (d = draw(r));) ASSAY_TRY(append_document(r, d, err));
    size_t n = r->n_stream / length, taken = 0;
    if (n == 0 && r->n_stream > 1) { /* less than a window: all there is */
        ASSAY_TRY(start_sequences(c, 1, r->n_stream, err));
        add_sequence(c, r->stream, r->n_stream);
        return ASSAY_OK;
    }
    ASSAY_TRY(start_sequences(c, ASSAY_MIN(n, want), ASSAY_MIN(n, want) * length, err));
    for (size_t i = 0; i < n && taken < want; i++) /* Knuth's algorithm S: want of n, in order */
        if (assay_rng_below(&r->rng, n - i) < want - taken) {
            add_sequence(c, r->stream + i * length, length);
            taken++;
        }
    return ASSAY_OK;
}

/* The documents drawn, back in the file's order; one that gives fewer than two tokens predicts nothing and is passed over. */
static assay_status cut_documents(reader *r, assay_err *err) {
    assay_calib *c = r->out;
    size_t length = c->opts.length, want = c->opts.samples, n = 0, n_tokens = 0;
    size_t *by_doc = assay_calloc(2 * r->n_docs, sizeof *by_doc); /* where each document begins and ends in the stream */
    assay_status s = by_doc ? ASSAY_OK : assay_nomem(err);
    for (const document *d; s == ASSAY_OK && n < want && (d = draw(r));) {
        size_t begin = r->n_stream, *at = by_doc + 2 * (size_t)(d - r->docs);
        s = append_document(r, d, err);
        if (s != ASSAY_OK || r->n_stream - begin < 2) continue;
        r->n_cut += r->n_stream - begin > length;
        r->n_stream = ASSAY_MIN(r->n_stream, begin + length);
        r->ends[r->n_ends - 1] = r->n_stream;
        at[0] = begin;
        at[1] = r->n_stream;
        n_tokens += at[1] - at[0];
        n++;
    }
    if (s == ASSAY_OK) s = start_sequences(c, n, n_tokens, err);
    for (size_t i = 0; s == ASSAY_OK && i < r->n_docs; i++)
        if (by_doc[2 * i + 1]) add_sequence(c, r->stream + by_doc[2 * i], by_doc[2 * i + 1] - by_doc[2 * i]);
    assay_free(by_doc);
    return s;
}

/* --- what came out --- */

static uint64_t hash_run(const int32_t *ids, size_t n) {
    uint64_t h = 1469598103934665603u; /* FNV-1a over the ids and their number */
    for (size_t i = 0; i < n; i++) h = (h ^ (uint32_t)ids[i]) * 1099511628211u;
    return (h ^ n) * 1099511628211u;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Runs between consecutive ends that repeat an earlier one. */
static assay_status count_repeats(size_t *out, const int32_t *ids, const size_t *ends, size_t n, assay_err *err) {
    uint64_t *hashes = assay_mallocn(n + 1, sizeof *hashes);
    if (!hashes) return assay_nomem(err);
    for (size_t i = 0, begin = 0; i < n; begin = ends[i++]) hashes[i] = hash_run(ids + begin, ends[i] - begin);
    qsort(hashes, n, sizeof *hashes, by_value);
    *out = 0;
    for (size_t i = 1; i < n; i++) *out += hashes[i] == hashes[i - 1];
    assay_free(hashes);
    return ASSAY_OK;
}

static assay_status measure(assay_calib *c, assay_err *err) {
    uint8_t *seen = assay_calloc(c->n_vocab / 8 + 1, 1);
    assay_hasher *h = NULL;
    assay_status s = seen ? assay_hasher_new(&h, err) : assay_nomem(err);
    for (size_t i = 0; s == ASSAY_OK && i < c->n_tokens; i++) {
        size_t id = (size_t)c->ids[i];
        c->n_distinct += !(seen[id / 8] >> id % 8 & 1);
        seen[id / 8] |= (uint8_t)(1u << id % 8);
    }
    for (size_t i = 0; s == ASSAY_OK && i < c->n_samples; i++) {
        uint64_t n = c->first[i + 1] - c->first[i];
        assay_hasher_put(h, &n, sizeof n);
        assay_hasher_put(h, c->ids + c->first[i], (size_t)n * sizeof *c->ids);
    }
    if (s == ASSAY_OK) assay_hasher_finish(h, c->ids_hash);
    assay_free(seen);
    return s;
}

static assay_status judge(reader *r, assay_err *err) {
    assay_calib *c = r->out;
    size_t repeats = 0, length = c->opts.length;
    if (c->n_samples < c->opts.samples)
        ASSAY_TRY(warn(c, err, "%zu sample%s instead of %zu: %s has no more", c->n_samples, plural(c->n_samples), c->opts.samples, r->name));
    if (c->n_samples == 1 && c->length < length && c->opts.pack == ASSAY_CALIB_PACK_WINDOWS)
        ASSAY_TRY(warn(c, err, "the only sample has %zu tokens instead of %zu", c->length, length));
    if (r->m->max_cols && c->n_tokens < r->m->max_cols)
        ASSAY_TRY(warn(c, err, "%zu tokens are fewer than the %zu columns of the widest matrix: what they say of its inputs is incomplete",
                       c->n_tokens, r->m->max_cols));
    if (r->ready && r->n_cut)
        ASSAY_TRY(warn(c, err, "%zu sequence%s of ids %s cut to %zu tokens", r->n_cut, plural(r->n_cut), r->n_cut == 1 ? "was" : "were", length));
    ASSAY_TRY(count_repeats(&repeats, r->stream, r->ends, r->n_ends, err));
    if (repeats)
        ASSAY_TRY(warn(c, err, "%zu of %zu documents repeat%s another", repeats, r->n_ends, repeats == 1 ? "s" : ""));
    return ASSAY_OK;
}

/* --- entry points --- */

static assay_status complete_opts(assay_calib_opts *o, const assay_calib_opts *given, const assay_calib_model *m, assay_err *err) {
    *o = given ? *given : (assay_calib_opts){0};
    if (o->samples > ASSAY_CALIB_MAX_SAMPLES || o->length == 1 || o->length > ASSAY_CALIB_MAX_LENGTH)
        return assay_fail(err, ASSAY_EUSAGE, "calibration takes 1 to %d samples of 2 to %d tokens, not %zu of %zu", ASSAY_CALIB_MAX_SAMPLES,
                          ASSAY_CALIB_MAX_LENGTH, o->samples, o->length);
    if (m->context && o->length > m->context)
        return assay_fail(err, ASSAY_EUSAGE, "calibration of %zu tokens a sample is longer than the model's context of %zu", o->length, m->context);
    if (o->tmpl == ASSAY_CALIB_TEMPLATE_YES && !m->tmpl)
        return assay_fail(err, ASSAY_EUSAGE, "calibration asks for the chat template, and the model has none");
    if (!o->samples) o->samples = DEFAULT_SAMPLES;
    if (!o->length) o->length = m->context ? ASSAY_MIN(m->context, (size_t)DEFAULT_LENGTH) : DEFAULT_LENGTH;
    return ASSAY_OK;
}

static assay_status read_all(reader *r, assay_err *err) {
    assay_calib *c = r->out;
    if (r->lines || c->opts.split_blank)
        ASSAY_TRY(index_lines(r, !r->lines, err));
    else
        ASSAY_TRY(index_stretches(r, err));
    c->n_documents = r->n_docs;
    ASSAY_TRY(look_ahead(r, err));
    if (c->opts.pack == ASSAY_CALIB_PACK_AUTO) c->opts.pack = r->ready ? ASSAY_CALIB_PACK_DOCUMENTS : ASSAY_CALIB_PACK_WINDOWS;
    ASSAY_TRY(start_order(r, err));
    ASSAY_TRY(c->opts.pack == ASSAY_CALIB_PACK_WINDOWS ? cut_windows(r, err) : cut_documents(r, err));
    if (!c->n_samples) return assay_fail(err, ASSAY_EINPUT, "%s: holds no text to calibrate with", r->name);
    if (c->n_templated) memcpy(c->template_hash, assay_template_hash(r->m->tmpl), sizeof c->template_hash);
    ASSAY_TRY(measure(c, err));
    return judge(r, err);
}

assay_status assay_calib_parse(assay_calib *out, const char *data, size_t n, const char *name, bool lines, const assay_calib_opts *o,
                               const assay_calib_model *m, assay_err *err) {
    *out = (assay_calib){0};
    reader r = {.out = out, .m = m, .name = name, .data = data, .n = n, .lines = lines};
    assay_status s;
    ASSAY_GO(complete_opts(&out->opts, o, m, err));
    out->n_vocab = m->n_vocab ? m->n_vocab : m->tokenizer ? (size_t)assay_tokenizer_n_vocab(m->tokenizer) : 0;
    if (!(out->path = assay_strdup(name))) ASSAY_GO(assay_nomem(err));
    assay_hash_bytes(out->data_hash, data, n);
    ASSAY_GO(read_all(&r, err));
out:
    assay_free(r.docs);
    assay_free(r.order);
    assay_free(r.stream);
    assay_free(r.ends);
    if (s != ASSAY_OK) assay_calib_deinit(out);
    return s;
}

static bool holds_lines(const char *path) {
    static const char *const ends[] = {".jsonl", ".ndjson", ".json"};
    size_t n = strlen(path);
    for (size_t i = 0; i < ASSAY_LEN(ends); i++)
        if (n > strlen(ends[i]) && !strcmp(path + n - strlen(ends[i]), ends[i])) return true;
    return false;
}

assay_status assay_calib_load(assay_calib *out, const char *path, const assay_calib_opts *o, const assay_calib_model *m, assay_err *err) {
    assay_map map;
    *out = (assay_calib){0};
    ASSAY_TRY(assay_map_open(&map, path, err));
    assay_status s = assay_calib_parse(out, (const char *)map.data, map.size, path, holds_lines(path), o, m, err);
    assay_map_close(&map);
    return s;
}

void assay_calib_deinit(assay_calib *c) {
    assay_free(c->ids);
    assay_free(c->first);
    assay_free(c->path);
    for (size_t i = 0; i < c->n_warnings; i++) assay_free(c->warnings[i]);
    assay_free(c->warnings);
    *c = (assay_calib){0};
}
