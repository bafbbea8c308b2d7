/* session.c: a model kept open to answer prompts: what `run` and `compare` stand on. */
#include "api/session.h"

#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "text/text.h"

struct assay_session {
    assay_runtime *rt;
    char *description;
};

static const struct {
    const char *name;
    assay_act_mode mode;
} act_modes[] = {{"auto", ASSAY_ACT_AUTO},
                 {"f32", ASSAY_ACT_F32},
                 {"bf16", ASSAY_ACT_BF16},
                 {"f16", ASSAY_ACT_F16},
                 {"int8", ASSAY_ACT_INT8}};

assay_status assay_native_opts_of(assay_native_opts *out, const assay_run_opts *o, assay_err *err) {
    *out = (assay_native_opts){.n_threads = o->threads, .max_batch = o->batch, .context = o->context, .adapter = o->adapter};
    if (o->kv && !assay_kv_kind_parse(&out->kv, o->kv))
        return assay_fail(err, ASSAY_EUSAGE, "unknown kv cache '%s': %s", o->kv, assay_kv_kind_list());
    if (!o->activations) return ASSAY_OK;
    for (size_t i = 0; i < ASSAY_LEN(act_modes); i++)
        if (!strcmp(act_modes[i].name, o->activations)) {
            out->activations = act_modes[i].mode;
            return ASSAY_OK;
        }
    return assay_fail(err, ASSAY_EUSAGE, "unknown activations '%s': auto, f32, bf16, f16 or int8",
                      o->activations);
}

void assay_session_close(assay_session *s) {
    if (!s) return;
    assay_runtime_close(s->rt);
    assay_free(s->description);
    assay_free(s);
}

assay_status assay_session_open(assay_session **out, const char *model, const assay_run_opts *o,
                                assay_err *err) {
    static const assay_run_opts defaults;
    *out = NULL;
    assay_native_opts native;
    ASSAY_TRY(assay_native_opts_of(&native, o ? o : &defaults, err));
    assay_session *session = assay_calloc(1, sizeof *session);
    if (!session) return assay_nomem(err);
    json_t *manifest = NULL;
    assay_str text = {0};
    assay_status s;
    ASSAY_GO(assay_native_open(&session->rt, model, &native, err));
    manifest = assay_runtime_manifest(session->rt);
    static const char *const keys[] = {"precision", "activations", "backend"};
    for (size_t i = 0; i < ASSAY_LEN(keys); i++) {
        const char *v = json_string_value(json_object_get(manifest, keys[i]));
        if (v) assay_str_printf(&text, "%s%s", text.len ? ", " : "", v);
    }
    session->description = assay_str_take(&text);
    s = session->description ? ASSAY_OK : assay_nomem(err);
out:
    json_decref(manifest);
    if (s != ASSAY_OK)
        assay_session_close(session);
    else
        *out = session;
    return s;
}

bool assay_session_has_template(const assay_session *s) {
    return assay_runtime_template(s->rt) != NULL;
}

const char *assay_session_describe(const assay_session *s) {
    return s->description;
}

/* The template writes its own special tokens, so none are added to its text; a raw prompt gets the
 * tokenizer's. */
static assay_status generate(assay_answer *out, assay_session *session, const char *text, size_t n,
                             bool templated, const assay_generate_opts *o, assay_err *err) {
    *out = (assay_answer){0};
    int32_t *ids = NULL;
    size_t n_ids = 0, context = assay_runtime_context(session->rt);
    assay_generate_res res = {0};
    assay_status s;
    ASSAY_GO(assay_tokenizer_encode(&ids, &n_ids, assay_runtime_tokenizer(session->rt), text, n, !templated,
                                    true, err));
    int room = n_ids < context ? (int)ASSAY_MIN(context - n_ids, (size_t)1 << 30) : 1;
    assay_generate_req req = {.ids = ids,
                              .n_ids = n_ids,
                              .max_tokens = o->max_tokens ? o->max_tokens : room,
                              .temperature = o->temperature,
                              .top_p = o->top_p > 0 ? o->top_p : 1,
                              .top_k = o->top_k,
                              .seed = o->seed,
                              .stop = o->stop,
                              .n_stop = o->n_stop,
                              .on_text = o->on_text,
                              .on_text_ctx = o->ctx};
    ASSAY_GO(assay_runtime_generate(session->rt, &res, &req, 1, NULL, NULL, err));
    *out = (assay_answer){.text = res.text,
                          .stop = assay_stop_name(res.stop),
                          .prompt_tokens = n_ids,
                          .output_tokens = res.n_ids,
                          .prompt_seconds = res.seconds_prompt,
                          .output_seconds = res.seconds_output};
    res.text = NULL;
out:
    assay_generate_res_deinit(&res);
    assay_free(ids);
    return s;
}

static assay_status chat(assay_answer *out, assay_session *session, const json_t *messages,
                         const assay_generate_opts *o, assay_err *err) {
    const assay_template *t = assay_runtime_template(session->rt);
    if (!t)
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "the model has no chat template; give a raw prompt instead (--raw)");
    assay_str text = {0};
    assay_status s = assay_template_render(&text, t, assay_runtime_tokenizer(session->rt), messages, NULL,
                                           true, NULL, err);
    if (s == ASSAY_OK) s = generate(out, session, assay_str_c(&text), text.len, true, o, err);
    assay_str_free(&text);
    return s;
}

assay_status assay_session_ask(assay_answer *out, assay_session *session, const char *prompt,
                               const assay_generate_opts *o, assay_err *err) {
    *out = (assay_answer){0};
    if (o->raw || !assay_session_has_template(session))
        return generate(out, session, prompt, strlen(prompt), false, o, err);
    json_t *messages = o->system ? json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content",
                                             o->system, "role", "user", "content", prompt)
                                 : json_pack("[{s:s, s:s}]", "role", "user", "content", prompt);
    if (!messages) return assay_fail(err, ASSAY_EINPUT, "the prompt is not valid UTF-8");
    assay_status s = chat(out, session, messages, o, err);
    json_decref(messages);
    return s;
}

assay_status assay_session_chat(assay_answer *out, assay_session *session, const char *messages_json,
                                const assay_generate_opts *o, assay_err *err) {
    *out = (assay_answer){0};
    json_t *messages;
    ASSAY_TRY(assay_json_parse(&messages, messages_json, strlen(messages_json), "messages", err));
    assay_status s = json_is_array(messages) ? chat(out, session, messages, o, err)
                                             : assay_fail(err, ASSAY_EINPUT, "messages must be a JSON array");
    json_decref(messages);
    return s;
}

void assay_answer_free(assay_answer *a) {
    assay_free(a->text);
    a->text = NULL;
}
