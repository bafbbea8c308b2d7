/* fuzz_imatrix.c: any bytes as an importance matrix of either kind. Of what is accepted every entry must be readable as the matrix that it
 * says it is (the sanitizers watch), and what it weighs must be weights. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include "base/mem.h"
#include "format/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_imatrix *im;
    assay_imatrix_info info;
    float out[64];
    if (assay_imatrix_parse(&im, data, size, "fuzz", NULL) != ASSAY_OK) return 0;
    assay_imatrix_describe(&info, im);
    for (size_t i = 0; i < info.n_entries && i < 16; i++)
        for (int64_t cols = 1; cols <= 64; cols *= 2)
            for (int64_t expert = -1; expert < 4; expert++) {
                if (assay_imatrix_weights(out, im, assay_imatrix_name_at(im, i), cols, expert, 4, NULL) != ASSAY_OK) continue;
                for (int64_t c = 0; c < cols; c++)
                    if (!isfinite(out[c]) || out[c] < 0) abort();
            }
    assay_imatrix_close(im);
    return 0;
}
