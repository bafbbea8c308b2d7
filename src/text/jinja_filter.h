/* text/jinja_filter.h: the filter that has a file of its own. */
#ifndef ASSAY_TEXT_JINJA_FILTER_H
#define ASSAY_TEXT_JINJA_FILTER_H

#include "text/jinja.h"

/* json.dumps(v, ensure_ascii, indent, separators, sort_keys) with transformers' defaults: characters as they
 * are, ", " and ": ". */
assay_status assay_jtojson(assay_jvalue *out, assay_jrun *r, assay_jvalue v, assay_jvalue ensure_ascii,
                           assay_jvalue indent, assay_jvalue separators, assay_jvalue sort_keys);

#endif
