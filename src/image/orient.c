#include "image/orient.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/mem.h"

/* Big enough to use whole cache lines of both pictures, small enough to stay in the first cache. */
enum { TILE = 32 };

/* What an upright pixel (x, y) is in the stored picture: swap says that x runs along the stored
 * rows' index, flips count from the far end of the stored axis. */
typedef struct turn {
    bool swap, flip_x, flip_y;
} turn;

static const turn turns[9] = {
    [1] = {false, false, false}, [2] = {false, true, false}, [3] = {false, true, true},
    [4] = {false, false, true},  [5] = {true, false, false}, [6] = {true, false, true},
    [7] = {true, true, true},    [8] = {true, true, false},
};

static void copy_tile(const uint8_t *src, ptrdiff_t step_x, ptrdiff_t step_y, uint8_t *dst,
                      size_t dst_stride, uint32_t width, uint32_t height)
{
    for (uint32_t y = 0; y < height; y++) {
        const uint8_t *s = src + (ptrdiff_t)y * step_y;
        uint8_t *d = dst + y * dst_stride;
        for (uint32_t x = 0; x < width; x++, s += step_x, d += 3) {
            d[0] = s[0];
            d[1] = s[1];
            d[2] = s[2];
        }
    }
}

vlm_status vlm_image_orient(vlm_image *image, uint32_t orientation, vlm_error *err)
{
    assert(orientation >= 1 && orientation <= 8);
    if (orientation == 1) return VLM_OK;
    const turn t = turns[orientation];
    const uint32_t width = t.swap ? image->height : image->width;
    const uint32_t height = t.swap ? image->width : image->height;
    uint8_t *const rgb = vlm_calloc((size_t)width * height, 3);
    if (rgb == NULL) return vlm_fail_memory(err, "image: turned pixels");

    const ptrdiff_t stride = (ptrdiff_t)image->width * 3;
    const ptrdiff_t stored_x = t.flip_x ? -3 : 3;
    const ptrdiff_t stored_y = t.flip_y ? -stride : stride;
    const ptrdiff_t step_x = t.swap ? stored_y : stored_x;
    const ptrdiff_t step_y = t.swap ? stored_x : stored_y;
    const uint8_t *const origin = image->rgb + (t.flip_x ? stride - 3 : 0) +
                                  (t.flip_y ? stride * ((ptrdiff_t)image->height - 1) : 0);
    for (uint32_t y = 0; y < height; y += TILE) {
        const uint32_t rows = height - y < TILE ? height - y : TILE;
        for (uint32_t x = 0; x < width; x += TILE) {
            const uint32_t columns = width - x < TILE ? width - x : TILE;
            copy_tile(origin + (ptrdiff_t)x * step_x + (ptrdiff_t)y * step_y, step_x, step_y,
                      rgb + ((size_t)y * width + x) * 3, (size_t)width * 3, columns, rows);
        }
    }
    if (!image->in_place) free(image->rgb);
    image->in_place = false;
    image->rgb = rgb;
    image->width = width;
    image->height = height;
    return VLM_OK;
}
