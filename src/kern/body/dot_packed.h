/* kern/body/dot_packed.h: from blocks of rows to whole calls, for the packed forms (Q4, Q8, S8, E4M3, E5M2, IQ1,
 * IQ2): products of one row of x, some rows of the weight at a time, and unpacking. Included by dot_f32.h and
 * dot_bf16.h, once each per instruction set, after their q4_rows, q8_chunk and f8_rows:
 *   DOT_CLASS  f32 or bf16: the suffix of those functions and of the ones made here
 *   DOT_ELEM   type of x and of the unpacked values
 * No include guard, and it undefines both. */
#define DOT_PASTE_(a, b, c) a##b##c
#define DOT_PASTE(a, b, c) DOT_PASTE_(a, b, c)
#define DOT_Q4_ROWS DOT_PASTE(q4_rows_, DOT_CLASS, )
#define DOT_Q8_ROWS DOT_PASTE(q8_rows_, DOT_CLASS, )
#define DOT_F8_ROWS DOT_PASTE(f8_rows_, DOT_CLASS, )
#define DOT_ZERO_TAIL DOT_PASTE(zero_tail_, DOT_CLASS, )
#define DOT_Q8_CHUNK DOT_PASTE(q8_chunk_, DOT_CLASS, )
#define DOT_GRID_ROWS DOT_PASTE(grid_rows_, DOT_CLASS, )

/* Codes of a byte. bytes, a constant: what they are. */
VEC_FN void DOT_Q8_ROWS(float *y, const assay_rows *w, size_t row, int nr, int bytes, const DOT_ELEM *x,
                        DOT_ELEM *out, size_t ld) {
    v16 acc[GEMV_N], zero[GEMV_N], scale[GEMV_N][2];
    dot_scales s[GEMV_N];
    size_t left = 0, g = 0;
    scales_begin(s, w, row, nr);
    VEC_UNROLL for (int r = 0; r < nr; r++) acc[r] = zero[r] = scale[r][0] = v16_zero();
    for (size_t c = 0; c < w->k; c += ASSAY_KERN_CHUNK, left -= ASSAY_KERN_CHUNK) {
        if (bytes >= BYTES_OFFSETS && w->small_scales && c % ASSAY_KERN_SUPER == 0)
            scales_make(s, w, row, nr, c);
        if (bytes == BYTES_SIGNED16 || left == 0) {
            VEC_UNROLL for (int r = 0; r < nr; r++)
                q8_group(&zero[r], scale[r], w, &s[r], row + (size_t)r, g, nr, bytes);
            left = group_columns(w);
            g += bytes == BYTES_SIGNED16 ? 2 : 1;
        }
        VEC_UNROLL for (int r = 0; r < nr; r++) {
            const uint8_t *p = (const uint8_t *)w->data + (row + (size_t)r) * w->stride + c;
            VEC_PREFETCH(p + (size_t)nr * w->stride);
            acc[r] = DOT_Q8_CHUNK(acc[r], w, p, bytes, zero[r], scale[r], x + c,
                                  out ? out + (size_t)r * ld + c : NULL);
        }
    }
    if (!out) VEC_UNROLL for (int r = 0; r < nr; r++) y[r] = v16_sum(acc[r]);
}

