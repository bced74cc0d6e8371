/* jinja_expr.c - expressions, by recursive descent; loosest first: conditional, or, and, not,
 * comparisons, + -, ~, * / // %, unary, **, postfix, filters and tests. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_parse.h"

enum { ITEMS_MAX = 1 << 16 };

typedef struct items {
    const jexpr **data; /* malloc'ed */
    size_t len, cap;
} items;

static const jexpr *parse_unary(parser *p, bool with_filters);

jexpr *jinja_parse_node(parser *p, jexpr_type type)
{
    jexpr *e = jinja_parse_alloc(p, 1, sizeof *e);
    if (e == NULL) return NULL;
    e->type = type;
    e->line = p->tok->line;
    return e;
}

static bool add_item(parser *p, items *list, const jexpr *e)
{
    if (p->status == VLM_OK &&
        !vlm_grow((void **)&list->data, &list->cap, list->len + 1, ITEMS_MAX, sizeof *list->data))
        (void)jinja_parse_no_room(p, list->len >= ITEMS_MAX, "items");
    if (p->status != VLM_OK) return false;
    list->data[list->len++] = e;
    return true;
}

/* Move the items into the arena. */
static void keep_items(parser *p, jexpr *e, items *list)
{
    const jexpr **copy = jinja_parse_alloc(p, list->len, sizeof *copy);
    if (copy != NULL && list->len > 0) memcpy(copy, list->data, list->len * sizeof *copy);
    if (e != NULL) {
        e->items = copy;
        e->n_items = copy == NULL ? 0 : list->len;
    }
    free(list->data);
    *list = (items){0};
}

static const jexpr *constant(parser *p, jvalue value)
{
    jexpr *e = jinja_parse_node(p, JX_CONST);
    if (e != NULL) e->value = value;
    p->tok++;
    return e;
}

/* Neighbouring string literals are one. */
static const jexpr *string_literal(parser *p)
{
    size_t len = 0;
    const jtok *first = p->tok, *end = p->tok;
    for (; end->type == JT_STRING; end++) len += end->text.len;
    jchar *cp = jinja_parse_alloc(p, len + 1, sizeof *cp);
    jstr *s = jinja_parse_alloc(p, 1, sizeof *s);
    jexpr *e = jinja_parse_node(p, JX_CONST);
    if (cp == NULL || s == NULL || e == NULL) return NULL;
    *s = (jstr){.cp = cp, .len = len};
    for (const jtok *t = first; t < end; t++) {
        if (t->text.len > 0) memcpy(cp, t->text.cp, t->text.len * sizeof *cp);
        cp += t->text.len;
    }
    e->value = jinja_string_of(s);
    p->tok = end;
    return e;
}

static const jexpr *name_or_constant(parser *p)
{
    const char *name = p->tok->name;
    if (strcmp(name, "true") == 0 || strcmp(name, "True") == 0)
        return constant(p, jinja_bool(true));
    if (strcmp(name, "false") == 0 || strcmp(name, "False") == 0)
        return constant(p, jinja_bool(false));
    if (strcmp(name, "none") == 0 || strcmp(name, "None") == 0) return constant(p, JNONE);
    static const char *const reserved[] = {"and", "or", "not", "in", "is", "if", "else"};
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (strcmp(name, reserved[i]) == 0)
            return jinja_parse_fail(p, "unexpected '%s'", reserved[i]);
    jexpr *e = jinja_parse_node(p, JX_NAME);
    if (e == NULL) return NULL;
    e->name = jinja_parse_intern(p, name);
    if (p->macro != NULL) {
        p->macro->uses_varargs |= strcmp(name, "varargs") == 0;
        p->macro->uses_kwargs |= strcmp(name, "kwargs") == 0;
        p->macro->uses_caller |= strcmp(name, "caller") == 0;
    }
    p->tok++;
    return e;
}

