/* gate.c: two stored scorecards and a policy -> a verdict. The verdict is stored too, so that a report can
 * show it. */
#include "api/doc.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "gate/gate.h"

/* A policy file is the policy's mapping itself, or a study file with a `policy` key. */
static assay_status load_policy(assay_policy *p, const char *path, assay_err *err) {
    if (!path) {
        assay_policy_init(p);
        return ASSAY_OK;
    }
    assay_yaml_doc *d;
    ASSAY_TRY(assay_yaml_load(&d, path, err));
    const assay_yaml *root = assay_yaml_root(d), *inner = assay_yaml_find(root, "policy");
    assay_status s = assay_policy_from_yaml(p, d, inner ? inner : root, err);
    assay_yaml_free(d);
    return s;
}

static assay_status find_scorecard(int64_t *id, assay_store *store, const char *variant, assay_err *err) {
    assay_scorecard c;
    ASSAY_TRY(assay_scorecard_named(&c, store, variant, err));
    *id = c.id;
    bool complete = c.complete;
    assay_scorecard_deinit(&c);
    if (complete) return ASSAY_OK;
    return assay_fail(err, ASSAY_EMISMATCH,
                      "the scorecard of '%s' is incomplete; run the same `assay eval` again to finish it", variant);
}

static int exit_code_of(assay_verdict v) {
    return v == ASSAY_VERDICT_FAIL ? 1 : v == ASSAY_VERDICT_INCONCLUSIVE ? 6 : 0;
}

static assay_status store_verdict(assay_store *store, const assay_gate *g, assay_err *err) {
    json_t *body = assay_gate_to_json(g, false);
    if (!body) return assay_nomem(err);
    assay_document d = {.kind = "verdict",
                        .name = g->variant,
                        .baseline = g->baseline_id,
                        .variant = g->variant_id,
                        .body = body};
    assay_status s = assay_document_put(NULL, store, &d, err);
    json_decref(body);
    return s;
}

assay_status assay_gate_variants(assay_doc **out, const char *baseline, const char *candidate,
                                 const assay_gate_request *o, assay_err *err) {
    *out = NULL;
    const char *path = o->store ? o->store : "assay.db";
    if (assay_path_is_dir(path))
        return assay_fail(err, ASSAY_EINPUT, "'%s' is a folder: give the store in it, %s/assay.db", path, path);
    assay_store *store = NULL;
    assay_policy policy = {0};
    assay_gate *gate = NULL;
    assay_str text = {0};
    assay_term term = assay_term_of_view(&o->view);
    assay_gate_opts opts = {.baseline_name = baseline, .variant_name = candidate};
    int64_t a, b;
    assay_status s;
    if (!assay_path_exists(path))
        return assay_fail(err, ASSAY_ENOTFOUND, "cannot open '%s': no such store; `assay eval` makes one",
                          path);
    ASSAY_GO(load_policy(&policy, o->policy, err));
    ASSAY_GO(assay_store_open(&store, path, NULL, err));
    ASSAY_GO(find_scorecard(&a, store, baseline, err));
    ASSAY_GO(find_scorecard(&b, store, candidate, err));
    ASSAY_GO(assay_gate_run(&gate, store, a, b, &policy, &opts, err));
    ASSAY_GO(store_verdict(store, gate, err));
    if (o->markdown)
        ASSAY_GO(assay_report_gate_markdown(&text, gate, err));
    else
        ASSAY_GO(assay_report_gate_text(&text, gate, o->flips, &term, err));
    s = assay_doc_make(out, &text, assay_gate_to_json(gate, true), exit_code_of(gate->verdict), err);
out:
    assay_gate_free(gate);
    assay_policy_deinit(&policy);
    assay_store_close(store);
    assay_str_free(&text);
    return s;
}
