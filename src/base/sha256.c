#include "base/sha256.h"

/* The one-shot functions of OpenSSL 3 bring its whole provider machinery into the program. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

void vlm_sha256(const void *data, size_t len, uint8_t out[VLM_SHA256_LEN])
{
    vlm_sha256_parts(&(vlm_bytes){.ptr = data, .len = len}, 1, out);
}

void vlm_sha256_parts(const vlm_bytes *parts, size_t n, uint8_t out[VLM_SHA256_LEN])
{
    SHA256_CTX context;
    (void)SHA256_Init(&context);
    for (size_t i = 0; i < n; i++) (void)SHA256_Update(&context, parts[i].ptr, parts[i].len);
    (void)SHA256_Final(out, &context);
}
