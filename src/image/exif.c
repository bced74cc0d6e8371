#include "image/exif.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { TAG_ORIENTATION = 0x0112, IFD_ENTRY_LEN = 12, TIFF_HEADER_LEN = 8 };
enum { TYPE_SHORT = 3, TYPE_LONG = 4, TYPE_SSHORT = 8, TYPE_SLONG = 9 };

typedef struct tiff {
    const uint8_t *data;
    size_t len; /* bytes */
    bool big_endian;
} tiff;

static uint32_t u16(const tiff *t, size_t pos)
{
    const uint32_t a = t->data[pos], b = t->data[pos + 1];
    return t->big_endian ? a << 8 | b : b << 8 | a;
}

static uint32_t u32(const tiff *t, size_t pos)
{
    const uint32_t a = u16(t, pos), b = u16(t, pos + 2);
    return t->big_endian ? a << 16 | b : b << 16 | a;
}

static bool tiff_open(vlm_bytes exif, tiff *t)
{
    /* Some writers put the identifier there twice. */
    static const vlm_bytes identifier = {"Exif\0\0", 6};
    for (int i = 0; i < 2 && vlm_bytes_starts(exif, identifier); i++) {
        exif.ptr += identifier.len;
        exif.len -= identifier.len;
    }
    if (exif.len < TIFF_HEADER_LEN) return false;
    const bool little = memcmp(exif.ptr, "II*\0", 4) == 0;
    const bool big = memcmp(exif.ptr, "MM\0*", 4) == 0;
    *t = (tiff){(const uint8_t *)exif.ptr, exif.len, big};
    return little || big;
}

static uint32_t clean(uint32_t orientation)
{
    return orientation >= 1 && orientation <= 8 ? orientation : 1;
}

uint32_t vlm_exif_orientation(vlm_bytes exif)
{
    tiff t;
    if (!tiff_open(exif, &t)) return 0;
    size_t pos = u32(&t, 4);
    if (pos > t.len || t.len - pos < 2) return 0;
    const uint32_t n_entries = u16(&t, pos);
    pos += 2;
    uint32_t found = 0;
    for (uint32_t i = 0; i < n_entries && t.len - pos >= IFD_ENTRY_LEN; i++, pos += IFD_ENTRY_LEN) {
        if (u16(&t, pos) != TAG_ORIENTATION) continue;
        const uint32_t type = u16(&t, pos + 2);
        const bool is_single = u32(&t, pos + 4) == 1;
        /* A tag that is given twice counts as its last. */
        if (is_single && (type == TYPE_SHORT || type == TYPE_SSHORT))
            found = clean(u16(&t, pos + 8));
        else if (is_single && (type == TYPE_LONG || type == TYPE_SLONG))
            found = clean(u32(&t, pos + 8));
        else
            found = 1;
    }
    return found;
}

uint32_t vlm_xmp_orientation(vlm_bytes xmp)
{
    static const char name[] = "tiff:Orientation";
    const size_t name_len = sizeof name - 1;
    const char *const end = xmp.len > 0 ? xmp.ptr + xmp.len : NULL;
    for (const char *p = xmp.ptr; xmp.len > 0 && (size_t)(end - p) >= name_len; p += name_len) {
        p = memmem(p, (size_t)(end - p), name, name_len);
        if (p == NULL) return 0;
        /* As an attribute, tiff:Orientation="6", or as an element, <tiff:Orientation>6<. */
        const vlm_bytes rest = {p + name_len, (size_t)(end - p) - name_len};
        const size_t skip = vlm_bytes_starts(rest, vlm_bytes_of("=\"")) ? 2
                            : vlm_bytes_starts(rest, vlm_bytes_of(">")) ? 1
                                                                        : 0;
        if (skip == 0 || rest.len <= skip) continue;
        const char digit = rest.ptr[skip];
        if (digit >= '0' && digit <= '9') return clean((uint32_t)(digit - '0'));
    }
    return 0;
}

uint32_t vlm_exif_choose(vlm_bytes exif, vlm_bytes xmp)
{
    uint32_t orientation = vlm_exif_orientation(exif);
    if (orientation == 0) orientation = vlm_xmp_orientation(xmp);
    return orientation == 0 ? 1 : orientation;
}
