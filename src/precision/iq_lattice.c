/* iq_lattice.c: candidates for vectors that are not on an IQ grid (ggml-quants.c: iq2xs_init_impl,
 * iq3xs_init_impl and the find_best_neighbour functions). Two-bit grids have three levels, so 6,561
 * vectors of eight; three-bit ones 4,096 of four. */
#include "precision/iq_lattice.h"

#include <float.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "precision/iq_points.h"

typedef struct source {
    const uint16_t *points;
    int n, dims, bits, n_levels;
    int distances; /* how many least distances are listed */
} source;

enum { IQ2_XXS, IQ2_XS, IQ2_S, IQ1, IQ3_XXS, IQ3_S, N_LATTICES };
static const source SOURCES[N_LATTICES] = {
    {assay_points_IQ2_XXS, 256, 8, 2, 3, 2}, {assay_points_IQ2_XS, 512, 8, 2, 3, 2},
    {assay_points_IQ2_S, 1024, 8, 2, 3, 1},  {assay_points_IQ1, 2048, 8, 2, 3, 3},
    {assay_points_IQ3_XXS, 256, 4, 3, 8, 2}, {assay_points_IQ3_S, 512, 4, 3, 8, 3},
};

static int index_of(assay_precision p) {
    switch (p) {
    case ASSAY_PRECISION_IQ2_XXS:
        return IQ2_XXS;
    case ASSAY_PRECISION_IQ2_XS:
        return IQ2_XS;
    case ASSAY_PRECISION_IQ2_S:
        return IQ2_S;
    case ASSAY_PRECISION_IQ1_S:
    case ASSAY_PRECISION_IQ1_M:
        return IQ1;
    case ASSAY_PRECISION_IQ3_XXS:
        return IQ3_XXS;
    case ASSAY_PRECISION_IQ3_S:
        return IQ3_S;
    default:
        return -1;
    }
}

/* --- making one --- */

enum { MAX_DISTANCE = 4 * 7 * 7 }; /* squared, in levels */

static void unpack(uint8_t *levels, uint32_t packed, const source *s) {
    for (int i = 0; i < ASSAY_LATTICE_DIMS; i++)
        levels[i] = (uint8_t)(i < s->dims ? packed >> s->bits * i & ((1u << s->bits) - 1) : 0);
}

/* Squared distance of each point from `levels`. */
static void measure(uint8_t *restrict distance, const uint8_t (*restrict points)[ASSAY_LATTICE_DIMS], int n,
                    const uint8_t *restrict levels) {
    for (int j = 0; j < n; j++) {
        int d = 0;
        for (int i = 0; i < ASSAY_LATTICE_DIMS; i++)
            d += (points[j][i] - levels[i]) * (points[j][i] - levels[i]);
        distance[j] = (uint8_t)d;
    }
}

/* Appends the list of one vector to out, or only counts; returns its entries, the length among them. */
static size_t list_near(uint16_t *out, const uint8_t *distance, const source *s) {
    int count[MAX_DISTANCE + 1] = {0}, left = s->distances;
    size_t n = 0;
    for (int j = 0; j < s->n; j++) count[distance[j]]++;
    for (int d = 0; d <= MAX_DISTANCE && left > 0; d++) {
        if (count[d] == 0) continue;
        left--;
        for (int j = 0; out && j < s->n; j++)
            if (distance[j] == d) out[1 + n++] = (uint16_t)j;
        if (!out) n += (size_t)count[d];
    }
    if (out) out[0] = (uint16_t)n;
    return n + 1;
}

