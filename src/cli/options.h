/* options.h - the one table of all command-line options, and the values they had in one call.
 * Every option --a-b can also be set by the environment variable VLMD_A_B; the flag wins.  The
 * parser, the help texts and the fields of vlm_options are all made from the table.
 * Not: what an option means; each command reads the fields it needs.
 * Ownership: texts in vlm_options are argv's and the environment's own.  Threads: one. */
#ifndef VLM_CLI_OPTIONS_H
#define VLM_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cpu.h"
#include "base/log.h"
#include "base/status.h"

/* Commands.  X(enum, name, arguments, fewest, most, what it does) */
#define VLM_COMMAND_LIST(X)                                                                        \
    X(RUN, "run", "[MODEL]", 0, 1, "answer on the terminal; a chat when there is no --prompt")     \
    X(SERVE, "serve", "[MODEL]...", 0, 16, "OpenAI API on --listen: gateway and workers in one")   \
    X(GATEWAY, "gateway", "", 0, 0, "the HTTP half alone, in front of workers")                    \
    X(WORKER, "worker", "[MODEL]", 0, 1, "the model half alone: gRPC")                             \
    X(TRACE, "trace", "MODEL", 1, 1, "every stage of one greedy answer to a safetensors file")     \
    X(TOKENIZE, "tokenize", "MODEL", 1, 1, "text on stdin to a JSON array of ids, or back")        \
    X(TEMPLATE, "template", "MODEL|FILE.jinja", 1, 1,                                              \
      "JSON request on stdin to the rendered prompt")                                              \
    X(PULL, "pull", "ORG/NAME", 1, 1, "download a model into the Hugging Face cache")              \
    X(QUANTIZE, "quantize", "MODEL", 1, 1,                                                         \
      "write a model with packed weights, which starts at once")                                   \
    X(INSPECT, "inspect", "MODEL", 1, 1,                                                           \
      "architecture, tensors, parameters and memory of a model")                                   \
    X(BENCH, "bench", "[MODEL]", 0, 1, "measure the speed of a model here, or check its answers")  \
    X(DOCTOR, "doctor", "[MODEL]", 0, 1, "what makes models slow on this machine, and what to do") \
    X(COMPLETION, "completion", "SHELL", 1, 1, "completion script for bash, zsh or fish")          \
    X(VERSION, "version", "", 0, 0, "print the version")                                           \
    X(HELP, "help", "[COMMAND]", 0, 1, "print what there is, or the options of one command")

typedef enum vlm_command {
#define VLM_COMMAND_ENUM(id, name, args, least, most, help) VLM_COMMAND_##id,
    VLM_COMMAND_LIST(VLM_COMMAND_ENUM)
#undef VLM_COMMAND_ENUM
        VLM_N_COMMANDS
} vlm_command;

/* Sets of commands, for the table's "taken by" and "needed by". */
enum {
    VLM_CMDS_NONE = 0,
    VLM_CMDS_RUN = 1 << VLM_COMMAND_RUN,
    VLM_CMDS_SERVE = 1 << VLM_COMMAND_SERVE,
    VLM_CMDS_GATEWAY = 1 << VLM_COMMAND_GATEWAY,
    VLM_CMDS_WORKER = 1 << VLM_COMMAND_WORKER,
    VLM_CMDS_HTTP = VLM_CMDS_SERVE | VLM_CMDS_GATEWAY,
    VLM_CMDS_MODEL = VLM_CMDS_SERVE | VLM_CMDS_WORKER,
    VLM_CMDS_SERVERS = VLM_CMDS_HTTP | VLM_CMDS_MODEL,
    VLM_CMDS_TRACE = 1 << VLM_COMMAND_TRACE,
    VLM_CMDS_TOKENIZE = 1 << VLM_COMMAND_TOKENIZE,
    VLM_CMDS_TEMPLATE = 1 << VLM_COMMAND_TEMPLATE,
    VLM_CMDS_PULL = 1 << VLM_COMMAND_PULL,
    VLM_CMDS_QUANTIZE = 1 << VLM_COMMAND_QUANTIZE,
    VLM_CMDS_INSPECT = 1 << VLM_COMMAND_INSPECT,
    VLM_CMDS_BENCH = 1 << VLM_COMMAND_BENCH,
    VLM_CMDS_DOCTOR = 1 << VLM_COMMAND_DOCTOR,
    VLM_CMDS_ASK = VLM_CMDS_RUN | VLM_CMDS_TRACE,    /* a question in the options */
    VLM_CMDS_ANSWER = VLM_CMDS_ASK | VLM_CMDS_MODEL, /* pictures and a forward pass */
    VLM_CMDS_COMPUTE = VLM_CMDS_ANSWER | VLM_CMDS_BENCH,
    /* Open a whole model. */
    VLM_CMDS_LOAD = VLM_CMDS_COMPUTE | VLM_CMDS_INSPECT | VLM_CMDS_QUANTIZE | VLM_CMDS_DOCTOR,
    /* Share out memory. */
    VLM_CMDS_CACHES = VLM_CMDS_RUN | VLM_CMDS_MODEL | VLM_CMDS_BENCH | VLM_CMDS_INSPECT,
    VLM_CMDS_ALL = VLM_CMDS_LOAD | VLM_CMDS_GATEWAY | VLM_CMDS_TOKENIZE | VLM_CMDS_TEMPLATE |
                   VLM_CMDS_DOCTOR | VLM_CMDS_PULL
};

