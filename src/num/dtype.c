/* dtype.c: the table of element types (dtypes.def) turned into look-ups. Does no arithmetic on elements:
 * that is convert.c. */
#include "num/dtype.h"

#include <string.h>

typedef struct dtype_info {
    const char *name;
    size_t bytes;
} dtype_info;

static const dtype_info INFO[ASSAY_DTYPE_COUNT] = {
#define X(name, bytes, st) {st, bytes},
#include "num/dtypes.def"
#undef X
};

size_t assay_dtype_size(assay_dtype t) {
    return (unsigned)t < ASSAY_DTYPE_COUNT ? INFO[t].bytes : 0;
}

const char *assay_dtype_name(assay_dtype t) {
    return (unsigned)t < ASSAY_DTYPE_COUNT ? INFO[t].name : "?";
}

bool assay_dtype_parse(assay_dtype *out, const char *name, size_t n) {
    for (int i = 0; i < ASSAY_DTYPE_COUNT; i++) {
        if (strlen(INFO[i].name) == n && memcmp(INFO[i].name, name, n) == 0) {
            *out = (assay_dtype)i;
            return true;
        }
    }
    return false;
}

bool assay_dtype_is_float(assay_dtype t) {
    return (unsigned)t <= ASSAY_DTYPE_F8_E8M0; /* the floats come first in dtypes.def */
}

int64_t assay_tensor_n_elements(const assay_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) {
        if (t->dims[i] < 0 || __builtin_mul_overflow(n, t->dims[i], &n)) return -1;
    }
    return n;
}

int64_t assay_tensor_file_row(const assay_tensor *t, int64_t row) {
    if (t->order != ASSAY_ORDER_PAIRS && t->order != ASSAY_ORDER_PARTS) return row;
    int64_t of_head = t->dims[0] / t->n_heads, head = row / of_head, at = row % of_head;
    if (t->order == ASSAY_ORDER_PAIRS) return head * of_head + at % (of_head / 2) * 2 + at / (of_head / 2);
    int64_t size = of_head / 3; /* of the head's query, key or value */
    return (at / size * t->n_heads + head) * size + at % size;
}
