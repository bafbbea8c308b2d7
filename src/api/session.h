/* api/session.h: opening a model the way every command does. */
#ifndef ASSAY_API_SESSION_H
#define ASSAY_API_SESSION_H

#include "assay/assay.h"
#include "runtime/native.h"

/* Translates the options; EUSAGE names an unknown mode of activations or kind of KV cache. The result borrows nothing. */
assay_status assay_native_opts_of(assay_native_opts *out, const assay_run_opts *o, assay_err *err);

#endif
