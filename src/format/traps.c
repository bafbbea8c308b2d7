/* traps.c: see traps.h. Each matrix's outline is looked at once; matrices that runtimes fuse are compared with the first of their kind in
 * the layer.
 *
 * Which GPTQ version a file has shows in its zero points: symmetric ones read with the wrong version are all one off the middle; of
 * asymmetric ones the decoded weights' mean is one step off zero, where weights have a mean near zero (rows of the first matrices). */
#include "format/traps.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "format/convention.h"
#include "num/convert.h"

static const struct {
    const char *name, *text;
} TRAPS[] = {
#define X(NAME, id, text) {id, text},
#include "format/traps.def"
#undef X
};

const char *assay_trap_name(assay_trap_id id) {
    return (size_t)id < ASSAY_LEN(TRAPS) ? TRAPS[id].name : "?";
}

const char *assay_trap_text(assay_trap_id id) {
    return (size_t)id < ASSAY_LEN(TRAPS) ? TRAPS[id].text : "?";
}

enum { SAMPLED = 8 /* matrices whose codes are looked at */ };

typedef struct search {
    assay_trap *traps;
    const assay_checkpoint *c;
    const json_t *config, *quant;
    assay_convention convention;
    assay_dtype model_dtype;
    int sampled;
} search;

static void spring(search *s, assay_trap_id id, const char *where) {
    if (s->traps[id].n++ == 0) snprintf(s->traps[id].where, sizeof s->traps[id].where, "%s", where);
}

/* --- one matrix --- */

static bool is_gptq(const search *s) {
    return s->convention == ASSAY_CONVENTION_GPTQ || s->convention == ASSAY_CONVENTION_GPTQ_V2;
}

/* All zero points one off the middle, as the other version's symmetric ones look. */
static bool zeros_are(const assay_matrix *m, int value) {
    for (int64_t i = 0; m->zeros && i < m->n_scales; i++)
        if (m->zeros[i] != value) return false;
    return m->zeros != NULL;
}

/* Mean of code - zero over some rows. */
static bool sample_mean(double *mean, const search *s, const char *name) {
    assay_matrix m;
    double sum = 0;
    if (assay_checkpoint_matrix(&m, s->c, s->quant, name, 0, 0, s->model_dtype, NULL) != ASSAY_OK) return false;
    int64_t rows = ASSAY_MIN(m.rows, 256), groups = assay_matrix_n_groups(&m), size = m.group_size ? m.group_size : m.cols;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < m.cols; c++) {
            int64_t g = m.g_idx ? m.g_idx[c] : c / size;
            sum += m.codes[r * m.cols + c] - (m.zeros ? m.zeros[r * groups + g] : 1 << (assay_precision_bits(m.precision) - 1));
        }
    *mean = sum / (double)(rows * m.cols);
    assay_matrix_deinit(&m);
    return true;
}

static void look_at_version(search *s, const char *name, const assay_matrix *m) {
    int middle = 1 << (assay_precision_bits(m->precision) - 1), off = s->convention == ASSAY_CONVENTION_GPTQ ? 1 : -1;
    double mean;
    if (!is_gptq(s) || !m->zeros) return;
    /* read as version 1 a version 2 zero point comes out one too high, and the other way round */
    if (zeros_are(m, middle + off))
        spring(s, ASSAY_TRAP_VERSION_CLAIM, name);
    else if (s->sampled++ < SAMPLED && sample_mean(&mean, s, name) && fabs(mean + off) < 0.3)
        spring(s, ASSAY_TRAP_VERSION_CLAIM, name);
    for (int64_t i = 0; s->convention == ASSAY_CONVENTION_GPTQ && i < m->n_scales; i++)
        if (m->zeros[i] == 0) {
            spring(s, ASSAY_TRAP_ZERO_WRAP, name);
            break;
        }
}

static void look_at_claims(search *s, const char *name, const assay_matrix *m) {
    if (!is_gptq(s)) return;
    if (m->g_idx && json_is_false(json_object_get(s->quant, "desc_act"))) spring(s, ASSAY_TRAP_ORDER_UNSAID, name);
    if (m->zeros && json_is_true(json_object_get(s->quant, "sym"))) spring(s, ASSAY_TRAP_SYM_CLAIM, name);
}

static float narrowed(float v, assay_dtype t) {
    return t == ASSAY_DTYPE_F16 ? assay_f16_to_f32(assay_f32_to_f16(v)) : t == ASSAY_DTYPE_BF16 ? assay_bf16_to_f32(assay_f32_to_bf16(v)) : v;
}

static void look_at_scales(search *s, const char *name, const assay_matrix *m) {
    bool rounds = false, bad = false, integer = assay_precision_get_kind(m->precision) == ASSAY_KIND_INT;
    for (int64_t i = 0; i < m->n_scales; i++) {
        bad = bad || !isfinite(m->scales[i]) || m->scales[i] == 0;
        rounds = rounds || narrowed(m->scales[i], s->model_dtype) != m->scales[i];
    }
    if (bad) spring(s, ASSAY_TRAP_SCALE_ZERO, name);
    if (rounds && integer && s->convention == ASSAY_CONVENTION_CT) spring(s, ASSAY_TRAP_SCALE_TYPE, name);
    if (integer && m->group_size > 0 && m->cols % m->group_size != 0) spring(s, ASSAY_TRAP_GROUP_RAGGED, name);
}

/* --- what is fused --- */

