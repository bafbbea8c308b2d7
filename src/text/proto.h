/* text/proto.h: reading protocol buffers: one field after another, every length checked against what is left.
 */
#ifndef ASSAY_TEXT_PROTO_H
#define ASSAY_TEXT_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where reading stands; a message inside another is a reader of its bytes. */
typedef struct assay_proto {
    const uint8_t *p, *end;
    bool broken; /* something did not fit; nothing more is read */
} assay_proto;

typedef struct assay_proto_field {
    uint32_t number;
    uint32_t wire;       /* 0 varint, 1 eight bytes, 2 bytes with a length, 5 four bytes */
    uint64_t value;      /* of wire 0, 1 and 5 */
    const uint8_t *data; /* of wire 2; borrowed */
    size_t n;
} assay_proto_field;

/* The next field; false at the end, or when it is broken. */
bool assay_proto_next(assay_proto_field *f, assay_proto *r);
/* The float in a field of four bytes. */
float assay_proto_float(const assay_proto_field *f);

#endif
