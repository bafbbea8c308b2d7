/* paley.c: see paley.h. chi comes from a generator: where x runs through all of the field's q - 1 units, x^i is a square for even i. The
 * generator is the class of x itself for a primitive polynomial, found by trying; fields here are small, so that takes microseconds
 * and no table of polynomials is needed. For a prime field the same search finds a primitive root (polynomials of degree one). */
#include "linalg/paley.h"

#include <string.h>

enum { MAX_DEGREE = 8 }; /* 3^6 < 1024 */

typedef struct field {
    size_t p, q;
    int degree;
    size_t poly[MAX_DEGREE]; /* monic; without its leading one */
} field;

/* q as a power of an odd prime. */
static bool field_init(field *f, size_t q) {
    if (q < 3 || q % 2 == 0) return false;
    f->q = q;
    for (f->p = 3; f->p * f->p <= q && q % f->p != 0;) f->p += 2;
    if (q % f->p != 0) f->p = q;
    f->degree = 0;
    for (; q % f->p == 0; q /= f->p) f->degree++;
    return q == 1;
}

/* v <- x v mod the polynomial. */
static void times_x(const field *f, size_t *v) {
    int e = f->degree;
    size_t top = v[e - 1];
    for (int d = e - 1; d >= 0; d--) v[d] = ((d ? v[d - 1] : 0) + top * (f->p - f->poly[d])) % f->p;
}
static size_t number(const field *f, const size_t *v) {
    size_t n = 0;
    for (int d = f->degree - 1; d >= 0; d--) n = n * f->p + v[d];
    return n;
}

/* Fills chi from powers of x; false when they return to 1 before all q - 1 units were met. */
static bool powers(int8_t *chi, const field *f) {
    size_t v[MAX_DEGREE] = {1};
    memset(chi, 0, f->q);
    for (size_t i = 0; i + 1 < f->q; i++) {
        size_t n = number(f, v);
        if (n == 0 || (i > 0 && n == 1)) return false;
        chi[n] = i % 2 ? -1 : 1;
        times_x(f, v);
    }
    return true;
}

/* The field behind a matrix of that order. */
static bool field_of_order(field *f, size_t order) {
    if (order < 4 || order > ASSAY_PALEY_MAX || order % 4 != 0) return false;
    return field_init(f, order - 1) || ((order / 2 - 1) % 4 == 1 && field_init(f, order / 2 - 1));
}

bool assay_paley_exists(size_t order) {
    field f;
    return field_of_order(&f, order);
}

bool assay_paley_init(assay_paley *out, size_t order) {
    field f;
    if (!field_of_order(&f, order)) return false;
    *out = (assay_paley){.order = order, .q = f.q, .p = f.p};
    for (size_t c = 1; c < f.q; c++) {
        size_t left = c;
        for (int d = 0; d < f.degree; d++, left /= f.p) f.poly[d] = left % f.p;
        /* without a constant term x has no inverse, and its powers need not come back to 1 */
        if (f.poly[0] != 0 && powers(out->chi, &f)) return true;
    }
    return false; /* every finite field has a primitive polynomial */
}

/* a - b, digit by digit. */
static size_t difference(size_t a, size_t b, size_t p) {
    size_t n = 0;
    for (size_t place = 1; a || b; place *= p, a /= p, b /= p) n += (a % p + p - b % p) % p * place;
    return n;
}

/* Row a of Q, q elements. */
static void residue_row(float *row, const assay_paley *h, size_t a) {
    size_t p = h->p;
    for (size_t high = 0; high < h->q / p; high++) {
        const int8_t *chi = h->chi + difference(a / p, high, p) * p;
        for (size_t low = 0, d = a % p; low < p; low++, d = d ? d - 1 : p - 1) *row++ = chi[d];
    }
}

void assay_paley_row(float *signs, const assay_paley *h, size_t i, bool transpose) {
    if (h->order == h->q + 1) {
        float s = transpose ? -1 : 1;
        signs[0] = i == 0 ? 0 : -s;
        if (i == 0)
            for (size_t j = 1; j < h->order; j++) signs[j] = s;
        else {
            residue_row(signs + 1, h, i - 1);
            for (size_t j = 1; transpose && j < h->order; j++) signs[j] = -signs[j];
        }
        signs[i] += 1;
        return;
    }
    /* C's row in the upper half of the space, spread out to pairs from below */
    size_t side = h->q + 1, a = i / 2;
    float *c = signs + side;
    c[0] = a == 0 ? 0 : 1;
    if (a == 0)
        for (size_t j = 1; j < side; j++) c[j] = 1;
    else
        residue_row(c + 1, h, a - 1);
    for (size_t j = 0; j < side; j++) {
        float v = c[j];
        if (j == a) { /* the only zero of C's row */
            signs[2 * j] = i % 2 ? -1 : 1;
            signs[2 * j + 1] = -1;
        } else {
            signs[2 * j] = v;
            signs[2 * j + 1] = i % 2 ? -v : v;
        }
    }
}
