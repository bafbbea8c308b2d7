/* prepare.c: a suite and a runtime -> units: rendered prompts, token ids, hashes. */
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "eval/eval_impl.h"
#include "eval/pair.h"

/* --- prompts --- */

static int append_message(json_t *list, const char *role, const char *content) {
    return json_array_append_new(list, json_pack("{s:s, s:s}", "role", role, "content", content));
}

/* Index of the n-th example (from 0) for the item's dimension, or n_shots. */
static size_t find_shot(const assay_suite *s, const char *dimension, int64_t n) {
    for (size_t i = 0; i < s->n_shots; i++)
        if (!strcmp(s->shots[i].dimension, dimension) && n-- == 0) return i;
    return s->n_shots;
}

/* system (the item's own before the suite's), the examples as turns, then the item. New reference; NULL when out of memory. */
static json_t *chat_messages(const assay_suite *s, const assay_item *it) {
    json_t *list = json_array();
    int bad = !list;
    size_t n_own = json_array_size(it->messages), next = 0;
    const char *first = json_string_value(json_object_get(json_array_get(it->messages, 0), "role"));
    if (!bad && first && !strcmp("system", first)) bad = json_array_append(list, json_array_get(it->messages, next++));
    else if (!bad && s->system) bad = append_message(list, "system", s->system);
    for (int64_t n = 0; !bad && n < s->few_shot; n++) {
        size_t i = find_shot(s, it->dimension, n);
        if (i == s->n_shots) break;
        bad = append_message(list, "user", s->shots[i].prompt) || append_message(list, "assistant", s->shots[i].answer);
    }
    if (!bad && !it->messages) bad = append_message(list, "user", it->prompt);
    for (; !bad && next < n_own; next++) bad = json_array_append(list, json_array_get(it->messages, next));
    if (!bad) return list;
    json_decref(list);
    return NULL;
}

static assay_status render_chat(assay_str *out, const assay_evaluation *e, const assay_item *it, assay_err *err) {
    json_t *messages = chat_messages(e->suite, it), *vars = json_pack("{s:I}", "$now", (json_int_t)e->suite->now);
    assay_status s = messages && vars ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK)
        s = assay_template_render(out, assay_runtime_template(e->rt), e->env.tokenizer, messages, NULL, true, vars, err);
    json_decref(messages);
    json_decref(vars);
    return s;
}

/* Examples as "prompt" delimiter "answer" separator, then the prompt: lm-eval's layout. */
static assay_status render_plain(assay_str *out, const assay_evaluation *e, const assay_item *it, assay_err *err) {
    const assay_suite *s = e->suite;
    for (int64_t n = 0; n < s->few_shot; n++) {
        size_t i = find_shot(s, it->dimension, n);
        if (i == s->n_shots) break;
        assay_str_put(out, s->shots[i].prompt);
        assay_str_put(out, s->delimiter);
        assay_str_put(out, s->shots[i].answer);
        assay_str_put(out, s->shot_separator);
    }
    assay_str_put(out, it->prompt);
    return assay_str_status(out, err);
}

/* --- units --- */

static assay_status hash_ids(assay_unit *u, assay_err *err) {
    assay_hasher *h;
    ASSAY_TRY(assay_hasher_new(&h, err));
    for (size_t i = 0; i < u->n_requests; i++) {
        const assay_unit_request *q = &u->requests[i];
        uint64_t head[2] = {q->n_ids, q->from};
        assay_hasher_put(h, head, sizeof head);
        assay_hasher_put(h, q->ids, q->n_ids * sizeof *q->ids);
    }
    assay_hasher_finish(h, u->ids_hash);
    return ASSAY_OK;
}

static assay_status plan_generation(assay_unit *u, const assay_evaluation *e, const char *prompt, size_t n, assay_err *err) {
    int32_t *ids = NULL;
    size_t n_ids = 0;
    ASSAY_TRY(assay_prompt_encode(&ids, &n_ids, &e->env, prompt, n, err));
    assay_status s = ASSAY_OK;
    if (!n_ids) s = assay_unit_refuse(u, err, "the prompt has no tokens");
    else if (n_ids > e->env.context)
        s = assay_unit_refuse(u, err, "the prompt of %zu tokens does not fit the model's context of %zu", n_ids, e->env.context);
    if (s == ASSAY_OK) s = assay_unit_add(u, ids, n_ids, n_ids, err);
    assay_free(ids);
    return s;
}

