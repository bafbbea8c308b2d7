/* base/rng.h: xoshiro256** (Blackman, Vigna 2018), seeded by splitmix64. Always passed, never global. */
#ifndef ASSAY_BASE_RNG_H
#define ASSAY_BASE_RNG_H

#include <stdint.h>

typedef struct assay_rng {
    uint64_t s[4];
} assay_rng;

void assay_rng_init(assay_rng *r, uint64_t seed);
uint64_t assay_rng_next(assay_rng *r);
double assay_rng_double(assay_rng *r);              /* [0, 1), 53 bits */
uint64_t assay_rng_below(assay_rng *r, uint64_t n); /* [0, n), unbiased; n >= 1 */
double assay_rng_normal(assay_rng *r);              /* mean 0, variance 1 */

#endif
