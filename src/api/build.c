/* build.c: what this program was built from and what it found on this machine. */
#include "api/doc.h"
#include "kern/kern.h"
#include "base/thread.h"

#include <stdio.h>

void assay_set_threads(int most) {
    assay_threads_limit(most);
}

/* Filled at the first call; the text is the same whoever wins a race. */
const char *assay_build_info_json(void) {
    static char text[1024];
    assay_cpu cpu;
    assay_cpu_detect(&cpu);
    snprintf(text, sizeof text,
             "{\"version\": \"%s\", \"build\": \"%s\", \"kernels\": \"%s\", \"cpu\": {\"avx2\": %s, "
             "\"avx512\": %s, \"vnni\": %s, \"bf16\": %s, "
             "\"neon\": %s}, \"cores\": %d, \"features\": {\"cuda\": false, \"mpi\": false}}",
             ASSAY_VERSION, ASSAY_BUILD_FLAGS, assay_cpu_best(), cpu.avx2 ? "true" : "false",
             cpu.avx512 ? "true" : "false", cpu.vnni ? "true" : "false", cpu.bf16 ? "true" : "false",
             cpu.neon ? "true" : "false", assay_n_cores());
    return text;
}
