/* rope.c: the inverse frequencies of rotary position embeddings (Su et al. 2021, RoFormer), with the scalings
 * that checkpoints use.
 *
 * Every step is a float32 operation in the order of transformers' modeling_rope_utils.py, because trained
 * models have seen those roundings: inv_freq[i] = 1 / theta^(2i / head_dim), then
 *   linear   inv_freq / factor (Chen et al. 2023, position interpolation)
 *   llama3   by wavelength 2 pi / inv_freq: above original / low_freq_factor divided by factor, below
 *            original / high_freq_factor kept, between the two blended linearly (Llama 3.1)
 * The power is evaluated in double and rounded once; the original's vectorised powf may differ from it in the
 * last bit. It does not rotate: that is the backend's rope operation. */
#include <math.h>
#include "model/arch.h"

static const float pi_f = 3.14159265358979323846f;

static float scale_llama3(float f, const assay_config *c) {
    float factor = (float)c->rope_factor;
    double original = (double)c->rope_original_max_position;
    float low_wavelen = (float)(original / c->rope_low_freq_factor);
    float high_wavelen = (float)(original / c->rope_high_freq_factor);
    float wavelen = 2.0f * pi_f / f;
    if (wavelen > low_wavelen) return f / factor;
    if (wavelen < high_wavelen) return f;
    float smooth = ((float)original / wavelen - (float)c->rope_low_freq_factor) /
                   (float)(c->rope_high_freq_factor - c->rope_low_freq_factor);
    return (1.0f - smooth) * f / factor + smooth * f;
}

void assay_rope_frequencies(float *inv_freq, const assay_config *c) {
    int64_t half = c->head_dim / 2;
    double theta = (double)(float)c->rope_theta;
    for (int64_t i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)c->head_dim;
        float f = 1.0f / (float)pow(theta, (double)exponent);
        switch (c->rope_kind) {
        case ASSAY_ROPE_LINEAR: f = f / (float)c->rope_factor; break;
        case ASSAY_ROPE_LLAMA3: f = scale_llama3(f, c); break;
        case ASSAY_ROPE_NONE:
        case ASSAY_ROPE_DEFAULT: break;
        }
        inv_freq[i] = f;
    }
}
