/* iq_points.c: the grids' tables and the small tables that make vectors of them; constants, no code. */
#include "precision/iq_points.h"

#define P(NAME, dims, bits, count, ...) const uint16_t assay_points_##NAME[count] = {__VA_ARGS__};
#include "precision/iq_points.def"
#undef P

/* Level 3 of the two-bit grids stands in no point; it is worth what level 2 is. */
#define IQ2(l)     ((l) == 0 ? 8 : (l) == 1 ? 25 : 43)
#define IQ1(l)     ((l) == 0 ? -8 : (l) == 1 ? 0 : 8)
#define IQ3_XXS(l) ((l) == 7 ? 62 : 8 * (l) + 4)
#define IQ3_S(l)   (2 * (l) + 1)

#define QUAD(L, v)                                                                                           \
    { L((v)&3), L((v) >> 2 & 3), L((v) >> 4 & 3), L((v) >> 6 & 3) }
#define PAIR(L, v)                                                                                           \
    { L((v)&7), L((v) >> 3 & 7) }
#define FOUR(V, L, v)    V(L, v), V(L, (v) + 1), V(L, (v) + 2), V(L, (v) + 3)
#define SIXTEEN(V, L, v) FOUR(V, L, v), FOUR(V, L, (v) + 4), FOUR(V, L, (v) + 8), FOUR(V, L, (v) + 12)
#define SIXTY_FOUR(V, L, v)                                                                                  \
    SIXTEEN(V, L, v), SIXTEEN(V, L, (v) + 16), SIXTEEN(V, L, (v) + 32), SIXTEEN(V, L, (v) + 48)
#define ALL(V, L) SIXTY_FOUR(V, L, 0), SIXTY_FOUR(V, L, 64), SIXTY_FOUR(V, L, 128), SIXTY_FOUR(V, L, 192)

const uint8_t assay_levels_iq2[256][4] = {ALL(QUAD, IQ2)};
const int8_t assay_levels_iq1[256][4] = {ALL(QUAD, IQ1)};
const uint8_t assay_levels_iq3_xxs[64][2] = {SIXTY_FOUR(PAIR, IQ3_XXS, 0)};
const uint8_t assay_levels_iq3_s[64][2] = {SIXTY_FOUR(PAIR, IQ3_S, 0)};

const int8_t assay_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
