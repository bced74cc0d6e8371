#include "model/rope.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

static const double TWO_PI = 6.283185307179586476925;

/* 1 / theta^(2i/head_dim), rounded to float32 where Transformers does. */
static float plain_frequency(const vlm_text_config *c, uint32_t i)
{
    const float exponent = (float)(2 * i) / (float)c->head_dim;
    return 1.0f / (float)pow(c->rope_theta, (double)exponent);
}

/* "llama3": long wavelengths are slowed by factor, short ones kept, those between blended. */
static float llama3_frequency(const vlm_rope_scaling *s, float frequency)
{
    const double old_len = s->original_max_positions;
    const double low_wavelen = old_len / s->low_freq_factor;
    const double high_wavelen = old_len / s->high_freq_factor;
    const double wavelen = TWO_PI / (double)frequency;
    if (wavelen < high_wavelen) return frequency;
    if (wavelen > low_wavelen) return (float)((double)frequency / s->factor);
    const double smooth =
        (old_len / wavelen - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    return (float)((1.0 - smooth) * (double)frequency / s->factor + smooth * (double)frequency);
}

/* The pair index whose wavelength makes n_rotations turns over the original context. */
static double yarn_correction(const vlm_text_config *c, double n_rotations)
{
    const double len = c->rope_scaling.original_max_positions;
    return c->head_dim * log(len / (n_rotations * TWO_PI)) / (2.0 * log(c->rope_theta));
}

/* "yarn": interpolate slow pairs, extrapolate fast ones, a linear ramp between (Peng et al., 2023).
 */
static float yarn_frequency(const vlm_text_config *c, uint32_t i, float frequency)
{
    const vlm_rope_scaling *s = &c->rope_scaling;
    double low = yarn_correction(c, s->beta_fast), high = yarn_correction(c, s->beta_slow);
    if (s->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0.0);
    high = fmin(high, (double)c->head_dim - 1.0);
    if (low == high) high += 0.001;
    const double ramp = fmin(fmax((i - low) / (high - low), 0.0), 1.0);
    const double interpolated = (double)frequency / s->factor;
    return (float)(interpolated * ramp + (double)frequency * (1.0 - ramp));
}

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

/* What cos and sin are multiplied by. */
static float attention_factor(const vlm_rope_scaling *s)
{
    if (s->type != VLM_ROPE_YARN) return 1.0f;
    if (s->attention_factor > 0.0) return (float)s->attention_factor;
    if (s->mscale != 0.0 && s->mscale_all_dim != 0.0)
        return (float)(yarn_mscale(s->factor, s->mscale) /
                       yarn_mscale(s->factor, s->mscale_all_dim));
    return (float)yarn_mscale(s->factor, 1.0);
}

static float scaled_frequency(const vlm_text_config *c, uint32_t i)
{
    const float frequency = plain_frequency(c, i);
    switch (c->rope_scaling.type) {
    case VLM_ROPE_NONE: break;
    case VLM_ROPE_LINEAR: return (float)((double)frequency / c->rope_scaling.factor);
    case VLM_ROPE_LLAMA3: return llama3_frequency(&c->rope_scaling, frequency);
    case VLM_ROPE_YARN: return yarn_frequency(c, i, frequency);
    }
    return frequency;
}

vlm_status vlm_rope_table(const vlm_text_config *config, uint32_t n_positions, float **out,
                          vlm_error *err)
{
    const uint32_t n_pairs = config->head_dim / 2;
    size_t n;
    *out = NULL;
    if (!vlm_size_mul(n_positions, (size_t)n_pairs * 2, &n)) return vlm_fail_memory(err, "rope");
    float *table = vlm_calloc(n, sizeof *table);
    if (table == NULL) return vlm_fail_memory(err, "rope");
    const float factor = attention_factor(&config->rope_scaling);
    for (uint32_t i = 0; i < n_pairs; i++) {
        const float frequency = scaled_frequency(config, i);
        for (uint32_t p = 0; p < n_positions; p++) {
            const double angle = (double)((float)p * frequency);
            float *pair = table + ((size_t)p * n_pairs + i) * 2;
            pair[0] = (float)cos(angle) * factor;
            pair[1] = (float)sin(angle) * factor;
        }
    }
    *out = table;
    return VLM_OK;
}