static assay_status plan_item(assay_unit *u, const assay_evaluation *e, const assay_item *it, assay_err *err) {
    const assay_evaluator_use *use = &e->suite->evaluators[it->evaluator];
    assay_str prompt = {0};
    assay_status s = ASSAY_OK;
    *u = (assay_unit){.item = it, .evaluator = it->evaluator, .id = assay_strdup(it->id)};
    u->max_tokens = it->max_tokens ? it->max_tokens : e->suite->max_tokens;
    memcpy(u->item_hash, it->hash, sizeof u->item_hash);
    if (!u->id) ASSAY_GO(assay_nomem(err));
    ASSAY_GO(e->suite->chat ? render_chat(&prompt, e, it, err) : render_plain(&prompt, e, it, err));
    assay_hash_bytes(u->prompt_hash, assay_str_c(&prompt), prompt.len);
    if (use->def->plan) ASSAY_GO(use->def->plan(u, use->state, &e->env, assay_str_c(&prompt), err));
    else ASSAY_GO(plan_generation(u, e, assay_str_c(&prompt), prompt.len, err));
    s = hash_ids(u, err);
out:
    assay_str_free(&prompt);
    return s == ASSAY_OK ? s : assay_err_prefix(err, "item '%s'", it->id);
}

static assay_status take_unit(assay_evaluation *e, assay_unit *u, assay_err *err) {
    ASSAY_TRY(assay_grow(&e->units, &e->cap_units, e->n_units + 1, sizeof *e->units, err));
    e->units[e->n_units++] = *u;
    memset(u, 0, sizeof *u);
    return ASSAY_OK;
}

static assay_status prepare_items(assay_evaluation *e, assay_err *err) {
    for (size_t i = 0; i < e->suite->n_items; i++) {
        assay_unit u;
        assay_status s = plan_item(&u, e, &e->suite->items[i], err);
        if (s == ASSAY_OK) s = take_unit(e, &u, err);
        assay_unit_deinit(&u);
        if (s != ASSAY_OK) return s;
    }
    return ASSAY_OK;
}

/* A text's unit: its evaluator, and ids that no item and no other evaluator's unit can have. */
typedef struct text_context {
    assay_evaluation *e;
    size_t evaluator;
} text_context;

static assay_status take_text(void *ctx, assay_unit *u, assay_err *err) {
    text_context *t = ctx;
    const assay_evaluator_use *use = &t->e->suite->evaluators[t->evaluator];
    assay_str id = {0};
    assay_hasher *h;
    u->evaluator = t->evaluator;
    assay_str_printf(&id, "%s:%s", use->def->name, u->id);
    assay_free(u->id);
    u->id = assay_str_take(&id);
    if (!u->id) return assay_nomem(err);
    assay_hash_bytes(u->prompt_hash, u->language->text + u->begin, u->end - u->begin);
    ASSAY_TRY(assay_hasher_new(&h, err));
    assay_hasher_put_str(h, use->hash);
    assay_hasher_put_str(h, u->prompt_hash);
    assay_hasher_put_str(h, u->id);
    assay_hasher_finish(h, u->item_hash);
    ASSAY_TRY(hash_ids(u, err));
    return take_unit(t->e, u, err);
}

static assay_status prepare_texts(assay_evaluation *e, assay_err *err) {
    for (size_t i = 0; i < e->suite->n_languages; i++) {
        const assay_language *l = &e->suite->languages[i];
        for (size_t k = 0; k < l->n_evaluators; k++) {
            text_context t = {e, l->evaluators[k]};
            const assay_evaluator_use *use = &e->suite->evaluators[l->evaluators[k]];
            ASSAY_TRY(use->def->expand(l, use->state, &e->env, take_text, &t, err));
        }
    }
    return ASSAY_OK;
}

/* --- what the runtime can do --- */

