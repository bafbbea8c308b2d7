/* compare.c: the same prompts to two models, answers side by side with the first difference marked.
 *
 * The models are opened one after the other, never both at once, so the memory is that of the larger. */
#include <string.h>
#include "api/doc.h"
#include "base/mem.h"
#include "base/progress.h"

typedef struct side {
    const char *model;
    assay_answer *answers; /* [n_prompts] */
} side;

static assay_status ask_all(side *sd, const assay_compare_opts *o, assay_err *err) {
    assay_session *session;
    ASSAY_TRY(assay_session_open(&session, sd->model, &o->run, err));
    assay_status s = ASSAY_OK;
    for (size_t i = 0; s == ASSAY_OK && i < o->n_prompts; i++) {
        s = assay_progress_report(o->progress, sd->model, (double)i, (double)o->n_prompts, "prompts", err);
        if (s == ASSAY_OK) s = assay_session_ask(&sd->answers[i], session, o->prompts[i], &o->generate, err);
    }
    assay_session_close(session);
    return s;
}

/* Bytes in common at the start, cut back to a whole UTF-8 character. */
static size_t common_prefix(const char *a, const char *b) {
    size_t n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    while (n && ((unsigned char)a[n] & 0xc0) == 0x80)
        n--;
    return n;
}

static void put_answer(assay_str *t, const char *label, const assay_answer *a, size_t same, bool differ,
                       const assay_view *v) {
    const char *on = v->colour ? "\033[1;33m" : ">>", *off = v->colour ? "\033[0m" : "<<";
    assay_str_printf(t, "%s (%zu tokens, %s):\n", label, a->output_tokens, a->stop);
    assay_str_putn(t, a->text, differ ? same : strlen(a->text));
    if (differ) assay_str_printf(t, "%s%s%s", on, a->text + same, off);
    assay_str_putc(t, '\n');
}

static assay_status put_pair(assay_str *text, json_t *list, const char *prompt, const side *a, const side *b,
                             size_t i, const assay_view *v, assay_err *err) {
    const assay_answer *x = &a->answers[i], *y = &b->answers[i];
    bool differ = strcmp(x->text, y->text) != 0;
    size_t same = common_prefix(x->text, y->text);
    assay_str_printf(text, "%s%s\n", i ? "\n" : "", prompt);
    if (differ) {
        put_answer(text, a->model, x, same, true, v);
        put_answer(text, b->model, y, same, true, v);
    } else {
        put_answer(text, "both", x, same, false, v);
    }
    json_t *j = json_pack("{s:s, s:s, s:s, s:b, s:I}", "prompt", prompt, "a", x->text, "b", y->text, "same",
                          !differ, "first_difference_byte", (json_int_t)(differ ? (json_int_t)same : -1));
    return j && !json_array_append_new(list, j)
               ? ASSAY_OK
               : assay_fail(err, ASSAY_EINPUT, "a prompt or an answer is not valid UTF-8");
}

assay_status assay_compare(assay_doc **out, const char *model_a, const char *model_b,
                           const assay_compare_opts *o, assay_err *err) {
    *out = NULL;
    side a = {model_a, assay_calloc(o->n_prompts, sizeof *a.answers)},
         b = {model_b, assay_calloc(o->n_prompts, sizeof *b.answers)};
    assay_str text = {0};
    json_t *j = json_pack("{s:s, s:s, s:s, s:[]}", "schema", "assay.compare/1", "a", model_a, "b", model_b,
                          "answers");
    json_t *list = json_object_get(j, "answers");
    assay_status s;
    size_t same = 0;
    if (!a.answers || !b.answers || !j) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(ask_all(&a, o, err));
    ASSAY_GO(ask_all(&b, o, err));
    for (size_t i = 0; i < o->n_prompts; i++) {
        ASSAY_GO(put_pair(&text, list, o->prompts[i], &a, &b, i, &o->view, err));
        same += !strcmp(a.answers[i].text, b.answers[i].text);
    }
    assay_str_printf(&text, "\n%zu of %zu answers are the same\n", same, o->n_prompts);
    s = assay_doc_make(out, &text, j, 0, err);
    j = NULL;
out:
    for (size_t i = 0; i < o->n_prompts; i++) {
        if (a.answers) assay_answer_free(&a.answers[i]);
        if (b.answers) assay_answer_free(&b.answers[i]);
    }
    assay_free(a.answers);
    assay_free(b.answers);
    assay_str_free(&text);
    json_decref(j);
    return s;
}
