/* rng.c: xoshiro256** by Blackman and Vigna ("Scrambled linear pseudorandom number generators", 2018), seeded
 * through splitmix64 so that any seed, 0 included, gives a good state. */
#include "base/rng.h"

#include <math.h>

static uint64_t splitmix(uint64_t *x) {
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void assay_rng_init(assay_rng *r, uint64_t seed) {
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&seed);
}

static uint64_t rotl(uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
}

uint64_t assay_rng_next(assay_rng *r) {
    uint64_t *s = r->s, out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

double assay_rng_double(assay_rng *r) {
    return (double)(assay_rng_next(r) >> 11) * 0x1p-53;
}

uint64_t assay_rng_below(assay_rng *r, uint64_t n) {
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x; /* reject the incomplete last stretch: unbiased */
    do
        x = assay_rng_next(r);
    while (x >= limit);
    return x % n;
}

double assay_rng_normal(assay_rng *r) {
    double u = 1.0 - assay_rng_double(r); /* (0, 1] */
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586477 * assay_rng_double(r));
}