/* Values of the choices.  X(enum, text, supported): an unsupported one is refused by its name. */
#define VLM_OPT_DTYPE_LIST(X)                                                                      \
    X(VLM_OPT_DTYPE_AUTO, "auto", true)                                                            \
    X(VLM_OPT_DTYPE_F32, "f32", true)                                                              \
    X(VLM_OPT_DTYPE_BF16, "bf16", true)                                                            \
    X(VLM_OPT_DTYPE_F16, "f16", true)                                                              \
    X(VLM_OPT_DTYPE_Q8, "q8", true)                                                                \
    X(VLM_OPT_DTYPE_Q4, "q4", true)
#define VLM_OPT_CACHE_SCOPE_LIST(X)                                                                \
    X(VLM_OPT_CACHE_SCOPE_KEY, "key", true)                                                        \
    X(VLM_OPT_CACHE_SCOPE_SHARED, "shared", true)
#define VLM_OPT_KV_DTYPE_LIST(X)                                                                   \
    X(VLM_OPT_KV_DTYPE_AUTO, "auto", true)                                                         \
    X(VLM_OPT_KV_DTYPE_F32, "f32", true)                                                           \
    X(VLM_OPT_KV_DTYPE_F16, "f16", true)
#define VLM_OPT_DEVICE_LIST(X)                                                                     \
    X(VLM_OPT_DEVICE_CPU, "cpu", true)                                                             \
    X(VLM_OPT_DEVICE_CUDA, "cuda", false)
#define VLM_OPT_SWITCH_LIST(X)                                                                     \
    X(VLM_OPT_SWITCH_OFF, "off", true)                                                             \
    X(VLM_OPT_SWITCH_ON, "on", true)

#define VLM_OPT_CHOICE_ENUM(id, text, supported) id,
typedef enum vlm_opt_dtype { VLM_OPT_DTYPE_LIST(VLM_OPT_CHOICE_ENUM) } vlm_opt_dtype;
typedef enum vlm_opt_cache_scope {
    VLM_OPT_CACHE_SCOPE_LIST(VLM_OPT_CHOICE_ENUM)
} vlm_opt_cache_scope;
typedef enum vlm_opt_kv_dtype { VLM_OPT_KV_DTYPE_LIST(VLM_OPT_CHOICE_ENUM) } vlm_opt_kv_dtype;
typedef enum vlm_opt_device { VLM_OPT_DEVICE_LIST(VLM_OPT_CHOICE_ENUM) } vlm_opt_device;
typedef enum vlm_opt_switch { VLM_OPT_SWITCH_LIST(VLM_OPT_CHOICE_ENUM) } vlm_opt_switch;
#undef VLM_OPT_CHOICE_ENUM

/* The best level of this CPU, or 1 + a vlm_cpu_level, which this CPU may lack. */
typedef enum vlm_opt_cpu_level {
    VLM_OPT_CPU_LEVEL_AUTO,
#define VLM_OPT_CPU_LEVEL_ENUM(name, text, needs) VLM_OPT_CPU_LEVEL_##name,
    VLM_CPU_LEVEL_LIST(VLM_OPT_CPU_LEVEL_ENUM)
#undef VLM_OPT_CPU_LEVEL_ENUM
} vlm_opt_cpu_level;