/* Items up to the closing operator, which is taken. */
static const jexpr *sequence(parser *p, jexpr_type type, const char *close)
{
    items list = {0};
    jexpr *e = jinja_parse_node(p, type);
    while (p->status == VLM_OK && !jinja_tok_is_op(p->tok, close)) {
        if (!add_item(p, &list, jinja_parse_expr(p, false))) break;
        if (!jinja_parse_accept(p, ",")) break;
    }
    jinja_parse_expect(p, close);
    keep_items(p, e, &list);
    return e;
}

static const jexpr *dict_literal(parser *p)
{
    items list = {0};
    jexpr *e = jinja_parse_node(p, JX_DICT);
    while (p->status == VLM_OK && !jinja_tok_is_op(p->tok, "}")) {
        if (!add_item(p, &list, jinja_parse_expr(p, false))) break;
        jinja_parse_expect(p, ":");
        if (!add_item(p, &list, jinja_parse_expr(p, false))) break;
        if (!jinja_parse_accept(p, ",")) break;
    }
    jinja_parse_expect(p, "}");
    keep_items(p, e, &list);
    return e;
}

static const jexpr *parenthesised(parser *p)
{
    if (jinja_parse_accept(p, ")")) return jinja_parse_node(p, JX_TUPLE);
    const jexpr *e = jinja_parse_expr(p, true);
    jinja_parse_expect(p, ")");
    return e;
}

static const jexpr *primary(parser *p)
{
    const jtok *tok = p->tok;
    switch (tok->type) {
    case JT_NAME: return name_or_constant(p);
    case JT_STRING: return string_literal(p);
    case JT_INT: return constant(p, jinja_int(tok->i));
    case JT_FLOAT: return constant(p, jinja_float(tok->f));
    case JT_OP:
        if (jinja_parse_accept(p, "(")) return parenthesised(p);
        if (jinja_parse_accept(p, "[")) return sequence(p, JX_LIST, "]");
        if (jinja_parse_accept(p, "{")) return dict_literal(p);
        return jinja_parse_fail(p, "unexpected '%s'", tok->op);
    case JT_EOF:
    case JT_TEXT:
    case JT_BLOCK_BEGIN:
    case JT_BLOCK_END:
    case JT_PRINT_BEGIN:
    case JT_PRINT_END: break;
    }
    return jinja_parse_fail(p, "an expression is missing");
}

/* Behind "(": to behind ")". */
void jinja_parse_args(parser *p, jexpr *call)
{
    jarg *args = NULL;
    size_t n = 0, cap = 0;
    bool named = false;
    while (p->status == VLM_OK && !jinja_tok_is_op(p->tok, ")")) {
        jarg arg = {0};
        if (jinja_parse_accept(p, "**"))
            arg.stars = 2;
        else if (jinja_parse_accept(p, "*"))
            arg.stars = 1;
        else if (p->tok->type == JT_NAME && jinja_tok_is_op(p->tok + 1, "=")) {
            arg.name = jinja_parse_intern(p, p->tok->name);
            p->tok += 2;
        }
        if (arg.stars == 0 && arg.name == NULL && named)
            (void)jinja_parse_fail(p, "a positional argument behind a keyword argument");
        named |= arg.name != NULL || arg.stars == 2;
        arg.value = jinja_parse_expr(p, false);
        if (p->status == VLM_OK && !vlm_grow((void **)&args, &cap, n + 1, ITEMS_MAX, sizeof *args))
            (void)jinja_parse_no_room(p, n >= ITEMS_MAX, "arguments");
        if (p->status != VLM_OK) break;
        args[n++] = arg;
        if (!jinja_parse_accept(p, ",")) break;
    }
    jinja_parse_expect(p, ")");
    jarg *copy = jinja_parse_alloc(p, n, sizeof *copy);
    if (copy != NULL && n > 0) memcpy(copy, args, n * sizeof *copy);
    if (call != NULL && copy != NULL) {
        call->args = copy;
        call->n_args = n;
    }
    free(args);
}

