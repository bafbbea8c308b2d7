/* api/doc.h: an answer in the making. Each api function fills a text and a JSON object and closes them into
 * an assay_doc. */
#ifndef ASSAY_API_DOC_H
#define ASSAY_API_DOC_H

#include "assay/assay.h"
#include "base/json.h"
#include "base/status.h"
#include "base/str.h"
#include "report/report.h"

/* Takes text and json (steals both, also on failure; json may be NULL only to report ENOMEM) into *out. */
assay_status assay_doc_make(assay_doc **out, assay_str *text, json_t *json, int exit_code, assay_err *err);
assay_term assay_term_of_view(const assay_view *v);
/* Sets key in obj, taking value; a NULL value (out of memory) makes it fail with ENOMEM. */
assay_status assay_doc_set(json_t *obj, const char *key, json_t *value, assay_err *err);

#endif
