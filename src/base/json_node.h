/* json_node.h - the tree that json.c builds and json_value.c reads.
 * Not: for anyone outside base/; everything else sees json.h.
 * Ownership: all nodes lie in the document's arena, all strings in its copy of the text. */
#ifndef VLM_BASE_JSON_NODE_H
#define VLM_BASE_JSON_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/mem.h"

typedef struct vlm_json_members vlm_json_members;

struct vlm_json_node {
    uint8_t type;  /* vlm_json_type */
    bool int_fits; /* of an INT: as.integer holds it; otherwise as.real does, roughly */
    bool is_end;   /* behind the last member */
    uint32_t len;  /* bytes of a string, items of an array, members of an object */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const char *string; /* followed by a NUL */
        const struct vlm_json_node *items;
        const vlm_json_members *members;
    } as;
};

/* Members in the order of the text, each a key (STRING) and a value, then a node that is_end. */
struct vlm_json_members {
    const struct vlm_json_node *
        *sorted; /* keys by vlm_json_compare_keys; NULL for a small object */
    struct vlm_json_node pairs[];
};

struct vlm_json_doc {
    char *text; /* with escapes resolved and strings ended where they lie */
    vlm_arena arena;
    struct vlm_json_node root;
};

/* Up to here a look at every key beats sorting. */
enum { VLM_JSON_SMALL_OBJECT_MAX = 8 };

/* Some total order; 0 for equal keys. */
int vlm_json_compare_keys(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
