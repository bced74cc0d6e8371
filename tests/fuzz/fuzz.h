/* fuzz.h - what every fuzz target defines.  A post-condition that fails calls abort(). */
#ifndef VLM_TESTS_FUZZ_H
#define VLM_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define FUZZ_CHECK(cond)                                                                           \
    do {                                                                                           \
        if (!(cond)) abort();                                                                      \
    } while (0)

#endif
