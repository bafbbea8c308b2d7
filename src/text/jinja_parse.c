/* jinja_parse.c: expressions, by Jinja's own precedence (jinja2/parser.py):
 *
 *   a if c else b   or   and   not   comparisons, in   + -   ~   * / // %   **   unary - +   postfix
 *   loosest ......................................................................... tightest
 *
 * Filters and tests bind after the postfix operators of what they follow, a sign included: "-x|abs" is
 * (-x)|abs, and "a ~ b + c" is (a ~ b) + c. They are looked up here: an unknown one is reported when the
 * template is read, with its line, and not when a conversation first reaches it. */
#include <stdio.h>
#include <stdarg.h>
#include <string.h>
#include "text/jinja.h"

assay_status assay_jsyntax(assay_jparser *p, const char *fmt, ...) {
    char why[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return assay_fail(p->err, ASSAY_EINPUT, "chat template line %d: %s", p->tok->line, why);
}

assay_jnode *assay_jnode_new(assay_jparser *p, assay_jnodekind kind) {
    assay_jnode *n = assay_arena_alloc(&p->t->arena, sizeof *n);
    if (!n) {
        assay_nomem(p->err);
        return NULL;
    }
    n->kind = kind;
    n->line = p->tok->line;
    n->s = p->tok->s;
    n->n = p->tok->n;
    return n;
}

void *assay_jparse_copy(assay_jparser *p, const void *v, size_t n, size_t size) {
    size_t bytes;
    void *copy = assay_mul_size(&bytes, n, size) ? assay_arena_alloc(&p->t->arena, bytes ? bytes : 1) : NULL;
    if (copy && bytes) memcpy(copy, v, bytes);
    if (!copy) assay_nomem(p->err);
    return copy;
}

static bool same(const char *s, size_t n, const char *word) {
    return strlen(word) == n && memcmp(s, word, n) == 0;
}

bool assay_jtok_is(const assay_jparser *p, const char *op) {
    return p->tok->kind == ASSAY_JT_OP && same(p->tok->s, p->tok->n, op);
}
bool assay_jtok_is_name(const assay_jparser *p, const char *name) {
    return p->tok->kind == ASSAY_JT_NAME && same(p->tok->s, p->tok->n, name);
}
bool assay_jtok_accept(assay_jparser *p, const char *op) {
    if (!assay_jtok_is(p, op)) return false;
    p->tok++;
    return true;
}
bool assay_jtok_accept_name(assay_jparser *p, const char *name) {
    if (!assay_jtok_is_name(p, name)) return false;
    p->tok++;
    return true;
}
assay_status assay_jtok_expect(assay_jparser *p, const char *op) {
    if (assay_jtok_accept(p, op)) return ASSAY_OK;
    return assay_jsyntax(p, "expected '%s'", op);
}

/* A list that grows while parsing and moves to the arena at its end. */
typedef struct node_list {
    assay_jnode **v;
    size_t n, cap;
} node_list;
static assay_status node_put(node_list *l, assay_jparser *p, assay_jnode *n) {
    if (l->n == l->cap) ASSAY_TRY(assay_grow(&l->v, &l->cap, l->n + 1, sizeof *l->v, p->err));
    l->v[l->n++] = n;
    return ASSAY_OK;
}
static assay_status node_adopt(assay_jnode *into, node_list *l, assay_jparser *p) {
    into->kids = assay_jparse_copy(p, l->v, l->n, sizeof *l->v);
    into->n_kids = l->n;
    return into->kids ? ASSAY_OK : ASSAY_ENOMEM;
}

static assay_status parse_unary(assay_jnode **out, assay_jparser *p, bool with_filter);

/* ---- calls ---- */

static assay_status one_argument(assay_jarg *a, assay_jparser *p) {
    *a = (assay_jarg){.kind = ASSAY_J_ARG};
    if (assay_jtok_accept(p, "*"))
        a->kind = ASSAY_J_ARG_STAR;
    else if (assay_jtok_accept(p, "**"))
        a->kind = ASSAY_J_ARG_STARSTAR;
    else if (p->tok->kind == ASSAY_JT_NAME && p->tok[1].kind == ASSAY_JT_OP &&
             same(p->tok[1].s, p->tok[1].n, "=")) {
        a->kind = ASSAY_J_ARG_NAMED;
        a->name = p->tok->s;
        a->n_name = p->tok->n;
        p->tok += 2;
    }
    return assay_jparse_expression(&a->value, p, true);
}

/* "(a, b=c, *d, **e)"; the current token is "(". */
static assay_status call_arguments(assay_jnode *into, assay_jparser *p) {
    assay_jarg *v = NULL;
    size_t n = 0, cap = 0;
    assay_status s;
    bool named = false;
    ASSAY_GO(assay_jtok_expect(p, "("));
    while (!assay_jtok_is(p, ")")) {
        if (n) {
            ASSAY_GO(assay_jtok_expect(p, ","));
            if (assay_jtok_is(p, ")")) break;
        }
        ASSAY_GO(assay_grow(&v, &cap, n + 1, sizeof *v, p->err));
        ASSAY_GO(one_argument(&v[n], p));
        if (named && v[n].kind == ASSAY_J_ARG) {
            s = assay_jsyntax(p, "a positional argument after a named one");
            goto out;
        }
        named |= v[n].kind == ASSAY_J_ARG_NAMED;
        n++;
    }
    p->tok++;
    into->args = assay_jparse_copy(p, v, n, sizeof *v);
    into->n_args = n;
    s = into->args ? ASSAY_OK : ASSAY_ENOMEM;
out:
    assay_free(v);
    return s;
}

/* ---- filters and tests ---- */

/* Stands for a filter or test that is not there. */
static assay_status unknown(const void **fn, assay_jparser *p) {
    assay_jbuiltin *b = assay_arena_alloc(&p->t->arena, sizeof *b);
    char *name = assay_arena_strndup(&p->t->arena, p->tok->s, p->tok->n);
    if (!b || !name) return assay_nomem(p->err);
    b->name = name;
    *fn = b;
    return ASSAY_OK;
}

static assay_status lookup(const void **fn, assay_jparser *p, const assay_jbuiltin *table, const char *what) {
    if (p->tok->kind != ASSAY_JT_NAME) return assay_jsyntax(p, "expected the name of a %s", what);
    const assay_jbuiltin *b = assay_jbuiltin_find(table, p->tok->s, p->tok->n);
    if ((!b || !b->fn) && p->branches) return unknown(fn, p);
    if (!b || !b->fn)
        return assay_fail(p->err, ASSAY_EUNSUPPORTED, "chat template line %d: the %s '%.*s' is not supported",
                          p->tok->line, what, (int)ASSAY_MIN(p->tok->n, (size_t)60), p->tok->s);
    *fn = b;
    return ASSAY_OK;
}

assay_status assay_jparse_filter(assay_jnode **out, assay_jparser *p, assay_jnode *node, bool start_inline) {
    while (start_inline || assay_jtok_accept(p, "|")) {
        assay_jnode *f = assay_jnode_new(p, ASSAY_JN_FILTER);
        if (!f) return ASSAY_ENOMEM;
        ASSAY_TRY(lookup(&f->fn, p, assay_jfilters, "filter"));
        p->tok++;
        if (assay_jtok_is(p, "(")) ASSAY_TRY(call_arguments(f, p));
        f->a = node;
        node = f;
        start_inline = false;
    }
    *out = node;
    return ASSAY_OK;
}

static assay_status parse_postfix(assay_jnode **out, assay_jparser *p, assay_jnode *node);

/* "is [not] name [(args) | argument]"; the current token is behind `is`. */
static assay_status parse_test(assay_jnode **out, assay_jparser *p, assay_jnode *node) {
    bool negated = assay_jtok_accept_name(p, "not");
    assay_jnode *t = assay_jnode_new(p, ASSAY_JN_TEST);
    if (!t) return ASSAY_ENOMEM;
    ASSAY_TRY(lookup(&t->fn, p, assay_jtests, "test"));
    p->tok++;
    t->a = node;
    t->flag = negated;
    *out = t;
    if (assay_jtok_is(p, "(")) return call_arguments(t, p);
    bool begins = p->tok->kind == ASSAY_JT_NAME || p->tok->kind == ASSAY_JT_STRING ||
                  p->tok->kind == ASSAY_JT_INT || p->tok->kind == ASSAY_JT_FLOAT || assay_jtok_is(p, "[") ||
                  assay_jtok_is(p, "{");
    if (!begins || assay_jtok_is_name(p, "else") || assay_jtok_is_name(p, "or") ||
        assay_jtok_is_name(p, "and"))
        return ASSAY_OK;
    if (assay_jtok_is_name(p, "is")) return assay_jsyntax(p, "tests cannot be chained with 'is'");
    assay_jarg a = {.kind = ASSAY_J_ARG};
    /* `x is y if z`: Jinja takes any name for an argument except the three above, and so do we. */
    ASSAY_TRY(assay_jparse_primary(&a.value, p));
    ASSAY_TRY(parse_postfix(&a.value, p, a.value));
    t->args = assay_jparse_copy(p, &a, 1, sizeof a);
    t->n_args = 1;
    return t->args ? ASSAY_OK : ASSAY_ENOMEM;
}

/* ---- postfix ---- */

/* One part of "[a:b:c]": NULL when empty. */
static assay_status slice_part(assay_jnode **out, assay_jparser *p) {
    *out = NULL;
    if (assay_jtok_is(p, ":") || assay_jtok_is(p, "]")) return ASSAY_OK;
    return assay_jparse_expression(out, p, true);
}

static assay_status parse_subscript(assay_jnode **out, assay_jparser *p, assay_jnode *node) {
    if (assay_jtok_accept(p, ".")) {
        bool name = p->tok->kind == ASSAY_JT_NAME;
        if (!name && p->tok->kind != ASSAY_JT_INT)
            return assay_jsyntax(p, "expected a name or a number after '.'");
        assay_jnode *a = assay_jnode_new(p, name ? ASSAY_JN_ATTRIBUTE : ASSAY_JN_ITEM);
        if (!a) return ASSAY_ENOMEM;
        a->a = node;
        if (!name) {
            if (!(a->b = assay_jnode_new(p, ASSAY_JN_CONST))) return ASSAY_ENOMEM;
            a->b->k = assay_jint(p->tok->i);
        }
        p->tok++;
        *out = a;
        return ASSAY_OK;
    }
    ASSAY_TRY(assay_jtok_expect(p, "["));
    assay_jnode *i = assay_jnode_new(p, ASSAY_JN_ITEM);
    if (!i) return ASSAY_ENOMEM;
    i->a = node;
    ASSAY_TRY(slice_part(&i->b, p));
    if (assay_jtok_accept(p, ":")) {
        i->kind = ASSAY_JN_SLICE;
        ASSAY_TRY(slice_part(&i->c, p));
        if (assay_jtok_accept(p, ":")) ASSAY_TRY(slice_part(&i->d, p));
    } else if (!i->b) {
        return assay_jsyntax(p, "an empty subscript");
    } else if (assay_jtok_is(p, ",")) {
        return assay_fail(p->err, ASSAY_EUNSUPPORTED,
                          "chat template line %d: subscripts with several indices are not supported",
                          p->tok->line);
    }
    *out = i;
    return assay_jtok_expect(p, "]");
}

static assay_status parse_call(assay_jnode **out, assay_jparser *p, assay_jnode *node) {
    assay_jnode *c = assay_jnode_new(p, ASSAY_JN_CALL);
    if (!c) return ASSAY_ENOMEM;
    c->a = node;
    *out = c;
    return call_arguments(c, p);
}

static assay_status parse_postfix(assay_jnode **out, assay_jparser *p, assay_jnode *node) {
    for (;;) {
        if (assay_jtok_is(p, ".") || assay_jtok_is(p, "["))
            ASSAY_TRY(parse_subscript(&node, p, node));
        else if (assay_jtok_is(p, "("))
            ASSAY_TRY(parse_call(&node, p, node));
        else
            break;
    }
    *out = node;
    return ASSAY_OK;
}

static assay_status parse_filters_and_tests(assay_jnode **out, assay_jparser *p, assay_jnode *node) {
    for (;;) {
        if (assay_jtok_is(p, "|"))
            ASSAY_TRY(assay_jparse_filter(&node, p, node, false));
        else if (assay_jtok_accept_name(p, "is"))
            ASSAY_TRY(parse_test(&node, p, node));
        else if (assay_jtok_is(p, "("))
            ASSAY_TRY(parse_call(&node, p, node));
        else
            break;
    }
    *out = node;
    return ASSAY_OK;
}

/* ---- primaries ---- */

static assay_status parse_collection(assay_jnode **out, assay_jparser *p, bool dict) {
    assay_jnode *c = assay_jnode_new(p, dict ? ASSAY_JN_DICTING : ASSAY_JN_LISTING), *item;
    const char *close = dict ? "}" : "]";
    node_list l = {0};
    assay_status s = ASSAY_OK;
    if (!c) return ASSAY_ENOMEM;
    p->tok++;
    while (!assay_jtok_is(p, close)) {
        if (l.n) {
            ASSAY_GO(assay_jtok_expect(p, ","));
            if (assay_jtok_is(p, close)) break;
        }
        ASSAY_GO(assay_jparse_expression(&item, p, true));
        ASSAY_GO(node_put(&l, p, item));
        if (!dict) continue;
        ASSAY_GO(assay_jtok_expect(p, ":"));
        ASSAY_GO(assay_jparse_expression(&item, p, true));
        ASSAY_GO(node_put(&l, p, item));
    }
    p->tok++;
    s = node_adopt(c, &l, p);
    *out = c;
out:
    assay_free(l.v);
    return s;
}

static const struct {
    const char *name;
    assay_jvalue value;
} constants[] = {
    {"true", {.kind = ASSAY_J_BOOL, .b = true}},
    {"True", {.kind = ASSAY_J_BOOL, .b = true}},
    {"false", {.kind = ASSAY_J_BOOL}},
    {"False", {.kind = ASSAY_J_BOOL}},
    {"none", {.kind = ASSAY_J_NONE}},
    {"None", {.kind = ASSAY_J_NONE}},
};

static assay_status parse_name(assay_jnode **out, assay_jparser *p) {
    assay_jnode *n = assay_jnode_new(p, ASSAY_JN_NAME);
    if (!n) return ASSAY_ENOMEM;
    for (size_t i = 0; i < ASSAY_LEN(constants); i++) {
        if (!same(n->s, n->n, constants[i].name)) continue;
        n->kind = ASSAY_JN_CONST;
        n->k = constants[i].value;
    }
    p->tok++;
    *out = n;
    return ASSAY_OK;
}

/* Adjacent string literals are one string. */
static assay_status parse_string(assay_jnode **out, assay_jparser *p) {
    assay_jnode *n = assay_jnode_new(p, ASSAY_JN_CONST);
    if (!n) return ASSAY_ENOMEM;
    n->k = assay_jstr(p->tok->s, p->tok->n);
    *out = n;
    if ((++p->tok)->kind != ASSAY_JT_STRING) return ASSAY_OK;
    assay_str b = {0};
    assay_str_putn(&b, n->k.str.s, n->k.str.n);
    for (; p->tok->kind == ASSAY_JT_STRING; p->tok++)
        assay_str_putn(&b, p->tok->s, p->tok->n);
    char *copy = b.failed ? NULL : assay_jparse_copy(p, assay_str_c(&b), b.len, 1);
    n->k = assay_jstr(copy, b.len);
    assay_str_free(&b);
    return copy ? ASSAY_OK : assay_nomem(p->err);
}

assay_status assay_jparse_primary(assay_jnode **out, assay_jparser *p) {
    if (p->tok->kind == ASSAY_JT_NAME) return parse_name(out, p);
    if (p->tok->kind == ASSAY_JT_STRING) return parse_string(out, p);
    if (p->tok->kind == ASSAY_JT_INT || p->tok->kind == ASSAY_JT_FLOAT) {
        assay_jnode *n = assay_jnode_new(p, ASSAY_JN_CONST);
        if (!n) return ASSAY_ENOMEM;
        n->k = p->tok->kind == ASSAY_JT_INT ? assay_jint(p->tok->i) : assay_jfloat(p->tok->f);
        p->tok++;
        *out = n;
        return ASSAY_OK;
    }
    if (p->depth >= ASSAY_J_MAX_NESTING)
        return assay_jsyntax(p, "expressions are nested more than %d deep", ASSAY_J_MAX_NESTING);
    assay_status s;
    p->depth++;
    if (assay_jtok_is(p, "[")) {
        s = parse_collection(out, p, false);
    } else if (assay_jtok_is(p, "{")) {
        s = parse_collection(out, p, true);
    } else if (assay_jtok_accept(p, "(")) {
        s = assay_jparse_tuple(out, p, true, false, ")");
        if (s == ASSAY_OK) s = assay_jtok_expect(p, ")");
    } else {
        s = assay_jsyntax(p,
                          p->tok->kind == ASSAY_JT_OP ? "unexpected '%.*s'" : "an expression ends too early",
                          (int)p->tok->n, p->tok->s ? p->tok->s : "");
    }
    p->depth--;
    return s;
}

static bool ends_tuple(const assay_jparser *p, const char *end) {
    if (p->tok->kind == ASSAY_JT_VAR_END || p->tok->kind == ASSAY_JT_BLOCK_END || assay_jtok_is(p, ")"))
        return true;
    return end && assay_jtok_is_name(p, end);
}

assay_status assay_jparse_tuple(assay_jnode **out, assay_jparser *p, bool with_condition, bool simple,
                                const char *end) {
    assay_jnode *t = assay_jnode_new(p, ASSAY_JN_TUPLING), *item;
    if (!t) return ASSAY_ENOMEM;
    node_list l = {0};
    assay_status s = ASSAY_OK;
    bool tuple = false;
    while (!ends_tuple(p, end)) {
        if (simple)
            ASSAY_GO(assay_jparse_primary(&item, p));
        else
            ASSAY_GO(assay_jparse_expression(&item, p, with_condition));
        ASSAY_GO(node_put(&l, p, item));
        if (!assay_jtok_accept(p, ",")) break;
        tuple = true;
    }
    if (!tuple && l.n == 1) {
        *out = l.v[0];
    } else if (l.n == 0 && !(end && strcmp(end, ")") == 0)) {
        s = assay_jsyntax(p, "expected an expression");
    } else {
        *out = t;
        s = node_adopt(t, &l, p);
    }
out:
    assay_free(l.v);
    return s;
}

/* ---- operators ---- */

static assay_status parse_unary(assay_jnode **out, assay_jparser *p, bool with_filter) {
    assay_jnode *n = NULL;
    bool minus = assay_jtok_is(p, "-");
    if (minus || assay_jtok_is(p, "+")) {
        if (p->depth >= ASSAY_J_MAX_NESTING)
            return assay_jsyntax(p, "expressions are nested more than %d deep", ASSAY_J_MAX_NESTING);
        n = assay_jnode_new(p, ASSAY_JN_NEGATE);
        if (!n) return ASSAY_ENOMEM;
        n->op = minus ? ASSAY_JOP_SUB : ASSAY_JOP_ADD;
        p->tok++;
        p->depth++;
        assay_status s = parse_unary(&n->a, p, false);
        p->depth--;
        if (s != ASSAY_OK) return s;
    } else {
        ASSAY_TRY(assay_jparse_primary(&n, p));
    }
    ASSAY_TRY(parse_postfix(&n, p, n));
    if (with_filter) ASSAY_TRY(parse_filters_and_tests(&n, p, n));
    *out = n;
    return ASSAY_OK;
}

/* Left-associative levels, tightest last. Concatenation stands between the additive and the multiplicative
 * level. */
static const struct level {
    struct {
        const char *text;
        assay_jop op;
    } ops[4];
} levels[] = {
    {{{"+", ASSAY_JOP_ADD}, {"-", ASSAY_JOP_SUB}}},
    {{{"~", ASSAY_JOP_NONE}}},
    {{{"*", ASSAY_JOP_MUL}, {"/", ASSAY_JOP_DIV}, {"//", ASSAY_JOP_FLOORDIV}, {"%", ASSAY_JOP_MOD}}},
    {{{"**", ASSAY_JOP_POW}}},
};

static assay_status parse_level(assay_jnode **out, assay_jparser *p, size_t level) {
    if (level == ASSAY_LEN(levels)) return parse_unary(out, p, true);
    assay_jnode *left;
    ASSAY_TRY(parse_level(&left, p, level + 1));
    for (;;) {
        size_t k = 0;
        while (k < ASSAY_LEN(levels[level].ops) && levels[level].ops[k].text &&
               !assay_jtok_is(p, levels[level].ops[k].text))
            k++;
        if (k == ASSAY_LEN(levels[level].ops) || !levels[level].ops[k].text) break;
        bool concat = levels[level].ops[k].op == ASSAY_JOP_NONE;
        assay_jnode *n = assay_jnode_new(p, concat ? ASSAY_JN_CONCAT : ASSAY_JN_BINARY);
        if (!n) return ASSAY_ENOMEM;
        n->op = levels[level].ops[k].op;
        n->a = left;
        p->tok++;
        ASSAY_TRY(parse_level(&n->b, p, level + 1));
        left = n;
    }
    *out = left;
    return ASSAY_OK;
}

/* The comparison operator at the current token, consumed; NONE when there is none. */
static assay_jop comparison(assay_jparser *p) {
    static const struct {
        const char *text;
        assay_jop op;
    } table[] = {{"==", ASSAY_JOP_EQ}, {"!=", ASSAY_JOP_NE}, {"<", ASSAY_JOP_LT},
                 {"<=", ASSAY_JOP_LE}, {">", ASSAY_JOP_GT},  {">=", ASSAY_JOP_GE}};
    for (size_t i = 0; i < ASSAY_LEN(table); i++)
        if (assay_jtok_accept(p, table[i].text)) return table[i].op;
    if (assay_jtok_accept_name(p, "in")) return ASSAY_JOP_IN;
    if (assay_jtok_is_name(p, "not") && p->tok[1].kind == ASSAY_JT_NAME &&
        same(p->tok[1].s, p->tok[1].n, "in")) {
        p->tok += 2;
        return ASSAY_JOP_NOTIN;
    }
    return ASSAY_JOP_NONE;
}

/* a < b < c: a COMPARE node whose kids are the right sides, each with its operator in a wrapper's op. */
static assay_status parse_compare(assay_jnode **out, assay_jparser *p) {
    assay_jnode *left, *n = NULL;
    node_list l = {0};
    assay_status s;
    ASSAY_GO(parse_level(&left, p, 0));
    for (assay_jop op; (op = comparison(p)) != ASSAY_JOP_NONE;) {
        assay_jnode *side = assay_jnode_new(p, ASSAY_JN_COMPARE);
        if (!n) n = assay_jnode_new(p, ASSAY_JN_COMPARE);
        if (!n || !side) {
            s = ASSAY_ENOMEM;
            goto out;
        }
        side->op = op;
        ASSAY_GO(parse_level(&side->a, p, 0));
        ASSAY_GO(node_put(&l, p, side));
    }
    *out = left;
    if (n) {
        n->a = left;
        s = node_adopt(n, &l, p);
        *out = n;
    }
out:
    assay_free(l.v);
    return s;
}

static assay_status parse_not(assay_jnode **out, assay_jparser *p) {
    if (!assay_jtok_is_name(p, "not")) return parse_compare(out, p);
    if (p->depth >= ASSAY_J_MAX_NESTING)
        return assay_jsyntax(p, "expressions are nested more than %d deep", ASSAY_J_MAX_NESTING);
    assay_jnode *n = assay_jnode_new(p, ASSAY_JN_NOT);
    if (!n) return ASSAY_ENOMEM;
    p->tok++;
    p->depth++;
    assay_status s = parse_not(&n->a, p);
    p->depth--;
    *out = n;
    return s;
}

static assay_status parse_logic(assay_jnode **out, assay_jparser *p, bool or) {
    assay_jnode *left;
    ASSAY_TRY(or ? parse_logic(&left, p, false) : parse_not(&left, p));
    while (assay_jtok_is_name(p, or ? "or" : "and")) {
        assay_jnode *n = assay_jnode_new(p, or ? ASSAY_JN_OR : ASSAY_JN_AND);
        if (!n) return ASSAY_ENOMEM;
        p->tok++;
        n->a = left;
        ASSAY_TRY(or ? parse_logic(&n->b, p, false) : parse_not(&n->b, p));
        left = n;
    }
    *out = left;
    return ASSAY_OK;
}

/* value if test else other: a is the test, b the value, c the other or NULL. */
assay_status assay_jparse_expression(assay_jnode **out, assay_jparser *p, bool with_condition) {
    if (p->depth >= ASSAY_J_MAX_NESTING)
        return assay_jsyntax(p, "expressions are nested more than %d deep", ASSAY_J_MAX_NESTING);
    p->depth++;
    assay_jnode *value;
    assay_status s;
    ASSAY_GO(parse_logic(&value, p, true));
    while (with_condition && assay_jtok_is_name(p, "if")) {
        assay_jnode *n = assay_jnode_new(p, ASSAY_JN_CONDITION);
        if (!n) {
            s = ASSAY_ENOMEM;
            goto out;
        }
        p->tok++;
        n->b = value;
        ASSAY_GO(parse_logic(&n->a, p, true));
        if (assay_jtok_accept_name(p, "else")) ASSAY_GO(assay_jparse_expression(&n->c, p, true));
        value = n;
    }
    *out = value;
out:
    p->depth--;
    return s;
}
