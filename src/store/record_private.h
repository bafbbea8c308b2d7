/* store/record_private.h: private to the room. */
#ifndef ASSAY_STORE_RECORD_PRIVATE_H
#define ASSAY_STORE_RECORD_PRIVATE_H

#include "store/record.h"

/* A deep copy; on failure *out is empty. */
assay_status record_copy(assay_record *out, const assay_record *r, assay_err *err);

#endif
