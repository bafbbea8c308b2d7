/* fuzz_prices.c: price files. Whatever they hold, the answer is prices with dates or one error. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include "plan/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_prices *p = NULL;
    assay_err err = {0};
    if (assay_prices_parse(&p, (const char *)data, size, "fuzz", &err) == ASSAY_OK) {
        const assay_price *l4 = assay_prices_find(p, "l4");
        if (l4 && (!l4->date[0] || !(l4->per_hour >= 0))) abort();
    } else if (!err.message[0] || p) {
        abort();
    }
    assay_prices_free(p);
    return 0;
}
