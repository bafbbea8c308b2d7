/* kern/body/peak.h: loops that only multiply and add on what the first-level cache holds, and one that only
 * reads: what a machine can do, for kern/limits to time. They have the shape of the tiles: TILE_M x TILE_N
 * sums. */
#ifndef ASSAY_KERN_PEAK_H
#define ASSAY_KERN_PEAK_H

/* Operands of the loops: not const, so that the compiler cannot know them. Sums start apart for the same
 * reason. */
static uint8_t peak_ones[64 * 10];

static inline double peak_f32(size_t n) {
    v16 acc[TILE_M][TILE_N], x[2] = {v16_load(peak_ones + 64 * 8), v16_load(peak_ones + 64 * 9)};
    VEC_UNROLL for (int i = 0; i < TILE_M; i++) VEC_UNROLL for (int j = 0; j < TILE_N; j++) acc[i][j] =
        v16_set1((float)(i * TILE_N + j));
    for (size_t r = 0; r < n; r++) VEC_UNROLL for (int j = 0; j < TILE_N; j++) {
            v16 w = v16_load(peak_ones + 64 * ((r + (size_t)j) % 8));
            VEC_UNROLL for (int i = 0; i < TILE_M; i++) acc[i][j] = v16_fma(x[i % 2], w, acc[i][j]);
        }
    volatile float sink = 0;
    VEC_UNROLL for (int i = 0; i < TILE_M; i++) VEC_UNROLL for (int j = 0; j < TILE_N; j++) sink =
        sink + v16_sum(acc[i][j]);
    return 2.0 * 16 * TILE_M * TILE_N * (double)n;
}
static inline double peak_bf16(size_t n) {
    v16 acc[TILE_M][TILE_N];
    vb x[2] = {vb_load(peak_ones + 64 * 8), vb_load(peak_ones + 64 * 9)};
    VEC_UNROLL for (int i = 0; i < TILE_M; i++) VEC_UNROLL for (int j = 0; j < TILE_N; j++) acc[i][j] =
        v16_set1((float)(i * TILE_N + j));
    for (size_t r = 0; r < n; r++) VEC_UNROLL for (int j = 0; j < TILE_N; j++) {
            vb w = vb_load(peak_ones + 64 * ((r + (size_t)j) % 8));
            VEC_UNROLL for (int i = 0; i < TILE_M; i++) acc[i][j] = vb_dot(acc[i][j], x[i % 2], w);
        }
    volatile float sink = 0;
    VEC_UNROLL for (int i = 0; i < TILE_M; i++) VEC_UNROLL for (int j = 0; j < TILE_N; j++) sink =
        sink + v16_sum(acc[i][j]);
    return 2.0 * 32 * TILE_M * TILE_N * (double)n;
}
static inline double peak_i8(size_t n) {
    v16i acc[ITILE_M][ITILE_B];
    vx x[2] = {vx_bcast4((const int8_t *)peak_ones + 64 * 8), vx_bcast4((const int8_t *)peak_ones + 64 * 9)};
    VEC_UNROLL for (int i = 0; i < ITILE_M; i++) VEC_UNROLL for (int j = 0; j < ITILE_B; j++) acc[i][j] =
        v16i_set1(i * ITILE_B + j);
    for (size_t r = 0; r < n; r++) {
        v16i w[ITILE_B];
        VEC_UNROLL for (int j = 0; j < ITILE_B; j++) w[j] = v16i_load(peak_ones + 64 * ((r + (size_t)j) % 8));
        VEC_UNROLL for (int i = 0; i < ITILE_M; i++) VEC_UNROLL for (int j = 0; j < ITILE_B; j++) acc[i][j] =
            v16i_dot4(acc[i][j], w[j], x[i % 2]);
    }
    volatile int sink = 0;
    VEC_UNROLL for (int i = 0; i < ITILE_M; i++) VEC_UNROLL for (int j = 0; j < ITILE_B; j++) {
        int32_t t[16];
        v16i_store(t, acc[i][j]);
        sink = sink ^ t[0];
    }
    return 2.0 * 64 * ITILE_M * ITILE_B * (double)n;
}
static inline uint64_t read_bytes(const void *p, size_t n) {
    v16i s[8];
    int32_t t[16];
    uint64_t r = 0;
    VEC_UNROLL for (int i = 0; i < 8; i++) s[i] = v16i_set1(0);
    for (size_t c = 0; c < n; c += 512) VEC_UNROLL for (size_t i = 0; i < 8; i++) {
            s[i] = v16i_add(s[i], v16i_load((const char *)p + c + 64 * i));
            VEC_PREFETCH((const char *)p + c + 64 * i + 16384);
        }
    VEC_UNROLL for (int i = 1; i < 8; i++) s[0] = v16i_add(s[0], s[i]);
    v16i_store(t, s[0]);
    for (int i = 0; i < 16; i++) r += (uint32_t)t[i];
    return r;
}

#endif