enum { VLM_OPTIONS_ARGS_MAX = 16, VLM_OPTION_LIST_MAX = 16 };

/* Values of an option that may be given several times. */
typedef struct vlm_option_values {
    const char *values[VLM_OPTION_LIST_MAX];
    size_t n;
} vlm_option_values;

/* The table.  One row per option; all rows begin (ID, field, name, letter or 0) and end (taken by,
 * needed by, help).  Between them:
 *   FLAG                                            bool
 *   STRING  value's name, default or NULL           const char *
 *   LIST    value's name, bytes of a value at most  vlm_option_values, empty at first
 *   U32     value's name, default, min, max, what help shows as default or NULL for the number
 *   U64     the same, uint64_t
 *   REAL    the same, double
 *   SIZE    the same, size_t bytes; takes KiB, MiB, GiB
 *   CHOICE  type (its list of choices is named after it), default */
#define VLM_OPTION_LIST(FLAG, STRING, LIST, U32, U64, REAL, SIZE, CHOICE)                          \
    LIST(IMAGE, image, "image", 'i', "FILE", 4096, VLM_CMDS_ASK, VLM_CMDS_NONE,                    \
         "picture to ask about; may be repeated")                                                  \
    STRING(PROMPT, prompt, "prompt", 'p', "TEXT", NULL, VLM_CMDS_ASK, VLM_CMDS_TRACE,              \
           "the user's text of one turn, after the pictures")                                      \
    STRING(SYSTEM, system, "system", 0, "TEXT", NULL, VLM_CMDS_RUN, VLM_CMDS_NONE,                 \
           "system message before the first turn")                                                 \
    FLAG(RAW, raw, "raw", 0, VLM_CMDS_ASK, VLM_CMDS_NONE,                                          \
         "the prompt is the whole text with <image> placeholders; no chat template")               \
    U32(MAX_TOKENS, max_tokens, "max-tokens", 'n', "N", 0, 1, 1u << 24,                            \
        "until the context is full", VLM_CMDS_ASK, VLM_CMDS_NONE, "longest answer, in tokens")     \
    STRING(OUTPUT, output, "output", 'o', "PATH", NULL, VLM_CMDS_TRACE | VLM_CMDS_QUANTIZE,        \
           VLM_CMDS_TRACE | VLM_CMDS_QUANTIZE, "file or folder to write")                          \
    REAL(TEMPERATURE, temperature, "temperature", 0, "T", 0.0, 0.0, 2.0,                           \
         "the model's, 0 without sampling", VLM_CMDS_RUN, VLM_CMDS_NONE,                           \
         "0 takes the likeliest token, more draws more freely")                                    \
    U32(TOP_K, top_k, "top-k", 0, "K", 0, 0, 1u << 24, "the model's", VLM_CMDS_RUN, VLM_CMDS_NONE, \
        "draw from the K likeliest tokens; 0: all")                                                \
    REAL(TOP_P, top_p, "top-p", 0, "P", 1.0, 0.0, 1.0, "the model's", VLM_CMDS_RUN, VLM_CMDS_NONE, \
         "draw from the likeliest tokens that have P of the probability together")                 \
    REAL(MIN_P, min_p, "min-p", 0, "P", 0.0, 0.0, 1.0, "the model's", VLM_CMDS_RUN, VLM_CMDS_NONE, \
         "leave out tokens less likely than P times the likeliest")                                \
    U64(SEED, seed, "seed", 0, "N", 0, 0, UINT64_MAX, NULL, VLM_CMDS_RUN, VLM_CMDS_NONE,           \
        "the same seed draws the same answer")                                                     \
    REAL(REPETITION_PENALTY, repetition_penalty, "repetition-penalty", 0, "X", 1.0, 0.01, 100.0,   \
         "the model's", VLM_CMDS_RUN, VLM_CMDS_NONE,                                               \
         "divide the logits of tokens seen before, prompt included; 1: off")                       \
    REAL(FREQUENCY_PENALTY, frequency_penalty, "frequency-penalty", 0, "X", 0.0, -2.0, 2.0, NULL,  \
         VLM_CMDS_RUN, VLM_CMDS_NONE, "lower a token's logit by X for each time it was answered")  \
    REAL(PRESENCE_PENALTY, presence_penalty, "presence-penalty", 0, "X", 0.0, -2.0, 2.0, NULL,     \
         VLM_CMDS_RUN, VLM_CMDS_NONE, "lower a token's logit by X once it was answered")           \
    LIST(STOP, stop, "stop", 0, "TEXT", 256, VLM_CMDS_RUN, VLM_CMDS_NONE,                          \
         "end the answer before this text; may be repeated")                                       \
    FLAG(IGNORE_EOS, ignore_eos, "ignore-eos", 0, VLM_CMDS_RUN, VLM_CMDS_NONE,                     \
         "go on after the end of the answer, to --max-tokens")                                     \
    FLAG(TIMINGS, timings, "timings", 0, VLM_CMDS_RUN, VLM_CMDS_NONE,                              \
         "print tokens and times to stderr after each answer")                                     \
    FLAG(DECODE, decode, "decode", 0, VLM_CMDS_TOKENIZE, VLM_CMDS_NONE,                            \
         "JSON array of ids on stdin to text")                                                     \
    FLAG(NO_SPECIAL, no_special, "no-special", 0, VLM_CMDS_TOKENIZE, VLM_CMDS_NONE,                \
         "add no special tokens; with --decode, drop them")                                        \
    FLAG(PLAIN, plain, "plain", 0, VLM_CMDS_TOKENIZE, VLM_CMDS_NONE,                               \
         "take special-token strings in the text as plain text")                                   \
    FLAG(JSON, json, "json", 0, VLM_CMDS_INSPECT | VLM_CMDS_BENCH | VLM_CMDS_DOCTOR,               \
         VLM_CMDS_NONE, "print one JSON object")                                                   \
    STRING(TESTS, tests, "tests", 0, "LIST", NULL, VLM_CMDS_BENCH, VLM_CMDS_NONE,                  \
           "measure only these: load, prefill, decode, encode, ttft_new, ttft_same, ttft_next, "   \
           "memory; default: all")                                                                 \
    STRING(PROMPT_TOKENS, prompt_tokens, "prompt-tokens", 0, "LIST", "128,512", VLM_CMDS_BENCH,    \
           VLM_CMDS_NONE, "lengths of the prompts of prefill, in tokens")                          \
    U32(TOKENS, tokens, "tokens", 0, "N", 32, 2, 1u << 16, NULL, VLM_CMDS_BENCH, VLM_CMDS_NONE,    \
        "tokens of each answer of decode")                                                         \
    U32(RUNS, runs, "runs", 0, "N", 3, 1, 100, NULL, VLM_CMDS_BENCH, VLM_CMDS_NONE,                \
        "measure each so often, or for 30 s, and give the median")                                 \
    FLAG(CHECK_DETERMINISM, check_determinism, "check-determinism", 0, VLM_CMDS_BENCH,             \
         VLM_CMDS_NONE,                                                                            \
         "instead: compare the answers to random requests alone and in every kind of company, "    \
         "bit for bit")                                                                            \
    U32(REQUESTS, requests, "requests", 0, "N", 200, 1, 10000, NULL, VLM_CMDS_BENCH,               \
        VLM_CMDS_NONE, "random requests of --check-determinism")                                   \
    STRING(LISTEN, listen, "listen", 0, "ADDR", NULL, VLM_CMDS_SERVERS, VLM_CMDS_WORKER,           \
           "where to listen: HOST:PORT or unix:/PATH; serve and gateway: 127.0.0.1:8080")          \
    LIST(WORKER, worker, "worker", 0, "ADDR", 300, VLM_CMDS_GATEWAY, VLM_CMDS_GATEWAY,             \
         "a worker: HOST:PORT, dns:///NAME:PORT for all its addresses, or unix:/PATH; may be "     \
         "repeated")                                                                               \
    FLAG(INSECURE_LISTEN, insecure_listen, "insecure-listen", 0, VLM_CMDS_WORKER, VLM_CMDS_NONE,   \
         "let a worker listen, without encryption and keys, where other machines reach it")        \
    STRING(MODEL_NAME, model_name, "model-name", 0, "NAME", NULL, VLM_CMDS_MODEL, VLM_CMDS_NONE,   \
           "what clients call the model; default: MODEL, of a folder the last part")               \
    LIST(ALIAS, alias, "alias", 0, "NAME=MODEL", 512, VLM_CMDS_SERVE, VLM_CMDS_NONE,               \
         "another name of a model for clients; may be repeated")                                   \
    FLAG(PRELOAD, preload, "preload", 0, VLM_CMDS_SERVE, VLM_CMDS_NONE,                            \
         "several models: load them at the start, as many as fit, not at their first use")         \
    REAL(IDLE_UNLOAD, idle_unload, "idle-unload", 0, "S", 0.0, 0.0, 1e9, "0: never",               \
         VLM_CMDS_SERVE, VLM_CMDS_NONE, "unload a model that nobody asked for so many seconds")    \
    STRING(ADMIN_KEY_FILE, admin_key_file, "admin-key-file", 0, "FILE", NULL, VLM_CMDS_SERVE,      \
           VLM_CMDS_NONE, "file of keys that may load and unload models")                          \
    STRING(API_KEY_FILE, api_key_file, "api-key-file", 0, "FILE", NULL, VLM_CMDS_HTTP,             \
           VLM_CMDS_NONE, "file of keys, one a line; requests then need one")                      \
    CHOICE(CACHE_SCOPE, cache_scope, "cache-scope", 0, vlm_opt_cache_scope,                        \
           VLM_OPT_CACHE_SCOPE_KEY, VLM_CMDS_HTTP, VLM_CMDS_NONE,                                  \
           "who shares computed prompts: requests of one API key, or all")                         \
    STRING(CORS_ORIGIN, cors_origin, "cors-origin", 0, "ORIGIN", NULL, VLM_CMDS_HTTP,              \
           VLM_CMDS_NONE, "let pages of this origin call the API; * for all")                      \
    CHOICE(PAGE, page, "page", 0, vlm_opt_switch, VLM_OPT_SWITCH_ON, VLM_CMDS_HTTP, VLM_CMDS_NONE, \
           "a page at / where people ask with a browser")                                          \
    CHOICE(IMAGE_URLS, image_urls, "image-urls", 0, vlm_opt_switch, VLM_OPT_SWITCH_OFF,            \
           VLM_CMDS_HTTP, VLM_CMDS_NONE, "fetch pictures from http and https URLs")                \
    STRING(IMAGE_HOSTS, image_hosts, "image-hosts", 0, "LIST", NULL, VLM_CMDS_HTTP, VLM_CMDS_NONE, \
           "fetch from these hosts and their subdomains only: a.com,b.org")                        \
    U32(MAX_RUNNING, max_running, "max-running", 0, "N", 64, 1, 1u << 16, NULL, VLM_CMDS_SERVERS,  \
        VLM_CMDS_NONE, "requests of a worker that are answered at once")                           \
    U32(MAX_WAITING, max_waiting, "max-waiting", 0, "N", 256, 0, 1u << 16, NULL, VLM_CMDS_SERVERS, \
        VLM_CMDS_NONE, "requests of a worker that wait; more are refused")                         \
    REAL(REQUEST_TIMEOUT, request_timeout, "request-timeout", 0, "S", 600.0, 0.001, 1e6, NULL,     \
         VLM_CMDS_HTTP, VLM_CMDS_NONE, "longest time of a request, in seconds")                    \
    REAL(SHUTDOWN_TIMEOUT, shutdown_timeout, "shutdown-timeout", 0, "S", 25.0, 0.0, 1e6, NULL,     \
         VLM_CMDS_SERVERS, VLM_CMDS_NONE, "what running requests get to end after SIGTERM")        \
    SIZE(MAX_REQUEST_LINE, max_request_line, "max-request-line", 0, "SIZE", 8 << 10, 16,           \
         (size_t)1 << 20, "8KiB", VLM_CMDS_HTTP, VLM_CMDS_NONE, "longest request line")            \
    SIZE(MAX_HEADER_BYTES, max_header_bytes, "max-header-bytes", 0, "SIZE", 32 << 10, 64,          \
         (size_t)1 << 24, "32KiB", VLM_CMDS_HTTP, VLM_CMDS_NONE, "largest header of a request")    \
    U32(MAX_HEADER_FIELDS, max_header_fields, "max-header-fields", 0, "N", 100, 1, 10000, NULL,    \
        VLM_CMDS_HTTP, VLM_CMDS_NONE, "most fields of a header")                                   \
    REAL(HEADER_TIMEOUT, header_timeout, "header-timeout", 0, "S", 10.0, 0.01, 1e6, NULL,          \
         VLM_CMDS_HTTP, VLM_CMDS_NONE, "time to send a header in")                                 \
    U32(MIN_BODY_RATE, min_body_rate, "min-body-rate", 0, "N", 1024, 0, 1u << 30, NULL,            \
        VLM_CMDS_HTTP, VLM_CMDS_NONE, "slowest body after 10 s, in bytes a second")                \
    REAL(IDLE_TIMEOUT, idle_timeout, "idle-timeout", 0, "S", 75.0, 0.01, 1e6, NULL, VLM_CMDS_HTTP, \
         VLM_CMDS_NONE, "how long a connection may lie idle")                                      \
    SIZE(MAX_BODY, max_body, "max-body", 0, "SIZE", (size_t)64 << 20, 1, (size_t)64 << 20,         \
         "64MiB", VLM_CMDS_HTTP, VLM_CMDS_NONE, "largest body of a request")                       \
    SIZE(MAX_BODIES, max_bodies, "max-bodies", 0, "SIZE", (size_t)1 << 30, 1, (size_t)1 << 40,     \
         "1GiB", VLM_CMDS_HTTP, VLM_CMDS_NONE, "bodies of all requests together")                  \
    U32(MAX_JSON_DEPTH, max_json_depth, "max-json-depth", 0, "N", 64, 4, 512, NULL, VLM_CMDS_HTTP, \
        VLM_CMDS_NONE, "deepest JSON of a request")                                                \
    U32(MAX_CONNECTIONS, max_connections, "max-connections", 0, "N", 16384, 1, 1u << 20, NULL,     \
        VLM_CMDS_HTTP, VLM_CMDS_NONE, "clients connected at once")                                 \
    U32(MAX_IMAGES, max_images, "max-images", 0, "N", 16, 0, 16, NULL, VLM_CMDS_HTTP,              \
        VLM_CMDS_NONE, "most pictures of a request")                                               \
    SIZE(MAX_UNSENT, max_unsent, "max-unsent", 0, "SIZE", 256 << 10, 4 << 10, (size_t)1 << 30,     \
         "256KiB", VLM_CMDS_SERVERS, VLM_CMDS_NONE, "what may wait for a reader that is slow")     \
    REAL(SLOW_READER_TIMEOUT, slow_reader_timeout, "slow-reader-timeout", 0, "S", 30.0, 0.01, 1e6, \
         NULL, VLM_CMDS_SERVERS, VLM_CMDS_NONE, "how long it may wait before the answer is cut")   \
    REAL(STEP_TIMEOUT, step_timeout, "step-timeout", 0, "S", 30.0, 0.0, 1e6, NULL, VLM_CMDS_MODEL, \
         VLM_CMDS_NONE, "a step of the engine that takes longer is stuck; 0: never")               \
    U32(DECODERS, decoders, "decoders", 0, "N", 0, 0, 64, "one per CPU, at most 4",                \
        VLM_CMDS_MODEL, VLM_CMDS_NONE, "processes that decode pictures")                           \
    U32(MOCK_TOKEN_MS, mock_token_ms, "mock-token-ms", 0, "MS", 0, 0, 600000, NULL,                \
        VLM_CMDS_MODEL, VLM_CMDS_NONE, "the model mock: time of a token")                          \
    U32(MOCK_PREFILL_MS, mock_prefill_ms, "mock-prefill-ms", 0, "MS", 0, 0, 600000, NULL,          \
        VLM_CMDS_MODEL, VLM_CMDS_NONE, "the model mock: time before the first token")              \
    FLAG(MOCK_FAULTS, mock_faults, "mock-faults", 0, VLM_CMDS_MODEL, VLM_CMDS_NONE,                \
         "the model mock: obey @crash, @hang, @slow MS, @error CODE, @repeat N and @bytes N")      \
    CHOICE(DTYPE, dtype, "dtype", 0, vlm_opt_dtype, VLM_OPT_DTYPE_AUTO, VLM_CMDS_LOAD,             \
           VLM_CMDS_NONE, "weights: auto is as stored; bf16, q8 and q4 round what they meet too")  \
    CHOICE(VISION_DTYPE, vision_dtype, "vision-dtype", 0, vlm_opt_dtype, VLM_OPT_DTYPE_AUTO,       \
           VLM_CMDS_LOAD, VLM_CMDS_NONE,                                                           \
           "weights of the vision tower: auto is q8 with --dtype q8 and q4, else as --dtype")      \
    SIZE(PACK_CACHE, pack_cache, "pack-cache", 0, "SIZE", (size_t)64 << 30, 0, (size_t)1 << 50,    \
         "64GiB", VLM_CMDS_COMPUTE, VLM_CMDS_NONE,                                                 \
         "packed weights kept for the next start, of all models together; 0: none")                \
    U32(THREADS, threads, "threads", 0, "N", 0, 0, 256, "0: one per CPU", VLM_CMDS_COMPUTE,        \
        VLM_CMDS_NONE, "threads that compute")                                                     \
    CHOICE(DEVICE, device, "device", 0, vlm_opt_device, VLM_OPT_DEVICE_CPU, VLM_CMDS_LOAD,         \
           VLM_CMDS_NONE, "where to compute")                                                      \
    U32(CTX, ctx, "ctx", 0, "N", 0, 0, 1u << 24, "0: the model's", VLM_CMDS_LOAD, VLM_CMDS_NONE,   \
        "longest context, in tokens")                                                              \
    CHOICE(KV_DTYPE, kv_dtype, "kv-dtype", 0, vlm_opt_kv_dtype, VLM_OPT_KV_DTYPE_AUTO,             \
           VLM_CMDS_CACHES, VLM_CMDS_NONE,                                                         \
           "keys and values in the cache: auto is f16 with --dtype q8 and q4, else f32")           \
    SIZE(MEMORY, memory, "memory", 0, "SIZE", 0, 0, (size_t)1 << 50, "0: half of what is free",    \
         VLM_CMDS_CACHES, VLM_CMDS_NONE,                                                           \
         "for weights, caches and working memory; what is left holds keys and values")             \
    SIZE(ENCODER_CACHE, encoder_cache, "encoder-cache", 0, "SIZE", (size_t)256 << 20, 1,           \
         (size_t)1 << 40, "256MiB", VLM_CMDS_CACHES, VLM_CMDS_NONE,                                \
         "what the vision tower made of pictures, kept for the next question")                     \
    U32(PREFILL_CHUNK, prefill_chunk, "prefill-chunk", 0, "N", 0, 0, 1u << 16,                     \
        "0: so many that running answers stay smooth", VLM_CMDS_MODEL | VLM_CMDS_BENCH,            \
        VLM_CMDS_NONE, "prompt tokens of a step at most")                                          \
    CHOICE(CPU_LEVEL, cpu_level, "cpu-level", 0, vlm_opt_cpu_level, VLM_OPT_CPU_LEVEL_AUTO,        \
           VLM_CMDS_COMPUTE, VLM_CMDS_NONE, "kernels: auto is the best that this CPU has")         \
    SIZE(MAX_IMAGE_BYTES, max_image_bytes, "max-image-bytes", 0, "SIZE", (size_t)20 << 20, 1,      \
         (size_t)1 << 40, "20MiB", VLM_CMDS_ANSWER | VLM_CMDS_GATEWAY, VLM_CMDS_NONE,              \
         "largest picture file")                                                                   \
    U64(MAX_IMAGE_PIXELS, max_image_pixels, "max-image-pixels", 0, "N", 1u << 26, 1, 1u << 30,     \
        NULL, VLM_CMDS_ANSWER, VLM_CMDS_NONE, "largest picture, in pixels")                        \
    U32(MAX_IMAGE_SIDE, max_image_side, "max-image-side", 0, "N", 16384, 1, 65535, NULL,           \
        VLM_CMDS_ANSWER, VLM_CMDS_NONE, "longest side of a picture, in pixels")                    \
    U32(MAX_JPEG_SCANS, max_jpeg_scans, "max-jpeg-scans", 0, "N", 200, 1, 100000, NULL,            \
        VLM_CMDS_ANSWER, VLM_CMDS_NONE, "most scans of a progressive JPEG")                        \
    CHOICE(LOG_FORMAT, log_format, "log-format", 0, vlm_log_format, VLM_LOG_TEXT, VLM_CMDS_ALL,    \
           VLM_CMDS_NONE, "lines on stderr")                                                       \
    CHOICE(LOG_LEVEL, log_level, "log-level", 0, vlm_log_level, VLM_LOG_WARN, VLM_CMDS_ALL,        \
           VLM_CMDS_NONE, "least important line that is printed; servers: info")

