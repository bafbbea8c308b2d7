/* kern/ref/peak_ref.c: the machine's limits in scalar code, for machines without a vector set. Four chains
 * hide the latency. */
#include "kern/ref/ref.h"

static double peak_float(size_t n) {
    volatile float one = 1;
    float x = one, s[4] = {0};
    for (size_t r = 0; r < n; r++)
        for (int i = 0; i < 4; i++) s[i] = fmaf(x, x, s[i]);
    one = s[0] + s[1] + s[2] + s[3];
    return 2.0 * 4 * (double)n;
}
static double peak_i8(size_t n) {
    volatile int one = 1;
    unsigned x = (unsigned)one, s[4] = {0};
    for (size_t r = 0; r < n; r++)
        for (unsigned i = 0; i < 4; i++) s[i] = s[i] * x + i;
    one = (int)(s[0] + s[1] + s[2] + s[3]);
    return 2.0 * 4 * (double)n;
}
static uint64_t read_bytes(const void *p, size_t n) {
    uint64_t s = 0, v;
    for (size_t c = 0; c < n; c += 8) {
        memcpy(&v, (const char *)p + c, 8);
        s += v;
    }
    return s;
}

void assay_kern_set_peak_ref(assay_kern *k) {
    k->peak_f32 = peak_float;
    k->peak_bf16 = peak_float;
    k->peak_i8 = peak_i8;
    k->read = read_bytes;
}
