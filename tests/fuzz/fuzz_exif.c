/* EXIF and XMP: the first byte says which. */
#include "fuzz/fuzz.h"
#include "image/exif.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) return 0;
    const vlm_bytes body = {(const char *)data + 1, len - 1};
    const vlm_bytes none = {0};
    const bool is_xmp = data[0] % 2 != 0;
    FUZZ_CHECK((is_xmp ? vlm_xmp_orientation(body) : vlm_exif_orientation(body)) <= 8);
    const uint32_t chosen = is_xmp ? vlm_exif_choose(none, body) : vlm_exif_choose(body, none);
    FUZZ_CHECK(chosen >= 1 && chosen <= 8);
    return 0;
}