#define VLM_OPTION_ENUM(ID, ...) VLM_OPTION_##ID,
typedef enum vlm_option {
    VLM_OPTION_LIST(VLM_OPTION_ENUM, VLM_OPTION_ENUM, VLM_OPTION_ENUM, VLM_OPTION_ENUM,
                    VLM_OPTION_ENUM, VLM_OPTION_ENUM, VLM_OPTION_ENUM, VLM_OPTION_ENUM)
        VLM_N_OPTIONS
} vlm_option;
#undef VLM_OPTION_ENUM

/* bool raw; const char *prompt; vlm_option_values image; uint32_t max_tokens; ... */
typedef struct vlm_options {
#define VLM_OPTION_FLAG(ID, field, ...) bool field;
#define VLM_OPTION_STRING(ID, field, ...) const char *field;
#define VLM_OPTION_VALUES(ID, field, ...) vlm_option_values field;
#define VLM_OPTION_U32(ID, field, ...) uint32_t field;
#define VLM_OPTION_U64(ID, field, ...) uint64_t field;
#define VLM_OPTION_REAL(ID, field, ...) double field;
#define VLM_OPTION_SIZE(ID, field, ...) size_t field;
#define VLM_OPTION_CHOICE(ID, field, name, letter, type, ...) type field;
    VLM_OPTION_LIST(VLM_OPTION_FLAG, VLM_OPTION_STRING, VLM_OPTION_VALUES, VLM_OPTION_U32,
                    VLM_OPTION_U64, VLM_OPTION_REAL, VLM_OPTION_SIZE, VLM_OPTION_CHOICE)
#undef VLM_OPTION_FLAG
#undef VLM_OPTION_STRING
#undef VLM_OPTION_VALUES
#undef VLM_OPTION_U32
#undef VLM_OPTION_U64
#undef VLM_OPTION_REAL
#undef VLM_OPTION_SIZE
#undef VLM_OPTION_CHOICE
    vlm_command command;
    const char *args[VLM_OPTIONS_ARGS_MAX]; /* what is no option: args[0] is MODEL */
    size_t n_args;
    bool help;                 /* --help was given; nothing else was checked */
    bool given[VLM_N_OPTIONS]; /* set by a flag or the environment, not the default */
} vlm_options;

