/* template.c: chat templates: opening, parsing, rendering with the variables that transformers'
 * apply_chat_template gives them. */
#include <string.h>
#include "base/file.h"
#include "base/gguf.h"
#include "base/hash.h"
#include "text/jinja.h"
#include "text/unicode.h"

/* Newlines become "\n", and one at the very end is dropped, as Jinja does before reading. */
static assay_status set_text(assay_template *t, const char *text, size_t n, assay_err *err) {
    assay_str b = {0};
    for (size_t i = 0; i < n; i++) {
        if (text[i] != '\r')
            assay_str_putc(&b, text[i]);
        else if (i + 1 == n || text[i + 1] != '\n')
            assay_str_putc(&b, '\n');
    }
    if (b.len && b.s[b.len - 1] == '\n') b.len--;
    assay_status s = assay_str_status(&b, err);
    t->n = b.len;
    if (s == ASSAY_OK && !(t->text = assay_arena_strndup(&t->arena, assay_str_c(&b), b.len)))
        s = assay_nomem(err);
    assay_str_free(&b);
    return s;
}

assay_status assay_template_parse(assay_template **out, const char *text, size_t n, assay_err *err) {
    assay_jtokens tokens = {0};
    size_t bad;
    bool cut;
    char hash[ASSAY_HASH_HEX];
    if (n > ASSAY_J_MAX_SOURCE)
        return assay_fail(err, ASSAY_EINPUT, "a chat template of %zu bytes is too long", n);
    if (assay_utf8_valid(&bad, &cut, text, n) != n)
        return assay_fail(err, ASSAY_EINPUT, "the chat template is not valid UTF-8");
    assay_template *t = assay_calloc(1, sizeof *t);
    if (!t) return assay_nomem(err);
    assay_status s;
    assay_hash_bytes(hash, text, n);
    t->hash = assay_arena_strndup(&t->arena, hash, strlen(hash));
    t->source = assay_arena_strndup(&t->arena, text, n);
    t->n_source = n;
    if (!t->hash || !t->source) {
        s = assay_nomem(err);
        goto out;
    }
    ASSAY_GO(set_text(t, text, n, err));
    ASSAY_GO(assay_jlex(&tokens, t, err));
    ASSAY_GO(assay_jparse_template(t, &tokens, err));
    *out = t;
    t = NULL;
out:
    assay_free(tokens.v);
    assay_template_close(t);
    return s;
}

void assay_template_close(assay_template *t) {
    if (!t) return;
    assay_arena_free(&t->arena);
    assay_free(t);
}

const char *assay_template_hash(const assay_template *t) {
    return t->hash;
}

const char *assay_template_text(const assay_template *t) {
    return t->source;
}

/* A string, or the entry named "default" of a list of {"name", "template"}. NULL: there is none. */
static const json_t *chosen_template(const json_t *config) {
    const json_t *v = json_object_get(config, "chat_template");
    if (json_is_string(v)) return v;
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *entry = json_array_get(v, i), *name = json_object_get(entry, "name");
        if (json_is_string(name) && strcmp(json_string_value(name), "default") == 0 &&
            json_is_string(json_object_get(entry, "template")))
            return json_object_get(entry, "template");
    }
    return NULL;
}

static assay_status open_gguf(assay_template **out, const char *file, assay_err *err) {
    assay_gguf *g;
    const char *text;
    size_t n;
    ASSAY_TRY(assay_gguf_open(&g, file, err));
    assay_status s;
    if (!assay_gguf_string(&text, &n, g, assay_gguf_find(g, "tokenizer.chat_template"), 0) || n == 0)
        s = assay_fail(err, ASSAY_ENOTFOUND, "%s: there is no tokenizer.chat_template", file);
    else if ((s = assay_template_parse(out, text, n, err)) != ASSAY_OK)
        assay_err_prefix(err, "%s", file);
    assay_gguf_close(g);
    return s;
}

static assay_status open_folder(assay_template **out, const char *dir, assay_err *err) {
    char *own = assay_path_join(dir, "chat_template.jinja"),
         *config = assay_path_join(dir, "tokenizer_config.json");
    char *text = NULL;
    size_t n = 0;
    json_t *j = NULL;
    const char *from = own;
    assay_status s;
    if (!own || !config) {
        s = assay_nomem(err);
        goto out;
    }
    if (assay_path_exists(own)) {
        ASSAY_GO(assay_read_file(&text, &n, own, ASSAY_J_MAX_SOURCE, err));
        s = assay_template_parse(out, text, n, err);
    } else {
        from = config;
        if (assay_path_exists(config)) ASSAY_GO(assay_json_load(&j, config, err));
        const json_t *v = chosen_template(j);
        s = v ? assay_template_parse(out, json_string_value(v), json_string_length(v), err)
              : assay_fail(
                    err, ASSAY_ENOTFOUND,
                    "there is neither a chat_template.jinja nor a chat_template in tokenizer_config.json");
        if (!v) from = dir;
    }
    if (s != ASSAY_OK) assay_err_prefix(err, "%s", from);
out:
    json_decref(j);
    assay_free(text);
    assay_free(own);
    assay_free(config);
    return s;
}

