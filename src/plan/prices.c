/* prices.c: the price file. A price is a fact of a day, so one without a date is refused.
 *
 *   prices:
 *     - {device: h100-sxm, per_hour: 2.95, currency: USD, date: 2026-05-20, source: "where it was read",
 * region: eu, tier: on-demand}
 *
 * Any device id may stand here, also one that the table does not have: plans with a device of the caller's
 * own find it too. */
#include <string.h>
#include "base/mem.h"
#include "base/yaml.h"
#include "plan/plan.h"

struct assay_prices {
    assay_price *rows;
    size_t n;
    assay_arena arena;
};

static bool digits(const char *s, int n) {
    for (int i = 0; i < n; i++)
        if (s[i] < '0' || s[i] > '9') return false;
    return true;
}

/* YYYY-MM-DD, or YYYY-MM where the source tells no day. */
static bool is_date(const char *s) {
    size_t n = strlen(s);
    if ((n != 10 && n != 7) || !digits(s, 4) || s[4] != '-' || !digits(s + 5, 2)) return false;
    int month = (s[5] - '0') * 10 + s[6] - '0';
    if (month < 1 || month > 12) return false;
    if (n == 7) return true;
    if (s[7] != '-' || !digits(s + 8, 2)) return false;
    int day = (s[8] - '0') * 10 + s[9] - '0';
    return day >= 1 && day <= 31;
}

static assay_status keep(const char **out, assay_prices *p, const char *s, assay_err *err) {
    *out = assay_arena_strndup(&p->arena, s, strlen(s));
    return *out ? ASSAY_OK : assay_nomem(err);
}

static assay_status read_price(assay_price *out, assay_prices *p, const assay_yaml_doc *d,
                               const assay_yaml *y, assay_err *err) {
    static const char *const known[] = {"device", "per_hour", "currency", "date", "source", "region", "tier"};
    const char *device = NULL, *currency = "USD", *date = NULL, *source = "", *region = "", *tier = "";
    double per_hour = -1;
    ASSAY_TRY(assay_yaml_want(d, y, ASSAY_YAML_MAP, "a price: device, per_hour, date", err));
    ASSAY_TRY(assay_yaml_get_str(&device, d, y, "device", err));
    ASSAY_TRY(assay_yaml_get_double(&per_hour, d, y, "per_hour", 0, 1e6, err));
    ASSAY_TRY(assay_yaml_get_str(&currency, d, y, "currency", err));
    ASSAY_TRY(assay_yaml_get_str(&date, d, y, "date", err));
    ASSAY_TRY(assay_yaml_get_str(&source, d, y, "source", err));
    ASSAY_TRY(assay_yaml_get_str(&region, d, y, "region", err));
    ASSAY_TRY(assay_yaml_get_str(&tier, d, y, "tier", err));
    ASSAY_TRY(assay_yaml_check_unknown(d, y, "price", known, ASSAY_LEN(known), err));
    if (!device || !*device) return assay_yaml_fail(d, y, err, "a price needs a device");
    if (per_hour < 0) return assay_yaml_fail(d, y, err, "price of %s needs per_hour", device);
    if (!date || !*date)
        return assay_yaml_fail(d, y, err, "price of %s has no date; a price without its date is not used",
                               device);
    if (!is_date(date))
        return assay_yaml_fail(d, y, err, "price of %s: '%s' is no date like 2026-05-20", device, date);
    out->per_hour = per_hour;
    out->line = y->line;
    ASSAY_TRY(keep(&out->device, p, device, err));
    ASSAY_TRY(keep(&out->currency, p, currency, err));
    ASSAY_TRY(keep(&out->date, p, date, err));
    ASSAY_TRY(keep(&out->source, p, source, err));
    ASSAY_TRY(keep(&out->region, p, region, err));
    return keep(&out->tier, p, tier, err);
}

static assay_status read_prices(assay_prices *p, const assay_yaml_doc *d, assay_err *err) {
    static const char *const known[] = {"prices"};
    const assay_yaml *root = assay_yaml_root(d);
    ASSAY_TRY(assay_yaml_want(d, root, ASSAY_YAML_MAP, "a mapping with `prices`", err));
    const assay_yaml *list = assay_yaml_find(root, "prices");
    ASSAY_TRY(assay_yaml_check_unknown(d, root, "price file", known, ASSAY_LEN(known), err));
    if (!list) return assay_yaml_fail(d, root, err, "a price file needs the list `prices`");
    ASSAY_TRY(assay_yaml_want(d, list, ASSAY_YAML_SEQ, "a list of prices", err));
    p->rows = assay_calloc(list->n ? list->n : 1, sizeof *p->rows);
    if (!p->rows) return assay_nomem(err);
    for (size_t i = 0; i < list->n; i++, p->n++)
        ASSAY_TRY(read_price(&p->rows[i], p, d, list->items[i], err));
    return ASSAY_OK;
}

static assay_status from_doc(assay_prices **out, const assay_yaml_doc *d, assay_err *err) {
    assay_prices *p = assay_calloc(1, sizeof *p);
    if (!p) return assay_nomem(err);
    assay_status s = read_prices(p, d, err);
    if (s != ASSAY_OK) {
        assay_prices_free(p);
        return s;
    }
    *out = p;
    return ASSAY_OK;
}

assay_status assay_prices_parse(assay_prices **out, const char *text, size_t n, const char *name,
                                assay_err *err) {
    assay_yaml_doc *d = NULL;
    *out = NULL;
    ASSAY_TRY(assay_yaml_parse(&d, text, n, name, err));
    assay_status s = from_doc(out, d, err);
    assay_yaml_free(d);
    return s;
}

assay_status assay_prices_load(assay_prices **out, const char *path, assay_err *err) {
    assay_yaml_doc *d = NULL;
    *out = NULL;
    ASSAY_TRY(assay_yaml_load(&d, path, err));
    assay_status s = from_doc(out, d, err);
    assay_yaml_free(d);
    return s;
}

const assay_price *assay_prices_find(const assay_prices *p, const char *device) {
    const assay_price *best = NULL;
    for (size_t i = 0; p && i < p->n; i++) {
        const assay_price *r = &p->rows[i];
        if (strcmp(r->device, device) != 0) continue;
        if (!best || strcmp(r->date, best->date) > 0) best = r; /* ISO dates sort as text */
    }
    return best;
}

void assay_prices_free(assay_prices *p) {
    if (!p) return;
    assay_free(p->rows);
    assay_arena_free(&p->arena);
    assay_free(p);
}
