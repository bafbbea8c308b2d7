/* method/choice.h: the options of one choice as a table: reading them from YAML, laying one set over another, JSON and words. Inside the
 * room only. */
#ifndef ASSAY_METHOD_CHOICE_H
#define ASSAY_METHOD_CHOICE_H

#include "base/json.h"
#include "base/yaml.h"
#include "method/methods.h"

/* Options that were given, and which those are. */
typedef struct assay_draft {
    unsigned set; /* ASSAY_OPT_* */
    bool names_mix; /* the precision was a mix and no type */
    assay_choice c;
} assay_draft;

/* Key of option i < ASSAY_OPT_COUNT. */
const char *assay_option_key(size_t i);
assay_status assay_draft_read(assay_draft *d, const assay_yaml_doc *doc, const assay_yaml *map, assay_err *err);
/* What `above` gives over what `below` gives; another method starts afresh. */
assay_draft assay_draft_lay_over(const assay_draft *below, const assay_draft *above);
/* Completed by its method, or what is wrong with it at that place of the document. */
assay_status assay_draft_complete(assay_choice *out, const assay_draft *d, const assay_yaml_doc *doc, const assay_yaml *map,
                                  assay_err *err);
/* "int4" or "int4g128" into the draft. */
bool assay_draft_precision(assay_draft *d, const char *text);
/* Is it a method of the field, in this build or not? */
bool assay_is_method_word(const char *word);

/* {"method": ..., options}: canonical form of one choice. New reference; NULL when out of memory. */
json_t *assay_choice_to_json(const assay_choice *c);
assay_status assay_choice_from_json(assay_choice *out, const json_t *j, const char *where, assay_err *err);

bool assay_choice_equal(const assay_choice *a, const assay_choice *b);

#endif