assay_status assay_template_open(assay_template **out, const char *path, assay_err *err) {
    char *file = NULL;
    assay_err other = {0};
    assay_status s = assay_gguf_find_file(&file, path, &other);
    if (s == ASSAY_OK) s = open_gguf(out, file, &other);
    if (s == ASSAY_ENOTFOUND && (!file || assay_path_is_dir(path)))
        s = open_folder(out, path, err);
    else if (s != ASSAY_OK)
        assay_fail(err, s, "%s", other.message);
    assay_free(file);
    return s;
}

/* ---- rendering ---- */

static assay_status set(assay_jrun *r, const char *name, assay_jvalue v) {
    return assay_jscope_set(r, r->scope, name, strlen(name), v);
}

static assay_status set_token(assay_jrun *r, const char *name, const assay_tokenizer *tok, int32_t id) {
    const char *text = tok ? assay_tokenizer_token(tok, id) : NULL;
    return text ? set(r, name, assay_jstr(text, strlen(text))) : ASSAY_OK;
}

/* A message's reasoning is found under each of its names, as transformers sees to: {"thinking": it, **message, "reasoning_content": it}. */
static assay_status alias_reasoning(assay_jrun *r, assay_jvalue *message) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const assay_jvalue *found = NULL;
    if (message->kind != ASSAY_J_DICT) return ASSAY_OK;
    const assay_jdict *old = message->dict;
    for (size_t i = 0; i < ASSAY_LEN(names) && !found; i++) {
        ASSAY_TRY(assay_jdict_find(&found, r, old, assay_jstr(names[i], strlen(names[i]))));
        if (found && found->kind == ASSAY_J_NONE) found = NULL;
    }
    if (!found) return ASSAY_OK;
    assay_jdict *d;
    ASSAY_TRY(assay_jdict_new(&d, r, old->n + 2));
    ASSAY_TRY(assay_jdict_put(d, r, assay_jstr("thinking", 8), *found));
    for (size_t i = 0; i < old->n; i++)
        ASSAY_TRY(assay_jdict_put(d, r, old->keys[i], old->values[i]));
    message->dict = d;
    return assay_jdict_put(d, r, assay_jstr("reasoning_content", 17), *found);
}

static assay_status set_variables(assay_jrun *r, const assay_tokenizer *tok, const json_t *messages,
                                  const json_t *tools, bool add_generation_prompt, const json_t *vars) {
    assay_jvalue v;
    if (!json_is_array(messages)) return assay_jfail(r, ASSAY_EINPUT, "messages must be an array");
    if (tools && !json_is_array(tools) && !json_is_null(tools))
        return assay_jfail(r, ASSAY_EINPUT, "tools must be an array");
    if (tok) {
        ASSAY_TRY(set_token(r, "bos_token", tok, assay_tokenizer_bos(tok)));
        ASSAY_TRY(set_token(r, "eos_token", tok, assay_tokenizer_eos(tok)));
    }
    ASSAY_TRY(assay_jfrom_json(&v, r, messages));
    for (size_t i = 0; i < v.list->n; i++)
        ASSAY_TRY(alias_reasoning(r, &v.list->v[i]));
    ASSAY_TRY(set(r, "messages", v));
    ASSAY_TRY(assay_jfrom_json(&v, r, tools));
    ASSAY_TRY(set(r, "tools", v));
    ASSAY_TRY(set(r, "documents", assay_jnone()));
    ASSAY_TRY(set(r, "add_generation_prompt", assay_jbool(add_generation_prompt)));
    if (!vars || json_is_null(vars)) return ASSAY_OK;
    if (!json_is_object(vars))
        return assay_jfail(r, ASSAY_EINPUT, "the template's variables must be an object");
    json_t *o = (json_t *)(uintptr_t)vars; /* jansson's iteration is not const */
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        ASSAY_TRY(assay_jfrom_json(&v, r, json_object_iter_value(it)));
        ASSAY_TRY(assay_jscope_set(r, r->scope, json_object_iter_key(it), json_object_iter_key_len(it), v));
    }
    return ASSAY_OK;
}

assay_status assay_template_render(assay_str *out, const assay_template *t, const assay_tokenizer *tok,
                                   const json_t *messages, const json_t *tools, bool add_generation_prompt,
                                   const json_t *vars, assay_err *err) {
    assay_str text = {0};
    const json_t *now = json_object_get(vars, "$now");
    int64_t seconds = json_integer_value(now);
    assay_jrun r = {.out = &text, .err = err, .now = json_is_integer(now) ? &seconds : NULL};
    assay_status s;
    ASSAY_GO(assay_jscope_push(&r, NULL));
    ASSAY_GO(set_variables(&r, tok, messages, tools, add_generation_prompt, vars));
    ASSAY_GO(assay_jscope_push(&r, r.scope)); /* what the template sets stands before what it is given */
    ASSAY_GO(assay_jexec(&r, t->body));
    assay_str_putn(out, assay_str_c(&text), text.len);
    s = assay_str_status(out, err);
out:
    assay_arena_free(&r.arena);
    assay_str_free(&text);
    return s;
}
