/* keys.c: what goes into the keys of steps; keys.h says why. */
#include "study/keys.h"

#include <stdio.h>
#include "base/file.h"
#include "base/mem.h"
#include "format/adapter.h"
#include "format/format.h"
#include "kern/kern.h"
#include "study/spec.h"

static void put_number(assay_hasher *h, int64_t v) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)v);
    assay_hasher_put_str(h, text);
}

assay_status study_checkpoint_hash(char hex[ASSAY_HASH_HEX], const char *dir, assay_err *err) {
    assay_checkpoint *c;
    ASSAY_TRY(assay_checkpoint_open(&c, dir, err));
    assay_status s = assay_checkpoint_hash(hex, c, err);
    assay_checkpoint_close(c);
    return s;
}

/* A file that is not there is not the same as an empty one. */
static assay_status put_file(assay_hasher *h, const char *dir, const char *name, assay_err *err) {
    char hex[ASSAY_HASH_HEX] = "";
    char *path = assay_path_join(dir, name);
    if (!path) return assay_nomem(err);
    assay_status s = assay_path_exists(path) ? assay_hash_file(hex, path, err) : ASSAY_OK;
    assay_free(path);
    assay_hasher_put_str(h, name);
    assay_hasher_put_str(h, hex);
    return s;
}

static assay_status hash_text_files(char hex[ASSAY_HASH_HEX], const char *dir, assay_err *err) {
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
                                        "tokenizer.model", "added_tokens.json", "special_tokens_map.json"};
    assay_hasher *h;
    ASSAY_TRY(assay_hasher_new(&h, err));
    for (size_t i = 0; i < ASSAY_LEN(files); i++) {
        assay_status s = put_file(h, dir, files[i], err);
        if (s == ASSAY_OK) continue;
        assay_hasher_free(h);
        return s;
    }
    assay_hasher_finish(h, hex);
    return ASSAY_OK;
}

/* What the options come to on this model. A configuration that cannot be used is told when the model is opened; until then the
 * options stand for themselves. */
static void identify_cache(study_identity *out, const char *dir, const assay_native_opts *o) {
    assay_config c = {0};
    assay_kv_kind kv = o->kv;
    size_t context = o->context;
    if (assay_config_open(&c, dir, NULL) == ASSAY_OK) (void)assay_native_effective(&context, &kv, &c, o, NULL);
    assay_config_deinit(&c);
    out->kv = assay_kv_kind_word(kv);
    out->context = (int64_t)context;
}

/* What is run is the checkpoint and the adapter together. */
static assay_status add_adapter(char checkpoint[ASSAY_HASH_HEX], const char *dir, assay_err *err) {
    char own[ASSAY_HASH_HEX];
    assay_adapter *a;
    assay_hasher *h;
    ASSAY_TRY(assay_adapter_open(&a, dir, err));
    assay_status s = assay_adapter_hash(own, a, err);
    assay_adapter_close(a);
    ASSAY_TRY(s);
    ASSAY_TRY(assay_hasher_new(&h, err));
    assay_hasher_put_str(h, checkpoint);
    assay_hasher_put_str(h, own);
    assay_hasher_finish(h, checkpoint);
    return ASSAY_OK;
}

assay_status study_identify(study_identity *out, const char *text_dir, const char *dir, const char *checkpoint, const assay_native_opts *o, assay_err *err) {
    assay_kern kern;
    *out = (study_identity){.activations = assay_act_mode_word(o->activations)};
    identify_cache(out, text_dir, o);
    ASSAY_TRY(assay_kern_init(&kern, o->isa, err));
    out->isa = kern.name;
    if (checkpoint) snprintf(out->checkpoint, sizeof out->checkpoint, "%s", checkpoint);
    else ASSAY_TRY(study_checkpoint_hash(out->checkpoint, dir, err));
    if (o->adapter) ASSAY_TRY(add_adapter(out->checkpoint, o->adapter, err));
    return hash_text_files(out->text, text_dir, err);
}

assay_status study_quantize_key(char hex[ASSAY_HASH_HEX], const char *checkpoint, const assay_recipe *r, const char *calibration,
                                const char *mixture, assay_err *err) {
    char recipe[ASSAY_HASH_HEX];
    assay_hasher *h;
    ASSAY_TRY(assay_recipe_hash(recipe, r, err));
    ASSAY_TRY(assay_hasher_new(&h, err));
    assay_hasher_put_str(h, "quantize");
    put_number(h, STUDY_QUANTIZE_VERSION);
    assay_hasher_put_str(h, checkpoint);
    assay_hasher_put_str(h, recipe);
    if (calibration) assay_hasher_put_str(h, calibration);
    if (mixture) assay_hasher_put_str(h, mixture);
    assay_hasher_finish(h, hex);
    return ASSAY_OK;
}

static void put_identity(assay_hasher *h, const study_identity *i) {
    assay_hasher_put_str(h, i ? i->checkpoint : "");
    assay_hasher_put_str(h, i ? i->text : "");
    assay_hasher_put_str(h, i ? i->activations : "");
    assay_hasher_put_str(h, i ? i->kv : "");
    assay_hasher_put_str(h, i ? i->isa : "");
    put_number(h, i ? i->context : -1);
}

assay_status study_identity_hash(char hex[ASSAY_HASH_HEX], const study_identity *i, assay_err *err) {
    assay_hasher *h;
    ASSAY_TRY(assay_hasher_new(&h, err));
    put_number(h, STUDY_SCORE_VERSION);
    put_identity(h, i);
    assay_hasher_finish(h, hex);
    return ASSAY_OK;
}

assay_status study_score_key(char hex[ASSAY_HASH_HEX], const study_identity *model, const char *suite_hash, const study_identity *baseline,
                             int rerun_batch, assay_err *err) {
    assay_hasher *h;
    ASSAY_TRY(assay_hasher_new(&h, err));
    assay_hasher_put_str(h, "score");
    put_number(h, STUDY_SCORE_VERSION);
    put_identity(h, model);
    assay_hasher_put_str(h, suite_hash);
    put_identity(h, baseline);
    put_number(h, rerun_batch);
    assay_hasher_finish(h, hex);
    return ASSAY_OK;
}