/* Behind "[": an index, a slice, or a tuple of those. */
static const jexpr *subscript(parser *p, const jexpr *object)
{
    const jexpr *parts[3] = {NULL, NULL, NULL};
    size_t n_colons = 0;
    while (p->status == VLM_OK && !jinja_tok_is_op(p->tok, "]")) {
        if (jinja_parse_accept(p, ":")) {
            if (++n_colons > 2) return jinja_parse_fail(p, "a slice of more than three parts");
            continue;
        }
        if (parts[n_colons] != NULL) break;
        parts[n_colons] = jinja_parse_expr(p, n_colons == 0);
    }
    jinja_parse_expect(p, "]");
    jexpr *e = jinja_parse_node(p, n_colons > 0 ? JX_SLICE : JX_ITEM);
    if (e == NULL) return NULL;
    e->a = object;
    if (n_colons == 0) {
        e->b = parts[0];
        return parts[0] == NULL ? jinja_parse_fail(p, "an index is missing") : e;
    }
    e->items = jinja_parse_alloc(p, 3, sizeof *e->items);
    if (e->items == NULL) return NULL;
    memcpy(e->items, parts, sizeof parts);
    e->n_items = 3;
    return e;
}

static const jexpr *attribute(parser *p, const jexpr *object)
{
    if (p->tok->type == JT_INT) {
        jexpr *item = jinja_parse_node(p, JX_ITEM);
        if (item == NULL) return NULL;
        item->a = object;
        item->b = constant(p, jinja_int(p->tok->i));
        return item;
    }
    if (p->tok->type != JT_NAME) return jinja_parse_fail(p, "a name is missing behind '.'");
    jexpr *e = jinja_parse_node(p, JX_ATTR);
    if (e == NULL) return NULL;
    e->a = object;
    e->name = jinja_parse_intern(p, p->tok->name);
    p->tok++;
    return e;
}

static const jexpr *postfix(parser *p, const jexpr *e)
{
    while (p->status == VLM_OK) {
        if (jinja_parse_accept(p, ".")) {
            e = attribute(p, e);
        } else if (jinja_parse_accept(p, "[")) {
            e = subscript(p, e);
        } else if (jinja_parse_accept(p, "(")) {
            jexpr *call = jinja_parse_node(p, JX_CALL);
            if (call == NULL) return NULL;
            call->a = e;
            jinja_parse_args(p, call);
            e = call;
        } else {
            break;
        }
    }
    return e;
}

/* A name that may hold dots, as filters and tests may. */
static const char *dotted_name(parser *p)
{
    if (p->tok->type != JT_NAME) return jinja_parse_fail(p, "a name is missing");
    const char *name = (p->tok++)->name;
    if (jinja_tok_is_op(p->tok, ".")) return jinja_parse_fail(p, "no filter of that name");
    return name;
}

static const jexpr *one_filter(parser *p, const jexpr *value)
{
    const char *name = dotted_name(p);
    jexpr *e = jinja_parse_node(p, JX_FILTER);
    if (e == NULL || name == NULL) return NULL;
    e->a = value;
    e->name = name;
    e->fn = jinja_filter_find(name);
    if (e->fn < 0 && p->n_ifs == 0) return jinja_parse_fail(p, "no filter named '%s'", name);
    if (jinja_parse_accept(p, "(")) jinja_parse_args(p, e);
    return e;
}

/* One argument without parentheses may follow the name of a test. */
static bool begins_bare_argument(const jtok *tok)
{
    if (tok->type == JT_STRING || tok->type == JT_INT || tok->type == JT_FLOAT) return true;
    if (tok->type == JT_NAME)
        return !(jinja_tok_is_name(tok, "else") || jinja_tok_is_name(tok, "or") ||
                 jinja_tok_is_name(tok, "and") || jinja_tok_is_name(tok, "is"));
    return jinja_tok_is_op(tok, "[") || jinja_tok_is_op(tok, "{");
}