static void DOT_PASTE(gemv_, DOT_CLASS, _q4)(float *y, const assay_rows *w, size_t row, size_t n,
                                             const DOT_ELEM *x) {
    size_t j = 0;
#define CALL(G, SCALES)                                                                                      \
    do {                                                                                                     \
        for (; j + GEMV_N <= n; j += GEMV_N) DOT_Q4_ROWS(y + j, w, row + j, GEMV_N, G, SCALES, x, NULL, 0);  \
        for (; j < n; j++) DOT_Q4_ROWS(y + j, w, row + j, 1, G, SCALES, x, NULL, 0);                         \
    } while (0)
    Q4_CASES(w, CALL);
#undef CALL
}
static void DOT_PASTE(gemv_, DOT_CLASS, _q8)(float *y, const assay_rows *w, size_t row, size_t n,
                                             const DOT_ELEM *x) {
    size_t j = 0;
#define CALL(BYTES)                                                                                          \
    do {                                                                                                     \
        for (; j + GEMV_N <= n; j += GEMV_N) DOT_Q8_ROWS(y + j, w, row + j, GEMV_N, BYTES, x, NULL, 0);      \
        for (; j < n; j++) DOT_Q8_ROWS(y + j, w, row + j, 1, BYTES, x, NULL, 0);                             \
    } while (0)
    Q8_CASES(w, CALL);
#undef CALL
}

/* Values of a row's padding are computed from padding codes; the contract wants zeros there. */
VEC_FN void DOT_ZERO_TAIL(DOT_ELEM *out, size_t k) {
    for (size_t c = k; c % ASSAY_KERN_CHUNK; c++) out[c] = 0;
}
static void DOT_PASTE(unpack_, DOT_CLASS, _q4)(DOT_ELEM *out, size_t ld, const assay_rows *w, size_t row,
                                               size_t n) {
    for (size_t j = 0; j < n; j++) {
#define CALL(G, SCALES) DOT_Q4_ROWS(NULL, w, row + j, 1, G, SCALES, NULL, out + j * ld, ld)
        Q4_CASES(w, CALL);
#undef CALL
        DOT_ZERO_TAIL(out + j * ld, w->k);
    }
}
static void DOT_PASTE(unpack_, DOT_CLASS, _q8)(DOT_ELEM *out, size_t ld, const assay_rows *w, size_t row,
                                               size_t n) {
    for (size_t j = 0; j < n; j++) {
#define CALL(BYTES) DOT_Q8_ROWS(NULL, w, row + j, 1, BYTES, NULL, out + j * ld, ld)
        Q8_CASES(w, CALL);
#undef CALL
        DOT_ZERO_TAIL(out + j * ld, w->k);
    }
}
/* 8-bit floats: the same for each kind. */
#define DOT_F8(name, FORM)                                                                                   \
    static void DOT_PASTE(gemv_, DOT_CLASS, name)(float *y, const assay_rows *w, size_t row, size_t n,       \
                                                  const DOT_ELEM *x) {                                       \
        size_t j = 0;                                                                                        \
        for (; j + GEMV_N <= n; j += GEMV_N) DOT_F8_ROWS(y + j, w, row + j, GEMV_N, FORM, x, NULL, 0);       \
        for (; j < n; j++) DOT_F8_ROWS(y + j, w, row + j, 1, FORM, x, NULL, 0);                              \
    }                                                                                                        \
    static void DOT_PASTE(unpack_, DOT_CLASS, name)(DOT_ELEM *out, size_t ld, const assay_rows *w,           \
                                                    size_t row, size_t n) {                                  \
        for (size_t j = 0; j < n; j++) {                                                                     \
            DOT_F8_ROWS(NULL, w, row + j, 1, FORM, NULL, out + j * ld, ld);                                  \
            DOT_ZERO_TAIL(out + j * ld, w->k);                                                               \
        }                                                                                                    \
    }
DOT_F8(_e4m3, ASSAY_FORM_E4M3)
DOT_F8(_e5m2, ASSAY_FORM_E5M2)
#undef DOT_F8

