/* recall.c: a study's report from its store alone. */
#include <string.h>
#include "base/file.h"
#include "study/study_impl.h"

typedef struct newest {
    char name[128];
} newest;

/* Newest first: the first that has a document of its own is it. */
static assay_status take_newest(void *ctx, const assay_study_row *row, assay_err *err) {
    newest *n = ctx;
    (void)err;
    if (!n->name[0] && strlen(row->name) < sizeof n->name) memcpy(n->name, row->name, strlen(row->name) + 1);
    return ASSAY_OK;
}

assay_status assay_study_recall(assay_study_result **out, const char *store_path, const char *study, assay_err *err) {
    assay_store *store = NULL;
    assay_study_result *r = NULL;
    assay_document body = {0}, decision = {0};
    newest n = {""};
    char *dir = assay_path_dir(store_path);
    bool found = false;
    assay_status s = ASSAY_OK;
    *out = NULL;
    if (!dir) ASSAY_GO(assay_nomem(err));
    ASSAY_GO(assay_store_open(&store, store_path, &(assay_store_opts){.read_only = true}, err));
    if (!study) {
        ASSAY_GO(assay_study_each(store, take_newest, &n, err));
        study = n.name;
    }
    ASSAY_GO(assay_document_latest(&body, &found, store, "study", study, NULL, err));
    if (!found) {
        s = assay_fail(err, ASSAY_ENOTFOUND, "%s holds no study%s%s that came to its report: run it first", store_path, *study ? " " : "", study);
        goto out;
    }
    ASSAY_GO(study_result_new(&r, study, dir, err));
    ASSAY_GO(study_collect(r, store, json_incref(body.body), err));
    ASSAY_GO(assay_document_latest(&decision, &found, store, "decision", study, NULL, err));
    if (found) {
        r->decision = json_incref(decision.body);
        s = study_use_decision(r, err);
    } else {
        s = study_decide(r, NULL, err);
    }
out:
    assay_document_deinit(&body);
    assay_document_deinit(&decision);
    assay_store_close(store);
    assay_free(dir);
    if (s == ASSAY_OK) *out = r;
    else assay_study_result_free(r);
    return s;
}