/* Every vector's list: counted when near is NULL, else written and its place noted. */
static size_t list_all(assay_lattice *g, const source *s, bool write) {
    uint8_t distance[2048], levels[ASSAY_LATTICE_DIMS];
    size_t n = 0;
    for (uint32_t v = 0; v < 1u << s->bits * s->dims; v++) {
        if (g->at[v] >= 0) continue;
        unpack(levels, v, s);
        bool valid = true;
        for (int i = 0; i < s->dims; i++) valid &= levels[i] < s->n_levels;
        if (!valid) continue;
        measure(distance, (const uint8_t(*)[ASSAY_LATTICE_DIMS])g->levels, s->n, levels);
        if (write) g->at[v] = -1 - (int32_t)n;
        n += list_near(write ? g->near + n : NULL, distance, s);
    }
    return n;
}

static void lattice_free(assay_lattice *g) {
    if (!g) return;
    assay_free(g->at);
    assay_free(g->near);
    assay_free(g->levels);
    assay_free(g);
}

static assay_lattice *lattice_new(const source *s) {
    size_t n_vectors = (size_t)1 << s->bits * s->dims;
    assay_lattice *g = assay_calloc(1, sizeof *g);
    if (!g) return NULL;
    *g = (assay_lattice){.dims = s->dims, .bits = s->bits, .n_levels = s->n_levels};
    g->at = assay_mallocn(n_vectors, sizeof *g->at);
    g->levels = assay_mallocn((size_t)s->n, sizeof *g->levels);
    if (!g->at || !g->levels) goto fail;
    for (size_t v = 0; v < n_vectors; v++) g->at[v] = -1;
    for (int j = 0; j < s->n; j++) {
        g->at[s->points[j]] = j;
        unpack(g->levels[j], s->points[j], s);
    }
    g->near = assay_mallocn(list_all(g, s, false), sizeof *g->near);
    if (!g->near) goto fail;
    list_all(g, s, true);
    return g;
fail:
    lattice_free(g);
    return NULL;
}

/* --- keeping them --- */

static _Atomic(assay_lattice *) made[N_LATTICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

const assay_lattice *assay_lattice_made(assay_precision p) {
    int i = index_of(p);
    return i < 0 ? NULL : atomic_load_explicit(&made[i], memory_order_acquire);
}

assay_status assay_lattice_get(const assay_lattice **out, assay_precision p, assay_err *err) {
    int i = index_of(p);
    *out = assay_lattice_made(p);
    if (i < 0 || *out) return ASSAY_OK;
    pthread_mutex_lock(&lock);
    assay_lattice *g = atomic_load_explicit(&made[i], memory_order_relaxed);
    if (!g) {
        g = lattice_new(&SOURCES[i]);
        atomic_store_explicit(&made[i], g, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    *out = g;
    return g ? ASSAY_OK : assay_nomem(err);
}

/* --- choosing --- */

int assay_lattice_find(uint8_t *levels, bool *on_grid, const assay_lattice *g, const float *w,
                       const float *weight, float scale, const float *values) {
    /* Errors of each element at each level; a candidate's are added in the elements' order. */
    float error[ASSAY_LATTICE_DIMS][ASSAY_LATTICE_LEVELS], best = FLT_MAX;
    uint32_t v = 0;
    for (int i = 0; i < g->dims; i++) v |= (uint32_t)levels[i] << g->bits * i;
    int found = g->at[v];
    *on_grid = found >= 0;
    if (found >= 0) return found;
    for (int i = 0; i < g->dims; i++)
        for (int l = 0; l < g->n_levels; l++) {
            float d = scale * values[l] - w[i];
            error[i][l] = weight[i] * d * d;
        }
    const uint16_t *near = g->near - found - 1;
    found = near[1];
    for (int j = 1; j <= near[0]; j++) {
        const uint8_t *p = g->levels[near[j]];
        float sum = error[0][p[0]] + error[1][p[1]] + error[2][p[2]] + error[3][p[3]];
        if (g->dims == 8) sum = sum + error[4][p[4]] + error[5][p[5]] + error[6][p[6]] + error[7][p[7]];
        if (!(sum < best)) continue;
        best = sum;
        found = near[j];
    }
    memcpy(levels, g->levels[found], (size_t)g->dims);
    return found;
}
