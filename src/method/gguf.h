/* method/gguf.h: the plan of a run whose output is a GGUF file. Inside the room only. */
#ifndef ASSAY_METHOD_GGUF_H
#define ASSAY_METHOD_GGUF_H

#include "method/pipeline.h"

/* Gives every step of method gguf its type, by the mix and the shapes; steps that GGUF never has in blocks become copies. config: that of
 * the output. im: from a file, or NULL;
 * p->has_importance is set where there is that or calibration: llama.cpp's rules ask for it, some types need it (EUSAGE). EUNSUPPORTED: experts of a layer with different types,
 * an architecture or tensor that GGUF has not. */
assay_status assay_gguf_plan(assay_steps *p, const assay_config *c, const json_t *config, const assay_imatrix *im, assay_err *err);

#endif
