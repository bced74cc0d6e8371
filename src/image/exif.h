/* exif.h - the one thing that EXIF and XMP are read for: which way up a picture is.
 * Never an error: metadata that cannot be read says nothing.
 * Not: any other tag.  Threads: pure. */
#ifndef VLM_IMAGE_EXIF_H
#define VLM_IMAGE_EXIF_H

#include <stdint.h>

#include "base/buf.h"

/* The Orientation (1..8) of an EXIF block, with or without "Exif\0\0" in front of its TIFF header;
 * 0 when it has none, 1 when it has one outside 1..8. */
uint32_t vlm_exif_orientation(vlm_bytes exif);

/* tiff:Orientation of an XMP packet; 0 and 1 as above. */
uint32_t vlm_xmp_orientation(vlm_bytes xmp);

/* EXIF's word first, then XMP's, then 1.  Either may be empty. */
uint32_t vlm_exif_choose(vlm_bytes exif, vlm_bytes xmp);

#endif
