#include "hub/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* As in base/sha256.c: what replaces these brings OpenSSL's whole provider machinery along. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

struct vlm_hub_digest {
    bool is_sha256;
    SHA256_CTX sha256;
    SHA_CTX sha1;
};

vlm_hub_digest *vlm_hub_digest_new(bool is_sha256, uint64_t size)
{
    vlm_hub_digest *d = calloc(1, sizeof *d);
    if (d == NULL) return NULL;
    d->is_sha256 = is_sha256;
    if (is_sha256) {
        (void)SHA256_Init(&d->sha256);
        return d;
    }
    char head[32];
    const int len = snprintf(head, sizeof head, "blob %" PRIu64, size);
    (void)SHA1_Init(&d->sha1);
    (void)SHA1_Update(&d->sha1, head, (size_t)len + 1);
    return d;
}

void vlm_hub_digest_free(vlm_hub_digest *d)
{
    free(d);
}

void vlm_hub_digest_add(vlm_hub_digest *d, const void *data, size_t len)
{
    if (d->is_sha256)
        (void)SHA256_Update(&d->sha256, data, len);
    else
        (void)SHA1_Update(&d->sha1, data, len);
}

void vlm_hub_digest_end(vlm_hub_digest *d, char out[VLM_HUB_DIGEST_LEN_MAX + 1])
{
    unsigned char bytes[SHA256_DIGEST_LENGTH];
    const size_t n = d->is_sha256 ? SHA256_DIGEST_LENGTH : SHA_DIGEST_LENGTH;
    if (d->is_sha256)
        (void)SHA256_Final(bytes, &d->sha256);
    else
        (void)SHA1_Final(bytes, &d->sha1);
    for (size_t i = 0; i < n; i++) (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}