/* Grids: each 64 codes become signed bytes before they become values. form is a constant. */
VEC_FN void DOT_GRID_ROWS(float *y, const assay_rows *w, size_t row, int nr, assay_form form, const DOT_ELEM *x,
                          DOT_ELEM *out, size_t ld) {
    const uint8_t *p = (const uint8_t *)w->data + row * w->stride;
    v16 acc[GRID_N];
    VEC_UNROLL for (int r = 0; r < nr; r++) acc[r] = v16_zero();
    for (size_t c = 0; c < w->k; p += grid_bytes(form)) {
        grid_block b[GRID_N];
        VEC_UNROLL for (int r = 0; r < nr; r++) grid_open(&b[r], p + (size_t)r * w->stride, form);
        for (size_t step = 0; step < GRID_BLOCK / 64; step++, c += 64) VEC_UNROLL for (int r = 0; r < nr; r++) {
            uint8_t q[64];
            v64_store(q, grid_codes(&b[r], p + (size_t)r * w->stride, step, w->points, form));
            VEC_UNROLL for (size_t h = 0; h < 2; h++) {
                size_t g = grid_fine(form) ? 4 * step + 2 * h : 2 * step + h;
                v16 scale[2] = {v16_set1(b[r].scales[grid_scale_at(g, form)]),
                                v16_set1(b[r].scales[grid_scale_at(g + grid_fine(form), form)])};
                acc[r] = DOT_Q8_CHUNK(acc[r], w, q + 32 * h, grid_fine(form) ? BYTES_SIGNED16 : BYTES_SIGNED, v16_zero(),
                                      scale, x + c + 32 * h, out ? out + (size_t)r * ld + c + 32 * h : NULL);
            }
        }
    }
    if (!out) VEC_UNROLL for (int r = 0; r < nr; r++) y[r] = v16_sum(acc[r]);
}
#define DOT_GRIDS(EACH)                                                                                      \
    EACH(_iq1_s, ASSAY_FORM_IQ1_S)                                                                           \
    EACH(_iq1_m, ASSAY_FORM_IQ1_M)                                                                           \
    EACH(_iq2_xxs, ASSAY_FORM_IQ2_XXS)                                                                       \
    EACH(_iq2_xs, ASSAY_FORM_IQ2_XS)                                                                         \
    EACH(_iq2_s, ASSAY_FORM_IQ2_S)
#define DOT_GRID(name, FORM)                                                                                 \
    static void DOT_PASTE(gemv_, DOT_CLASS, name)(float *y, const assay_rows *w, size_t row, size_t n,       \
                                                  const DOT_ELEM *x) {                                       \
        size_t j = 0;                                                                                        \
        for (; j + GRID_N <= n; j += GRID_N) DOT_GRID_ROWS(y + j, w, row + j, GRID_N, FORM, x, NULL, 0);     \
        for (; j < n; j++) DOT_GRID_ROWS(y + j, w, row + j, 1, FORM, x, NULL, 0);                            \
    }                                                                                                        \
    static void DOT_PASTE(unpack_, DOT_CLASS, name)(DOT_ELEM *out, size_t ld, const assay_rows *w,           \
                                                    size_t row, size_t n) {                                  \
        for (size_t j = 0; j < n; j++) DOT_GRID_ROWS(NULL, w, row + j, 1, FORM, NULL, out + j * ld, ld);     \
    }
#define DOT_SET_GRID(name, FORM)                                                                             \
    k->DOT_PASTE(gemv_, DOT_CLASS, )[FORM] = DOT_PASTE(gemv_, DOT_CLASS, name);                              \
    k->DOT_PASTE(unpack_, DOT_CLASS, )[FORM] = DOT_PASTE(unpack_, DOT_CLASS, name);
DOT_GRIDS(DOT_GRID)
static inline void DOT_PASTE(set_grid_, DOT_CLASS, )(assay_kern *k) { DOT_GRIDS(DOT_SET_GRID) }
#undef DOT_GRIDS
#undef DOT_GRID
#undef DOT_SET_GRID
#undef DOT_GRID_ROWS
#undef DOT_Q8_CHUNK

#undef DOT_PASTE_
#undef DOT_PASTE
#undef DOT_Q4_ROWS
#undef DOT_Q8_ROWS
#undef DOT_F8_ROWS
#undef DOT_ZERO_TAIL
#undef DOT_CLASS
#undef DOT_ELEM
