/* runtime/stopper.h: the text of one generation as it grows: detokenized, searched for stop strings, handed
 * out piece by piece. Private to the room. */
#ifndef ASSAY_RUNTIME_STOPPER_H
#define ASSAY_RUNTIME_STOPPER_H

#include <stdbool.h>
#include "runtime/runtime.h"

typedef struct assay_stopper {
    const assay_generate_req *req;    /* borrowed */
    const assay_tokenizer *tokenizer; /* NULL: no text */
    assay_detok *detok;
    assay_str text; /* what became certain so far; cut before a stop string once one is found */
    size_t sent;    /* bytes given to on_text */
    bool stopped;   /* a stop string or stop token was found, or on_text asked to stop */
} assay_stopper;

assay_status assay_stopper_init(assay_stopper *s, const assay_tokenizer *t, const assay_generate_req *req,
                                assay_err *err);
/* Adds a token's text. Sets stopped. */
assay_status assay_stopper_push(assay_stopper *s, int32_t id, assay_err *err);
/* No more tokens: flushes what is held back. */
assay_status assay_stopper_finish(assay_stopper *s, assay_err *err);
void assay_stopper_deinit(assay_stopper *s);

#endif
