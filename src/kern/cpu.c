/* kern/cpu.c: what this CPU can do. Compiled with base flags only; the one place that asks. */
#include <string.h>
#include "kern/kern.h"

void assay_cpu_detect(assay_cpu *out) {
    memset(out, 0, sizeof *out);
#if defined(__x86_64__)
    /* libgcc's and compiler-rt's detection also asks the operating system whether it saves the wide
     * registers. */
    __builtin_cpu_init();
    out->avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    out->avx512 = out->avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    out->vnni = out->avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
    out->bf16 = out->vnni && __builtin_cpu_supports("avx512bf16");
#elif defined(__aarch64__)
    out->neon = true; /* part of the architecture */
#endif
}

const char *assay_cpu_best(void) {
    assay_cpu c;
    assay_cpu_detect(&c);
    return c.avx512 ? "avx512" : c.avx2 ? "avx2" : c.neon ? "neon" : "ref";
}
