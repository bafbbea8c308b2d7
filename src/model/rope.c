/* rope.c: the inverse frequencies of rotary position embeddings (Su et al. 2021, RoFormer), with the scalings
 * that checkpoints use.
 *
 * Every step is a float32 operation in the order of transformers' modeling_rope_utils.py, because trained
 * models have seen those roundings: inv_freq[i] = 1 / theta^(2i / rotary_dim), then
 *   linear    inv_freq / factor (Chen et al. 2023, position interpolation)
 *   llama3    by wavelength 2 pi / inv_freq: above original / low_freq_factor divided by factor, below
 *             original / high_freq_factor kept, between the two blended linearly (Llama 3.1)
 *   yarn      blended by dimension between kept and divided, over a ramp from where the original length has
 *             beta_fast turns to where it has beta_slow (Peng et al. 2023)
 *   longrope  divided by a factor per pair: short factors for positions within the original length, long ones beyond
 *   dynamic   theta grown with the length once it is beyond the original one (NTK-aware)
 * The power is evaluated in double and rounded once; the original's vectorised powf may differ from it in the
 * last bit. It does not rotate: that is the backend's rotate operation.
 *
 * THE LENGTH. The last two depend on how long the text is, and transformers takes the length of the call at hand.
 *   longrope  A text that is longer than the original length turns by the long factors throughout: near and far positions must be
 *             turned alike to be compared. One that grows beyond it while it is continued is computed again from its beginning, as
 *             transformers' Phi-3 does. So a result depends on the tokens known when it is computed, not on batches or pieces; who
 *             calls the model says for each row which kind its text is (assay_config_is_long).
 *   dynamic   Position p turns as when it was the last of p + 1: what transformers gives token by token, where keys keep the base that
 *             they were stored with. */
#include "model/arch.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"

static const float pi_f = 3.14159265358979323846f;
static const double pi = 3.14159265358979323846;

static const struct {
    const char *word;
    assay_rope_kind kind;
} words[] = {{"default", ASSAY_ROPE_DEFAULT}, {"linear", ASSAY_ROPE_LINEAR},     {"dynamic", ASSAY_ROPE_DYNAMIC},
             {"yarn", ASSAY_ROPE_YARN},       {"longrope", ASSAY_ROPE_LONGROPE}, {"llama3", ASSAY_ROPE_LLAMA3},
             {"su", ASSAY_ROPE_LONGROPE} /* longrope's first name */};

bool assay_rope_parse(assay_rope_kind *out, const char *word) {
    for (size_t i = 0; i < ASSAY_LEN(words); i++)
        if (strcmp(words[i].word, word) == 0) {
            *out = words[i].kind;
            return true;
        }
    return false;
}

const char *assay_rope_word(assay_rope_kind k) {
    for (size_t i = 0; i < ASSAY_LEN(words); i++)
        if (words[i].kind == k) return words[i].word;
    return "none";
}

const char *assay_rope_words(void) {
    return "default, linear, dynamic, yarn, longrope, llama3";
}

static float scale_llama3(float f, const assay_rope *r) {
    float factor = (float)r->factor;
    double original = (double)r->original_max_position;
    float low_wavelen = (float)(original / r->low_freq_factor);
    float high_wavelen = (float)(original / r->high_freq_factor);
    float wavelen = 2.0f * pi_f / f;
    if (wavelen > low_wavelen) return f / factor;
    if (wavelen < high_wavelen) return f;
    float smooth = ((float)original / wavelen - (float)r->low_freq_factor) /
                   (float)(r->high_freq_factor - r->low_freq_factor);
    return (1.0f - smooth) * f / factor + smooth * f;
}

/* The dimension whose pair turns `turns` times over the original length. */
static double yarn_dimension(const assay_rope *r, double dim, double turns) {
    return dim * log((double)r->original_max_position / (turns * 2 * pi)) / (2 * log(r->theta));
}

/* power = theta^(2i / dim) */
static float scale_yarn(float power, int64_t i, const assay_rope *r, int64_t dim) {
    double low = yarn_dimension(r, (double)dim, r->beta_fast), high = yarn_dimension(r, (double)dim, r->beta_slow);
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)(dim - 1));
    if (low == high) high += 0.001;
    float ramp = ((float)i - (float)low) / (float)(high - low);
    float kept = 1.0f - fminf(fmaxf(ramp, 0), 1);
    return 1.0f / ((float)r->factor * power) * (1.0f - kept) + 1.0f / power * kept;
}

/* The base that n positions turn by. */
static double theta_of(const assay_rope *r, int64_t dim, int64_t n) {
    double theta = (double)(float)r->theta, most = (double)r->original_max_position;
    if (r->kind != ASSAY_ROPE_DYNAMIC || n <= r->original_max_position || dim <= 2) return theta;
    return theta * pow(r->factor * (double)n / most - (r->factor - 1), (double)dim / (double)(dim - 2));
}

void assay_rope_frequencies_at(float *inv_freq, const assay_config *c, const assay_rope *r, int64_t n) {
    int64_t half = c->rotary_dim / 2;
    double theta = theta_of(r, c->rotary_dim, n);
    const float *factors = c->rope_factors[n > r->original_max_position];
    for (int64_t i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)c->rotary_dim;
        float power = (float)pow(theta, (double)exponent), f = 1.0f / power;
        switch (r->kind) {
        case ASSAY_ROPE_LINEAR: f = f / (float)r->factor; break;
        case ASSAY_ROPE_LLAMA3: f = scale_llama3(f, r); break;
        case ASSAY_ROPE_YARN: f = scale_yarn(power, i, r, c->rotary_dim); break;
        case ASSAY_ROPE_LONGROPE: f = 1.0f / (factors[i] * power); break;
        case ASSAY_ROPE_NONE:
        case ASSAY_ROPE_DYNAMIC:
        case ASSAY_ROPE_DEFAULT: break;
        }
        inv_freq[i] = f;
    }
}

void assay_rope_frequencies(float *inv_freq, const assay_config *c) {
    assay_rope_frequencies_at(inv_freq, c, &c->rope, 1);
}

static void far_frequencies(float *inv_freq, const void *ctx, int32_t pos) {
    const assay_rope_source *s = ctx;
    assay_rope_frequencies_at(inv_freq, s->config, s->rope, (int64_t)pos + 1);
}

/* FNV-1a. */
static uint64_t mix(uint64_t h, const void *p, size_t n) {
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)p)[i]) * UINT64_C(1099511628211);
    return h;
}

assay_turning assay_rope_rotation(float *inv_freq, const assay_rope_source *source, bool is_long) {
    const assay_config *c = source->config;
    const assay_rope *r = source->rope;
    assay_turning out = {.inv_freq = inv_freq, .half = (int)(c->rotary_dim / 2), .scale = (float)r->scale, .ctx = source};
    assay_rope_frequencies_at(inv_freq, c, r, is_long ? r->original_max_position + 1 : 1);
    if (r->kind != ASSAY_ROPE_DYNAMIC) return out;
    out.near = (int32_t)r->original_max_position;
    out.far = far_frequencies;
    out.tag = mix(mix(UINT64_C(14695981039346656037), &r->theta, sizeof r->theta), &r->factor, sizeof r->factor);
    return out;
}