static assay_status check_capabilities(const assay_evaluation *e, assay_err *err) {
    static const struct { unsigned bit; const char *name; } needs[] = {
        {ASSAY_CAN_GENERATE, "generate text"}, {ASSAY_CAN_SCORE, "give log-probabilities of given tokens"}, {ASSAY_CAN_LOGITS, "give whole distributions"}};
    unsigned caps = assay_runtime_caps(e->rt);
    for (size_t i = 0; i < e->suite->n_evaluators; i++) {
        const assay_evaluator *def = e->suite->evaluators[i].def;
        for (size_t k = 0; k < ASSAY_LEN(needs); k++)
            if (def->needs & needs[k].bit & ~caps)
                return assay_fail(err, ASSAY_EUNSUPPORTED, "evaluator %s needs a runtime that can %s, and this one cannot", def->name, needs[k].name);
    }
    if (!e->env.tokenizer) return assay_fail(err, ASSAY_EUNSUPPORTED, "the runtime has no tokenizer: prompts cannot be hashed as token ids");
    if (e->suite->chat && !assay_runtime_template(e->rt))
        return assay_fail(err, ASSAY_EUNSUPPORTED, "the suite wants a chat template, and the model has none: set chat: false");
    return ASSAY_OK;
}

static assay_status fill_env(assay_evaluation *e, const assay_evaluation_opts *o, assay_err *err) {
    assay_eval_env *env = &e->env;
    int32_t *ids = NULL;
    size_t n = 0;
    assay_str text = {0};
    env->prefix = assay_tokenizer_bos(env->tokenizer);
    ASSAY_TRY(assay_tokenizer_encode(&ids, &n, env->tokenizer, "a", 1, true, false, err));
    env->adds_bos = n && env->prefix >= 0 && ids[0] == env->prefix;
    assay_free(ids);
    if (env->prefix < 0) env->prefix = assay_tokenizer_eos(env->tokenizer);
    if (env->prefix >= 0) {
        assay_status s = assay_tokenizer_decode(&text, env->tokenizer, &env->prefix, 1, false, err);
        if (s != ASSAY_OK) {
            assay_str_free(&text);
            return s;
        }
        e->prefix_text = assay_str_take(&text);
        env->prefix_text = e->prefix_text;
    }
    env->kl_dir = o->kl_dir;
    env->kl_write = o->kl_write;
    return ASSAY_OK;
}

assay_status assay_evaluation_new(assay_evaluation **out, const assay_suite *suite, assay_runtime *rt, const assay_evaluation_opts *o, assay_err *err) {
    static const assay_evaluation_opts defaults;
    assay_evaluation *e = assay_calloc(1, sizeof *e);
    assay_status s;
    *out = NULL;
    if (!e) return assay_nomem(err);
    if (!o) o = &defaults;
    e->suite = suite;
    e->rt = rt;
    e->batch = o->batch > 0 ? o->batch : 128;
    e->env = (assay_eval_env){.suite = suite, .tokenizer = assay_runtime_tokenizer(rt), .context = assay_runtime_context(rt),
                              .n_vocab = assay_runtime_n_vocab(rt)};
    ASSAY_GO(check_capabilities(e, err));
    ASSAY_GO(fill_env(e, o, err));
    ASSAY_GO(prepare_items(e, err));
    ASSAY_GO(prepare_texts(e, err));
    *out = e;
    e = NULL;
out:
    assay_evaluation_free(e);
    return s;
}

void assay_evaluation_free(assay_evaluation *e) {
    if (!e) return;
    for (size_t i = 0; i < e->n_units; i++) assay_unit_deinit(&e->units[i]);
    assay_free(e->units);
    assay_free(e->prefix_text);
    assay_free(e);
}

int64_t assay_evaluation_n_items(const assay_evaluation *e) {
    return (int64_t)e->n_units;
}

const char *assay_evaluation_template_hash(const assay_evaluation *e) {
    return e->suite->chat ? assay_template_hash(assay_runtime_template(e->rt)) : NULL;
}

bool assay_evaluation_unfinished(const assay_evaluation *e) {
    for (size_t i = 0; i < e->n_units; i++) {
        const assay_evaluator *def = e->suite->evaluators[e->units[i].evaluator].def;
        if (def->unfinished && def->unfinished(&e->units[i], &e->env)) return true;
    }
    return false;
}
