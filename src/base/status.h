/* status.h - how every function of vlmd reports failure.
 * A status is one of the 17 gRPC codes, 0 is success everywhere; the same number travels
 * unchanged from the engine over the wire to the gateway.
 * An error is a code, a position and one line of text.  The text names the file and the field,
 * byte or parameter; it never holds an address, a prompt, a key or a path the client did not send.
 * Not: logging, nor our own bugs (those are asserts).
 * Threads: all functions are pure or write only to their arguments. */
#ifndef VLM_BASE_STATUS_H
#define VLM_BASE_STATUS_H

#include <stdarg.h>
#include <stdint.h>

#define VLM_MUST_USE __attribute__((warn_unused_result))
#define VLM_PRINTF(fmt_idx, arg_idx) __attribute__((format(printf, fmt_idx, arg_idx)))

/* X(name, number): https://grpc.io/docs/guides/status-codes/ */
#define VLM_STATUS_LIST(X)                                                                         \
    X(OK, 0)                                                                                       \
    X(CANCELLED, 1)                                                                                \
    X(UNKNOWN, 2)                                                                                  \
    X(INVALID_ARGUMENT, 3)                                                                         \
    X(DEADLINE_EXCEEDED, 4)                                                                        \
    X(NOT_FOUND, 5)                                                                                \
    X(ALREADY_EXISTS, 6)                                                                           \
    X(PERMISSION_DENIED, 7)                                                                        \
    X(RESOURCE_EXHAUSTED, 8)                                                                       \
    X(FAILED_PRECONDITION, 9)                                                                      \
    X(ABORTED, 10)                                                                                 \
    X(OUT_OF_RANGE, 11)                                                                            \
    X(UNIMPLEMENTED, 12)                                                                           \
    X(INTERNAL, 13)                                                                                \
    X(UNAVAILABLE, 14)                                                                             \
    X(DATA_LOSS, 15)                                                                               \
    X(UNAUTHENTICATED, 16)

typedef enum vlm_status {
#define VLM_STATUS_ENUM(name, number) VLM_##name = number,
    VLM_STATUS_LIST(VLM_STATUS_ENUM)
#undef VLM_STATUS_ENUM
} vlm_status;

enum { VLM_ERROR_MSG_LEN_MAX = 511 };

typedef struct vlm_error {
    vlm_status code;
    uint64_t pos; /* byte offset or element index the message speaks of, 0 if none */
    char msg[VLM_ERROR_MSG_LEN_MAX + 1];
} vlm_error;

/* "INVALID_ARGUMENT" for 3; "UNKNOWN" for a number outside the list. */
const char *vlm_status_name(vlm_status code);

/* The work of vlm_fail and its kin below. */
void vlm_error_set(vlm_error *err, vlm_status code, uint64_t pos, const char *fmt, ...)
    VLM_PRINTF(4, 5);
void vlm_error_prefix(vlm_error *err, const char *fmt, ...) VLM_PRINTF(2, 3);
static inline vlm_status vlm_status_of(vlm_status code)
{
    return code;
}

/* Macros, so that the compiler sees that `return vlm_fail(err, VLM_..., ...)` returns no VLM_OK and
 * that what a failed call was to fill is not used after it.  code is evaluated twice. */

/* vlm_fail(err, code, fmt, ...): fill err (may be NULL) with code and the formatted text, cut at
 * VLM_ERROR_MSG_LEN_MAX bytes on a UTF-8 border, control characters replaced by '?', and return
 * code.  code must not be VLM_OK. */
#define vlm_fail(err, code, ...) (vlm_error_set(err, code, 0, __VA_ARGS__), vlm_status_of(code))

/* vlm_fail_at(err, code, pos, fmt, ...): as vlm_fail, with the position. */
#define vlm_fail_at(err, code, pos, ...)                                                           \
    (vlm_error_set(err, code, pos, __VA_ARGS__), vlm_status_of(code))

/* vlm_fail_prefix(err, code, fmt, ...): put "prefix: " in front of the text already in err, as a
 * file name before a field name, and return code, so that `return vlm_fail_prefix(err, status,
 * "%s", name)` reads well. */
#define vlm_fail_prefix(err, code, ...) (vlm_error_prefix(err, __VA_ARGS__), vlm_status_of(code))

/* The one text for a failed allocation: RESOURCE_EXHAUSTED "out of memory: WHAT". */
#define vlm_fail_memory(err, what) vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "out of memory: %s", what)

/* Run the expression; return its status from the calling function unless it is VLM_OK. */
#define VLM_TRY(expr)                                                                              \
    do {                                                                                           \
        const vlm_status vlm_try_status_ = (expr);                                                 \
        if (vlm_try_status_ != VLM_OK) return vlm_try_status_;                                     \
    } while (0)

/* The same for functions that clean up: needs a local `vlm_status status` and a label `done`. */
#define VLM_TRY_GOTO(expr)                                                                         \
    do {                                                                                           \
        status = (expr);                                                                           \
        if (status != VLM_OK) goto done;                                                           \
    } while (0)

#endif