static const jexpr *one_test(parser *p, const jexpr *value)
{
    const bool negated = jinja_tok_is_name(p->tok, "not");
    if (negated) p->tok++;
    const char *name = dotted_name(p);
    jexpr *e = jinja_parse_node(p, JX_TEST);
    if (e == NULL || name == NULL) return NULL;
    e->a = value;
    e->name = name;
    e->fn = jinja_test_find(name);
    if (e->fn < 0 && p->n_ifs == 0) return jinja_parse_fail(p, "no test named '%s'", name);
    if (jinja_parse_accept(p, "(")) {
        jinja_parse_args(p, e);
    } else if (begins_bare_argument(p->tok)) {
        jarg *arg = jinja_parse_alloc(p, 1, sizeof *arg);
        if (arg == NULL) return NULL;
        arg->value = postfix(p, primary(p));
        e->args = arg;
        e->n_args = 1;
    } else if (jinja_tok_is_name(p->tok, "is")) {
        return jinja_parse_fail(p, "tests cannot be chained with is");
    }
    if (!negated) return e;
    jexpr *not_e = jinja_parse_node(p, JX_NOT);
    if (not_e != NULL) not_e->a = e;
    return not_e;
}

const jexpr *jinja_parse_filters(parser *p, const jexpr *value, bool first_is_name)
{
    bool go_on = first_is_name;
    while (p->status == VLM_OK && (go_on || jinja_parse_accept(p, "|"))) {
        value = one_filter(p, value);
        go_on = false;
    }
    return value;
}

static const jexpr *filters_and_tests(parser *p, const jexpr *e)
{
    while (p->status == VLM_OK) {
        if (jinja_tok_is_op(p->tok, "|")) {
            e = jinja_parse_filters(p, e, false);
        } else if (jinja_tok_is_name(p->tok, "is")) {
            p->tok++;
            e = one_test(p, e);
        } else if (jinja_parse_accept(p, "(")) {
            jexpr *call = jinja_parse_node(p, JX_CALL);
            if (call == NULL) return NULL;
            call->a = e;
            jinja_parse_args(p, call);
            e = call;
        } else {
            break;
        }
    }
    return e;
}

static const jexpr *binary(parser *p, jop op, const jexpr *a, const jexpr *b)
{
    jexpr *e = jinja_parse_node(p, JX_BINARY);
    if (e == NULL) return NULL;
    e->op = op;
    e->a = a;
    e->b = b;
    return e;
}

static const jexpr *parse_unary(parser *p, bool with_filters)
{
    if (!jinja_parse_enter(p)) return NULL;
    const jexpr *e;
    if (jinja_tok_is_op(p->tok, "-") || jinja_tok_is_op(p->tok, "+")) {
        jexpr *sign = jinja_parse_node(p, p->tok->op[0] == '-' ? JX_NEG : JX_POS);
        p->tok++;
        if (sign != NULL) sign->a = parse_unary(p, false);
        e = sign;
    } else {
        e = primary(p);
    }
    e = postfix(p, e);
    if (with_filters) e = filters_and_tests(p, e);
    p->depth--;
    return e;
}

static const jexpr *parse_pow(parser *p)
{
    const jexpr *e = parse_unary(p, true);
    while (p->status == VLM_OK && jinja_parse_accept(p, "**"))
        e = binary(p, JOP_POW, e, parse_unary(p, true));
    return e;
}

static const jexpr *parse_mul(parser *p)
{
    static const struct {
        const char *text;
        jop op;
    } ops[] = {{"*", JOP_MUL}, {"/", JOP_DIV}, {"//", JOP_FLOORDIV}, {"%", JOP_MOD}};
    const jexpr *e = parse_pow(p);
    for (bool found = true; found && p->status == VLM_OK;) {
        found = false;
        for (size_t i = 0; i < 4 && !found; i++) {
            if (!jinja_parse_accept(p, ops[i].text)) continue;
            e = binary(p, ops[i].op, e, parse_pow(p));
            found = true;
        }
    }
    return e;
}

static const jexpr *parse_concat(parser *p)
{
    const jexpr *first = parse_mul(p);
    if (!jinja_tok_is_op(p->tok, "~")) return first;
    items list = {0};
    jexpr *e = jinja_parse_node(p, JX_CONCAT);
    (void)add_item(p, &list, first);
    while (p->status == VLM_OK && jinja_parse_accept(p, "~"))
        (void)add_item(p, &list, parse_mul(p));
    keep_items(p, e, &list);
    return e;
}