/* The matrix after which one follows when they are fused: "q_proj" for "k_proj" and "v_proj", "gate_proj" for "up_proj". */
static const struct {
    const char *follower, *leader;
} FUSED[] = {{"k_proj.weight", "q_proj.weight"}, {"v_proj.weight", "q_proj.weight"}, {"up_proj.weight", "gate_proj.weight"},
             {"w3.weight", "w1.weight"}};

static bool leader_of(char *out, size_t size, const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < ASSAY_LEN(FUSED); i++) {
        size_t k = strlen(FUSED[i].follower);
        if (n <= k || name[n - k - 1] != '.' || strcmp(name + n - k, FUSED[i].follower) != 0) continue;
        snprintf(out, size, "%.*s%s", (int)(n - k), name, FUSED[i].leader);
        return true;
    }
    return false;
}

/* The scale that the whole tensor has; 0 when it has none. */
static float tensor_scale(const assay_matrix *m) {
    if (m->precision == ASSAY_PRECISION_NVFP4) return m->global_scale;
    bool fp8 = m->precision == ASSAY_PRECISION_FP8_E4M3 || m->precision == ASSAY_PRECISION_FP8_E5M2;
    return fp8 && assay_matrix_sharing(m) == ASSAY_SHARING_TENSOR ? m->scales[0] : 0;
}

static void look_at_fused(search *s, const char *name, const assay_matrix *m) {
    char leader[200];
    assay_matrix l;
    if (s->convention == ASSAY_CONVENTION_GGUF) return; /* llama.cpp multiplies by each on its own, and mixes differ by design */
    if (!leader_of(leader, sizeof leader, name)) return;
    if (assay_checkpoint_outline(&l, s->c, s->quant, leader, s->model_dtype, NULL) != ASSAY_OK) return;
    if (l.precision != m->precision || l.group_size != m->group_size || (l.row_block > 1) != (m->row_block > 1) || l.act_bits != m->act_bits)
        spring(s, ASSAY_TRAP_FUSED_STORAGE, name);
    else if (tensor_scale(&l) != tensor_scale(m))
        spring(s, ASSAY_TRAP_FUSED_SCALE, name);
    assay_matrix_deinit(&l);
}

/* --- all of it --- */

static void look_at(search *s, const char *name, const assay_matrix *m) {
    look_at_version(s, name, m);
    look_at_claims(s, name, m);
    look_at_scales(s, name, m);
    if (strcmp(name, "lm_head.weight") == 0 && json_is_true(json_object_get(s->config, "tie_word_embeddings")))
        spring(s, ASSAY_TRAP_TIED_HEAD, name);
}

static assay_dtype model_dtype(const json_t *config) {
    const char *name = json_string_value(json_object_get(config, "dtype"));
    if (!name) name = json_string_value(json_object_get(config, "torch_dtype"));
    return !name || strcmp(name, "bfloat16") == 0 ? ASSAY_DTYPE_BF16 : strcmp(name, "float16") == 0 ? ASSAY_DTYPE_F16 : ASSAY_DTYPE_F32;
}

static assay_status look_at_files(search *s, const char *folder, assay_err *err) {
    char *path = folder ? assay_path_join(folder, "quantize_config.json") : NULL;
    if (folder && !path) return assay_nomem(err);
    if (path && assay_path_exists(path) && !s->quant) spring(s, ASSAY_TRAP_CONFIG_ELSEWHERE, "quantize_config.json");
    assay_free(path);
    return ASSAY_OK;
}

assay_status assay_traps_find(assay_trap *traps, const assay_checkpoint *c, const json_t *config, const char *folder, assay_err *err) {
    search s = {.traps = traps, .c = c, .config = config, .quant = json_object_get(config, "quantization_config")};
    json_t *seen = json_object();
    assay_status status = ASSAY_OK;
    memset(traps, 0, ASSAY_TRAP_COUNT * sizeof *traps);
    if (!seen) return assay_nomem(err);
    if (json_is_null(s.quant)) s.quant = NULL;
    s.model_dtype = model_dtype(config);
    if ((status = assay_convention_detect(&s.convention, s.quant, err)) != ASSAY_OK) goto out;
    if (assay_checkpoint_is_gguf(c)) s.convention = ASSAY_CONVENTION_GGUF;
    if ((status = look_at_files(&s, folder, err)) != ASSAY_OK) goto out;
    for (size_t i = 0; i < assay_checkpoint_n_tensors(c); i++) {
        char name[600];
        assay_matrix m;
        const assay_tensor *t = assay_checkpoint_get(c, i);
        bool part = assay_checkpoint_part_of(name, sizeof name - 8, c, s.quant, t->name);
        if (part)
            memcpy(name + strlen(name), ".weight", sizeof ".weight");
        else
            snprintf(name, sizeof name, "%.590s", t->name);
        if (json_object_get(seen, name) || (!part && t->n_dims != 2)) continue;
        if (json_object_set_new(seen, name, json_true()) != 0) {
            status = assay_nomem(err);
            break;
        }
        if (!s.quant || assay_checkpoint_outline(&m, c, s.quant, name, s.model_dtype, NULL) != ASSAY_OK) continue;
        if (part) look_at(&s, name, &m);
        look_at_fused(&s, name, &m);
        assay_matrix_deinit(&m);
        assay_checkpoint_release(c, t);
    }
out:
    json_decref(seen);
    return status;
}
