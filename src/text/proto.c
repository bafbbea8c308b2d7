/* proto.c: the wire format of protocol buffers: key = number << 3 | wire type, as a varint, then the value.
 * Groups (wire types 3 and 4, long deprecated) count as broken. */
#include "text/proto.h"

#include <string.h>

static uint64_t read_varint(assay_proto *r) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->p == r->end) break;
        uint8_t b = *r->p++;
        v |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80)) return v;
    }
    r->broken = true;
    return 0;
}

static uint64_t read_fixed(assay_proto *r, size_t n) {
    uint64_t v = 0;
    if ((size_t)(r->end - r->p) < n) {
        r->broken = true;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)*r->p++ << 8 * i;
    return v;
}

bool assay_proto_next(assay_proto_field *f, assay_proto *r) {
    if (r->broken || r->p == r->end) return false;
    uint64_t key = read_varint(r);
    *f = (assay_proto_field){.number = (uint32_t)(key >> 3), .wire = key & 7};
    if (key >> 3 == 0 || key >> 32) r->broken = true;
    switch (f->wire) {
    case 0:
        f->value = read_varint(r);
        break;
    case 1:
        f->value = read_fixed(r, 8);
        break;
    case 2: {
        uint64_t n = read_varint(r);
        if (n > (size_t)(r->end - r->p)) r->broken = true;
        if (r->broken) return false;
        f->data = r->p;
        f->n = (size_t)n;
        r->p += n;
        break;
    }
    case 5:
        f->value = read_fixed(r, 4);
        break;
    default:
        r->broken = true;
    }
    return !r->broken;
}

float assay_proto_float(const assay_proto_field *f) {
    uint32_t bits = (uint32_t)f->value;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
