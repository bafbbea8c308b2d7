/* config_impl.h: what config.c, config_layers.c and config_rope.c share. */
#ifndef ASSAY_MODEL_CONFIG_IMPL_H
#define ASSAY_MODEL_CONFIG_IMPL_H

#include "model/arch.h"

/* A required integer of [lo, hi]. */
assay_status config_need_int(int64_t *out, const json_t *j, const char *key, int64_t lo, int64_t hi, const char *where, assay_err *err);
/* Optional ones; *out holds the default. */
assay_status config_want_int(int64_t *out, const json_t *j, const char *key, int64_t lo, int64_t hi, const char *where, assay_err *err);
assay_status config_want_double(double *out, const json_t *j, const char *key, double lo, double hi, const char *where, assay_err *err);
/* NULL when absent or null. */
const json_t *config_present(const json_t *j, const char *key);
/* The name that a key has in this config.json: its usual one, or the architecture's own. */
const char *config_key(const assay_config *c, const json_t *j, const char *key);

/* Windows, experts and positions by layer, after the sizes: config_layers.c. */
assay_status config_parse_window(assay_config *c, const json_t *j, const char *where, assay_err *err);
assay_status config_parse_experts(assay_config *c, const json_t *j, const char *where, assay_err *err);
assay_status config_parse_positions(assay_config *c, const json_t *j, const char *where, assay_err *err);
/* Rotary positions and the scale of the scores, after the sizes: config_rope.c. */
assay_status config_parse_rope(assay_config *c, const json_t *j, const char *where, assay_err *err);

#endif