static const jexpr *parse_sum(parser *p)
{
    const jexpr *e = parse_concat(p);
    while (p->status == VLM_OK) {
        if (jinja_parse_accept(p, "+"))
            e = binary(p, JOP_ADD, e, parse_concat(p));
        else if (jinja_parse_accept(p, "-"))
            e = binary(p, JOP_SUB, e, parse_concat(p));
        else
            break;
    }
    return e;
}

static bool accept_comparison(parser *p, jop *op)
{
    static const struct {
        const char *text;
        jop op;
    } ops[] = {{"==", JOP_EQ}, {"!=", JOP_NE}, {"<=", JOP_LE},
               {">=", JOP_GE}, {"<", JOP_LT},  {">", JOP_GT}};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (!jinja_parse_accept(p, ops[i].text)) continue;
        *op = ops[i].op;
        return true;
    }
    if (jinja_tok_is_name(p->tok, "in")) {
        p->tok++;
        *op = JOP_IN;
        return true;
    }
    if (jinja_tok_is_name(p->tok, "not") && jinja_tok_is_name(p->tok + 1, "in")) {
        p->tok += 2;
        *op = JOP_NOT_IN;
        return true;
    }
    return false;
}

static const jexpr *parse_compare(parser *p)
{
    const jexpr *first = parse_sum(p);
    items list = {0};
    jop op, ops[16];
    size_t n = 0;
    while (p->status == VLM_OK && accept_comparison(p, &op)) {
        if (n == 0) (void)add_item(p, &list, first);
        if (n == sizeof ops / sizeof ops[0]) {
            (void)jinja_parse_fail(p, "a chain of more than 16 comparisons");
            break;
        }
        ops[n++] = op;
        (void)add_item(p, &list, parse_sum(p));
    }
    if (n == 0) return first;
    jexpr *e = jinja_parse_node(p, JX_COMPARE);
    jop *copy = jinja_parse_alloc(p, n, sizeof *copy);
    if (copy != NULL) memcpy(copy, ops, n * sizeof *copy);
    keep_items(p, e, &list);
    if (e != NULL) e->ops = copy;
    return e;
}

static const jexpr *parse_not(parser *p)
{
    if (!jinja_tok_is_name(p->tok, "not")) return parse_compare(p);
    if (!jinja_parse_enter(p)) return NULL;
    jexpr *e = jinja_parse_node(p, JX_NOT);
    p->tok++;
    if (e != NULL) e->a = parse_not(p);
    p->depth--;
    return e;
}

static const jexpr *logical(parser *p, jexpr_type type, const jexpr *a, const jexpr *b)
{
    jexpr *e = jinja_parse_node(p, type);
    if (e == NULL) return NULL;
    e->a = a;
    e->b = b;
    return e;
}

static const jexpr *parse_and(parser *p)
{
    const jexpr *e = parse_not(p);
    while (p->status == VLM_OK && jinja_tok_is_name(p->tok, "and")) {
        p->tok++;
        e = logical(p, JX_AND, e, parse_not(p));
    }
    return e;
}

static const jexpr *parse_or_one(parser *p)
{
    const jexpr *e = parse_and(p);
    while (p->status == VLM_OK && jinja_tok_is_name(p->tok, "or")) {
        p->tok++;
        e = logical(p, JX_OR, e, parse_and(p));
    }
    return e;
}

