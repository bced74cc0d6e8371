#include "cli/bench_pictures.h"

#include "base/mem.h"
#include "engine/sampler.h"

enum { FIELDS = 6, NOISE_BITS = 5, PIXELS_OF_A_DRAW = 4 };

/* What a draw is for: no two draws of a picture have the same counter. */
enum { DRAW_SIZE, DRAW_FIELD, DRAW_NOISE };

static void draw(uint32_t n, uint32_t what, uint32_t x, uint32_t y, uint32_t out[4])
{
    const uint32_t counter[4] = {x, y, what, 0}, key[2] = {n, 0x70696374u};
    vlm_philox(counter, key, out);
}

static uint32_t side_of(uint32_t random)
{
    return VLM_BENCH_SIDE_MIN + random % (VLM_BENCH_SIDE_MAX - VLM_BENCH_SIDE_MIN + 1);
}

/* Channel c of a pixel: its field's colour, moved by the noise around it. */
static uint8_t channel(uint32_t field, uint32_t noise, uint32_t c)
{
    const uint32_t range = 256u - (1u << NOISE_BITS);
    const uint32_t colour = (field >> (8 * c) & 255u) * range / 256u;
    return (uint8_t)(colour + (noise >> (NOISE_BITS * c) & ((1u << NOISE_BITS) - 1)));
}

static void fill(uint32_t n, const uint32_t fields[FIELDS][FIELDS], vlm_image *image)
{
    uint32_t noise[4];
    for (uint32_t y = 0; y < image->height; y++) {
        uint8_t *row = image->rgb + (size_t)y * image->width * 3;
        for (uint32_t x = 0; x < image->width; x++) {
            if (x % PIXELS_OF_A_DRAW == 0) draw(n, DRAW_NOISE, x, y, noise);
            const uint32_t field = fields[y * FIELDS / image->height][x * FIELDS / image->width];
            for (uint32_t c = 0; c < 3; c++)
                row[x * 3 + c] = channel(field, noise[x % PIXELS_OF_A_DRAW], c);
        }
    }
}

vlm_status vlm_bench_picture(uint32_t n, vlm_image *out, vlm_error *err)
{
    uint32_t random[4], fields[FIELDS][FIELDS];
    draw(n, DRAW_SIZE, 0, 0, random);
    *out = (vlm_image){.width = side_of(random[0]), .height = side_of(random[1])};
    out->rgb = vlm_calloc((size_t)out->width * out->height, 3);
    if (out->rgb == NULL) {
        *out = (vlm_image){0};
        return vlm_fail_memory(err, "picture");
    }
    for (uint32_t y = 0; y < FIELDS; y++) {
        for (uint32_t x = 0; x < FIELDS; x++) {
            draw(n, DRAW_FIELD, x, y, random);
            fields[y][x] = random[0];
        }
    }
    fill(n, (const uint32_t(*)[FIELDS])fields, out);
    return VLM_OK;
}
