#include "worker/decoder_child.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/decoder_faults.h"
#include "worker/sandbox.h"

/* Memory that a child keeps between pictures, so that the next one finds its pages mapped.  Pieces
 * above 32 MiB, glibc's own maximum, are given back at once. */
enum { HEAP_KEPT_BYTES = 8 << 20, PIECE_BYTES_MAX = 32 << 20 };

typedef struct child {
    const vlm_decoder_setup *setup;
    vlm_image_limits limits; /* with out as the place for pixels */
    const void *in;
    void *out;
} child;

static bool send_reply(const vlm_decoder_reply *reply)
{
    return write(VLM_SANDBOX_FD, reply, sizeof *reply) == (ssize_t)sizeof *reply;
}

static void say_error(vlm_decoder_reply *reply, vlm_status status, const vlm_error *error)
{
    reply->status = (uint32_t)status;
    reply->pos = error->pos;
    memcpy(reply->msg, error->msg, sizeof reply->msg);
}

static bool answer(const child *c, const vlm_decoder_request *request)
{
    vlm_decoder_reply reply = {.magic = VLM_DECODER_MAGIC, .seq = request->seq};
    vlm_image image;
    vlm_error error;
    if (c->setup->faults && vlm_decoder_fault(c->in, (size_t)request->len, &reply))
        return send_reply(&reply);
    const vlm_status status =
        vlm_image_decode(c->in, (size_t)request->len, &c->limits, &image, &error);
    if (status == VLM_OK) {
        if (!image.in_place) memcpy(c->out, image.rgb, (size_t)image.width * image.height * 3);
        reply.width = image.width;
        reply.height = image.height;
        reply.has_key = image.has_key;
        memcpy(reply.key, image.key, sizeof reply.key);
        vlm_image_fini(&image);
    } else {
        say_error(&reply, status, &error);
    }
    return send_reply(&reply);
}

static vlm_status map_files(child *c, int in_fd, int out_fd, vlm_error *err)
{
    c->in = mmap(NULL, c->setup->in_bytes, PROT_READ, MAP_SHARED, in_fd, 0);
    c->out = mmap(NULL, c->setup->out_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, out_fd, 0);
    if (c->in == MAP_FAILED || c->out == MAP_FAILED)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "decoders: no shared memory: %s",
                        strerror(errno));
    c->limits = c->setup->limits;
    c->limits.place = c->out;
    c->limits.place_bytes = c->setup->out_bytes;
    return VLM_OK;
}

void vlm_decoder_child_run(const vlm_decoder_setup *setup, int socket, int in_fd, int out_fd)
{
    child c = {.setup = setup};
    vlm_decoder_reply greeting = {.magic = VLM_DECODER_MAGIC};
    vlm_decoder_request request;
    vlm_error error;
    const vlm_sandbox_limits limits = {.memory_max = setup->memory_max,
                                       .cpu_seconds_max = setup->cpu_seconds_max};
    (void)mallopt(M_MMAP_THRESHOLD, PIECE_BYTES_MAX);
    (void)mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES);
    vlm_status status = map_files(&c, in_fd, out_fd, &error);
    if (status == VLM_OK) status = vlm_sandbox_enter(&limits, socket, &error);
    if (status != VLM_OK) {
        say_error(&greeting, status, &error);
        /* Where the socket is depends on how far the sandbox got. */
        if (write(socket, &greeting, sizeof greeting) < 0) (void)send_reply(&greeting);
        return;
    }
    if (!send_reply(&greeting)) return;
    while (read(VLM_SANDBOX_FD, &request, sizeof request) == (ssize_t)sizeof request)
        if (!answer(&c, &request)) return;
}