/* value if condition else other; value and other count as conditional code. */
static const jexpr *parse_cond(parser *p)
{
    /* Whether an if follows is known only behind the value, so that it counts from the start. */
    const jtok *begin = p->tok;
    const vlm_status before = p->status;
    const jexpr *e = parse_or_one(p);
    if (p->status != before && p->status == VLM_INVALID_ARGUMENT && p->n_ifs == 0) {
        /* An unknown filter may stand in front of an if: read it once more as conditional. */
        const vlm_error kept = *p->err;
        const vlm_status failed = p->status;
        p->status = before;
        p->tok = begin;
        p->n_ifs++;
        e = parse_or_one(p);
        p->n_ifs--;
        if (p->status != VLM_OK || !jinja_tok_is_name(p->tok, "if")) {
            p->status = failed;
            *p->err = kept;
            return NULL;
        }
    }
    while (p->status == VLM_OK && jinja_tok_is_name(p->tok, "if")) {
        const jexpr *parts[3] = {e, NULL, NULL};
        p->tok++;
        parts[1] = parse_or_one(p);
        if (jinja_tok_is_name(p->tok, "else")) {
            p->tok++;
            p->n_ifs++;
            if (jinja_parse_enter(p)) {
                parts[2] = parse_cond(p);
                p->depth--;
            }
            p->n_ifs--;
        }
        jexpr *cond = jinja_parse_node(p, JX_COND);
        if (cond == NULL) return NULL;
        cond->items = jinja_parse_alloc(p, 3, sizeof *cond->items);
        if (cond->items == NULL) return NULL;
        memcpy(cond->items, parts, sizeof parts);
        cond->n_items = 3;
        e = cond;
    }
    return e;
}

/* "a, b" as a tuple, where it is allowed. */
static const jexpr *maybe_tuple(parser *p, const jexpr *first, bool tuples,
                                const jexpr *(*next)(parser *))
{
    if (!tuples || !jinja_tok_is_op(p->tok, ",")) return first;
    items list = {0};
    jexpr *e = jinja_parse_node(p, JX_TUPLE);
    (void)add_item(p, &list, first);
    while (p->status == VLM_OK && jinja_parse_accept(p, ",")) {
        const jtok *t = p->tok;
        if (t->type == JT_BLOCK_END || t->type == JT_PRINT_END || jinja_tok_is_op(t, ")") ||
            jinja_tok_is_op(t, "]"))
            break;
        (void)add_item(p, &list, next(p));
    }
    keep_items(p, e, &list);
    return e;
}

const jexpr *jinja_parse_expr(parser *p, bool tuples)
{
    if (!jinja_parse_enter(p)) return NULL;
    const jexpr *e = maybe_tuple(p, parse_cond(p), tuples, parse_cond);
    p->depth--;
    return e;
}

const jexpr *jinja_parse_or(parser *p, bool tuples)
{
    if (!jinja_parse_enter(p)) return NULL;
    const jexpr *e = maybe_tuple(p, parse_or_one(p), tuples, parse_or_one);
    p->depth--;
    return e;
}

static const jexpr *one_target(parser *p, bool attrs)
{
    if (jinja_parse_accept(p, "(")) {
        if (!jinja_parse_enter(p)) return NULL;
        const jexpr *inner = jinja_parse_target(p, attrs);
        jinja_parse_expect(p, ")");
        p->depth--;
        return inner;
    }
    if (p->tok->type != JT_NAME) return jinja_parse_fail(p, "a name to assign to is missing");
    const jtok *tok = p->tok;
    const jexpr *e = primary(p);
    if (p->status == VLM_OK && e->type != JX_NAME)
        return jinja_parse_fail(p, "cannot assign to '%s'", tok->name);
    if (attrs && jinja_parse_accept(p, ".")) e = attribute(p, e);
    return e;
}

const jexpr *jinja_parse_target(parser *p, bool attrs)
{
    const jexpr *first = one_target(p, attrs);
    if (!jinja_tok_is_op(p->tok, ",")) return first;
    items list = {0};
    jexpr *e = jinja_parse_node(p, JX_TUPLE);
    (void)add_item(p, &list, first);
    while (p->status == VLM_OK && jinja_parse_accept(p, ",")) {
        if (p->tok->type != JT_NAME && !jinja_tok_is_op(p->tok, "(")) break;
        if (jinja_tok_is_name(p->tok, "in")) break;
        (void)add_item(p, &list, one_target(p, attrs));
    }
    keep_items(p, e, &list);
    return e;
}
