/* kern/kern.c: filling the table: ref first, then each level that the CPU has and the caps allow. Compiled
 * with base flags only. */
#include <stdlib.h>
#include <string.h>
#include "base/status.h"
#include "kern/kern.h"
#include "kern/set.h"

/* Levels in ascending order per architecture; a level stands on those before it. */
typedef enum level { LEVEL_REF, LEVEL_AVX2, LEVEL_AVX512, LEVEL_NEON, LEVEL_UNKNOWN } level;
static const char *const level_names[] = {"ref", "avx2", "avx512", "neon"};

static level level_of(const char *name) {
    for (int i = 0; i < LEVEL_UNKNOWN; i++)
        if (strcmp(name, level_names[i]) == 0) return (level)i;
    return LEVEL_UNKNOWN;
}

/* Whether the CPU and this build have level l. */
static bool level_here(level l) {
    assay_cpu c;
    assay_cpu_detect(&c);
    return l == LEVEL_REF || (l == LEVEL_AVX2 && c.avx2) || (l == LEVEL_AVX512 && c.avx512) ||
           (l == LEVEL_NEON && c.neon);
}

static void overlay(assay_kern *k, level l) {
    k->name = level_names[l];
    k->extras = "";
#if defined(__x86_64__)
    assay_cpu c;
    assay_cpu_detect(&c);
    if (l < LEVEL_AVX2) return;
    assay_kern_set_dot_avx2(k);
    assay_kern_set_int8_avx2(k);
    assay_kern_set_att_avx2(k);
    assay_kern_set_point_avx2(k);
    assay_kern_set_peak_avx2(k);
    if (l < LEVEL_AVX512) return;
    assay_kern_set_dot_avx512(k);
    assay_kern_set_int8_avx512(k);
    assay_kern_set_att_avx512(k);
    assay_kern_set_point_avx512(k);
    assay_kern_set_peak_avx512(k);
    if (!c.vnni) return;
    assay_kern_set_int8_avx512vnni(k);
    assay_kern_set_peak_avx512vnni(k);
    k->extras = "vnni";
    if (!c.bf16) return;
    assay_kern_set_dot_avx512bf16(k);
    assay_kern_set_peak_avx512bf16(k);
    k->extras = "vnni bf16";
#elif defined(__aarch64__)
    if (l != LEVEL_NEON) return;
    assay_kern_set_dot_neon(k);
    assay_kern_set_int8_neon(k);
    assay_kern_set_att_neon(k);
    assay_kern_set_point_neon(k);
    assay_kern_set_peak_neon(k);
#endif
}

/* Lowers *l to the level called `name` (NULL and "" change nothing). */
static assay_status cap(level *l, const char *name, const char *whence, assay_err *err) {
    if (!name || !*name) return ASSAY_OK;
    level want = level_of(name);
    if (want == LEVEL_UNKNOWN)
        return assay_fail(err, ASSAY_EUSAGE,
                          "unknown instruction set '%s' in %s, use ref, avx2, avx512 or neon", name, whence);
    if (!level_here(want))
        return assay_fail(err, ASSAY_EUNSUPPORTED,
                          "%s asks for '%s', which this machine does not have (it has %s)", whence, name,
                          assay_cpu_best());
    if (want < *l) *l = want;
    return ASSAY_OK;
}

assay_status assay_kern_init(assay_kern *out, const char *isa, assay_err *err) {
    level l = level_of(assay_cpu_best());
    ASSAY_TRY(cap(&l, getenv("ASSAY_CPU"), "ASSAY_CPU", err));
    ASSAY_TRY(cap(&l, isa, "the isa option", err));
    memset(out, 0, sizeof *out);
    assay_kern_set_dot_ref(out);
    assay_kern_set_int8_ref(out);
    assay_kern_set_att_ref(out);
    assay_kern_set_point_ref(out);
    assay_kern_set_peak_ref(out);
    overlay(out, l);
    return ASSAY_OK;
}