const char *vlm_command_name(vlm_command command);
/* False when the text names no command. */
bool vlm_command_parse(const char *text, vlm_command *command);

/* As getenv; tests put their own. */
typedef const char *vlm_env_fn(const char *name);

/* Read argv[1..argc): the words after `vlmd COMMAND` (argv[0] is skipped).
 * INVALID_ARGUMENT, naming the option, for an unknown option, a bad or missing value, an option the
 * command needs or a wrong number of arguments; UNIMPLEMENTED for a choice not supported yet. */
VLM_MUST_USE vlm_status vlm_options_parse(vlm_command command, int argc, char *const *argv,
                                          vlm_env_fn *env, vlm_options *out, vlm_error *err);

/* Append the options that were given and that command takes too, as words to start it with, each
 * followed by a NUL: "--a-b=VALUE". */
VLM_MUST_USE vlm_status vlm_options_forward(const vlm_options *opt, vlm_command command,
                                            vlm_buf *words, vlm_error *err);

/* Append the text of `vlmd help` or of `vlmd COMMAND --help`. */
VLM_MUST_USE vlm_status vlm_options_help(vlm_buf *text, vlm_error *err);
VLM_MUST_USE vlm_status vlm_options_help_command(vlm_command command, vlm_buf *text,
                                                 vlm_error *err);

#endif
