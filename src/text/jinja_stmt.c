/* jinja_stmt.c: statements to a tree. The tags of one template are those of Jinja's core that make sense in a
 * single file, loop controls, and transformers' "generation"; what needs other files or escaping (include,
 * import, extends, block, autoescape) is refused by name. */
#include <string.h>
#include "text/jinja.h"

typedef assay_status (*tag_parser)(assay_jnode **out, assay_jparser *p);

/* Statements up to a tag whose name is one of `ends` (separated by spaces), which becomes the current token.
 * NULL: to the end. */
static assay_status parse_body(assay_jnode **out, assay_jparser *p, const char *ends);

static assay_status end_of_tag(assay_jparser *p) {
    if (p->tok->kind != ASSAY_JT_BLOCK_END) return assay_jsyntax(p, "expected the end of the tag");
    p->tok++;
    return ASSAY_OK;
}

/* "%} body {% end": parses it and consumes the end tag's name. The caller takes the "%}". */
static assay_status block_body(assay_jnode **out, assay_jparser *p, const char *end) {
    ASSAY_TRY(end_of_tag(p));
    ASSAY_TRY(parse_body(out, p, end));
    p->tok++;
    return ASSAY_OK;
}

static bool reserved(const assay_jnode *n) {
    return n->kind != ASSAY_JN_NAME; /* constants were turned into CONST */
}

/* Names, "a, b" and "(a, b)", and for set also "namespace.attribute". */
static assay_status check_target(assay_jparser *p, const assay_jnode *n, bool with_namespace) {
    if (n->kind == ASSAY_JN_TUPLING) {
        for (size_t i = 0; i < n->n_kids; i++)
            ASSAY_TRY(check_target(p, n->kids[i], with_namespace));
        return ASSAY_OK;
    }
    if (with_namespace && n->kind == ASSAY_JN_ATTRIBUTE && !reserved(n->a)) return ASSAY_OK;
    return reserved(n) ? assay_jsyntax(p, "cannot assign to this") : ASSAY_OK;
}

static assay_status parse_target(assay_jnode **out, assay_jparser *p, bool with_namespace, const char *end) {
    bool dotted = p->tok->kind == ASSAY_JT_NAME && p->tok[1].kind == ASSAY_JT_OP && p->tok[1].n == 1 &&
                  p->tok[1].s[0] == '.';
    if (with_namespace && dotted && p->tok[2].kind == ASSAY_JT_NAME) {
        assay_jnode *base;
        ASSAY_TRY(assay_jparse_primary(&base, p));
        p->tok++;
        assay_jnode *n = assay_jnode_new(p, ASSAY_JN_ATTRIBUTE);
        if (!n) return ASSAY_ENOMEM;
        n->a = base;
        p->tok++;
        *out = n;
    } else {
        ASSAY_TRY(assay_jparse_tuple(out, p, false, true, end));
    }
    return check_target(p, *out, with_namespace);
}

static bool is_one_of(const assay_jtoken *t, const char *ends) {
    for (const char *e = ends; e && *e;) {
        size_t n = strcspn(e, " ");
        if (t->kind == ASSAY_JT_NAME && t->n == n && memcmp(t->s, e, n) == 0) return true;
        e += n + (e[n] == ' ');
    }
    return false;
}

/* ---- if, for ---- */

/* kids: test, body, test, body, ..., and for else: NULL, body. */
static assay_status parse_if(assay_jnode **out, assay_jparser *p) {
    assay_jnode **v = NULL;
    size_t n = 0, cap = 0;
    assay_status s;
    assay_jnode *node = assay_jnode_new(p, ASSAY_JN_IF);
    if (!node) return ASSAY_ENOMEM;
    bool last = false;
    p->branches++;
    do {
        ASSAY_GO(assay_grow(&v, &cap, n + 2, sizeof *v, p->err));
        v[n] = NULL;
        if (!last) ASSAY_GO(assay_jparse_tuple(&v[n], p, false, false, NULL));
        ASSAY_GO(end_of_tag(p));
        ASSAY_GO(parse_body(&v[n + 1], p, last ? "endif" : "elif else endif"));
        n += 2;
        last = assay_jtok_is_name(p, "else");
    } while (!assay_jtok_is_name(p, "endif") && p->tok++);
    p->tok++;
    node->kids = assay_jparse_copy(p, v, n, sizeof *v);
    node->n_kids = n;
    s = node->kids ? ASSAY_OK : ASSAY_ENOMEM;
    *out = node;
out:
    p->branches--;
    assay_free(v);
    return s;
}

/* a target, b sequence, c filter or NULL, d body, kids[0] else. */
static assay_status parse_for(assay_jnode **out, assay_jparser *p) {
    assay_jnode *n = assay_jnode_new(p, ASSAY_JN_FOR), *otherwise;
    if (!n) return ASSAY_ENOMEM;
    ASSAY_TRY(parse_target(&n->a, p, false, "in"));
    if (!assay_jtok_accept_name(p, "in")) return assay_jsyntax(p, "expected 'in'");
    ASSAY_TRY(assay_jparse_tuple(&n->b, p, false, false, "recursive"));
    if (assay_jtok_accept_name(p, "if")) ASSAY_TRY(assay_jparse_expression(&n->c, p, true));
    if (assay_jtok_is_name(p, "recursive"))
        return assay_fail(p->err, ASSAY_EUNSUPPORTED,
                          "chat template line %d: recursive loops are not supported", p->tok->line);
    p->loops++;
    assay_status s = end_of_tag(p);
    if (s == ASSAY_OK) s = parse_body(&n->d, p, "else endfor");
    p->loops--;
    if (s != ASSAY_OK) return s;
    if (assay_jtok_accept_name(p, "else")) {
        ASSAY_TRY(end_of_tag(p));
        ASSAY_TRY(parse_body(&otherwise, p, "endfor"));
        n->kids = assay_jparse_copy(p, &otherwise, 1, sizeof otherwise);
        if (!n->kids) return ASSAY_ENOMEM;
        n->n_kids = 1;
    }
    p->tok++;
    *out = n;
    return ASSAY_OK;
}

static assay_status parse_jump(assay_jnode **out, assay_jparser *p, assay_jnodekind kind) {
    if (p->loops == 0) return assay_jsyntax(p, "break or continue outside of a loop");
    *out = assay_jnode_new(p, kind);
    return *out ? ASSAY_OK : ASSAY_ENOMEM;
}
static assay_status parse_break(assay_jnode **out, assay_jparser *p) {
    return parse_jump(out, p, ASSAY_JN_BREAK);
}
static assay_status parse_continue(assay_jnode **out, assay_jparser *p) {
    return parse_jump(out, p, ASSAY_JN_CONTINUE);
}

/* ---- set, with ---- */

/* SET: a target, b value. SETBLOCK: a target, b filter chain (its innermost operand is NULL) or NULL, c body.
 */
static assay_status parse_set(assay_jnode **out, assay_jparser *p) {
    assay_jnode *n = assay_jnode_new(p, ASSAY_JN_SET);
    if (!n) return ASSAY_ENOMEM;
    *out = n;
    ASSAY_TRY(parse_target(&n->a, p, true, NULL));
    if (assay_jtok_accept(p, "=")) return assay_jparse_tuple(&n->b, p, true, false, NULL);
    n->kind = ASSAY_JN_SETBLOCK;
    ASSAY_TRY(assay_jparse_filter(&n->b, p, NULL, false));
    return block_body(&n->c, p, "endset");
}

/* kids: target, value, target, value, ...; a body. */
static assay_status parse_with(assay_jnode **out, assay_jparser *p) {
    assay_jnode *n = assay_jnode_new(p, ASSAY_JN_WITH);
    assay_jnode **v = NULL;
    size_t count = 0, cap = 0;
    assay_status s = ASSAY_OK;
    if (!n) return ASSAY_ENOMEM;
    while (p->tok->kind != ASSAY_JT_BLOCK_END) {
        if (count) ASSAY_GO(assay_jtok_expect(p, ","));
        ASSAY_GO(assay_grow(&v, &cap, count + 2, sizeof *v, p->err));
        ASSAY_GO(assay_jparse_primary(&v[count], p));
        ASSAY_GO(check_target(p, v[count], false));
        ASSAY_GO(assay_jtok_expect(p, "="));
        ASSAY_GO(assay_jparse_expression(&v[count + 1], p, true));
        count += 2;
    }
    n->kids = assay_jparse_copy(p, v, count, sizeof *v);
    n->n_kids = count;
    s = n->kids ? block_body(&n->a, p, "endwith") : ASSAY_ENOMEM;
    *out = n;
out:
    assay_free(v);
    return s;
}

/* ---- macro, call, filter, generation ---- */

/* "(a, b=default)" */
static assay_status parse_signature(assay_jnode *n, assay_jparser *p) {
    assay_jarg *v = NULL;
    size_t count = 0, cap = 0;
    assay_status s;
    ASSAY_GO(assay_jtok_expect(p, "("));
    while (!assay_jtok_is(p, ")")) {
        if (count) ASSAY_GO(assay_jtok_expect(p, ","));
        if (p->tok->kind != ASSAY_JT_NAME) {
            s = assay_jsyntax(p, "expected the name of a parameter");
            goto out;
        }
        ASSAY_GO(assay_grow(&v, &cap, count + 1, sizeof *v, p->err));
        v[count] = (assay_jarg){.kind = ASSAY_J_ARG_NAMED, .name = p->tok->s, .n_name = p->tok->n};
        p->tok++;
        if (assay_jtok_accept(p, "="))
            ASSAY_GO(assay_jparse_expression(&v[count].value, p, true));
        else if (count && v[count - 1].value) {
            s = assay_jsyntax(p, "a parameter without a default after one with");
            goto out;
        }
        count++;
    }
    p->tok++;
    n->args = assay_jparse_copy(p, v, count, sizeof *v);
    n->n_args = count;
    s = n->args ? ASSAY_OK : ASSAY_ENOMEM;
out:
    assay_free(v);
    return s;
}

/* A macro's body is not inside the loops around its definition. */
static assay_status macro_body(assay_jnode *n, assay_jparser *p, const char *end) {
    static const struct {
        const char *name;
        unsigned use;
    } given[] = {
        {"varargs", ASSAY_J_USES_VARARGS}, {"kwargs", ASSAY_J_USES_KWARGS}, {"caller", ASSAY_J_USES_CALLER}};
    int loops = p->loops;
    const assay_jtoken *begin = p->tok;
    p->loops = 0;
    assay_status s = block_body(&n->a, p, end);
    p->loops = loops;
    for (; begin < p->tok; begin++)
        for (size_t i = 0; i < ASSAY_LEN(given); i++)
            if (is_one_of(begin, given[i].name)) n->uses |= given[i].use;
    return s;
}

static assay_status parse_macro(assay_jnode **out, assay_jparser *p) {
    if (p->tok->kind != ASSAY_JT_NAME) return assay_jsyntax(p, "expected the name of the macro");
    assay_jnode *n = assay_jnode_new(p, ASSAY_JN_MACRO);
    if (!n) return ASSAY_ENOMEM;
    p->tok++;
    *out = n;
    ASSAY_TRY(parse_signature(n, p));
    return macro_body(n, p, "endmacro");
}

/* CALLBLOCK: b the call; a, args: the anonymous macro that the callee knows as `caller`. */
static assay_status parse_callblock(assay_jnode **out, assay_jparser *p) {
    assay_jnode *n = assay_jnode_new(p, ASSAY_JN_CALLBLOCK);
    if (!n) return ASSAY_ENOMEM;
    n->s = "caller";
    n->n = 6;
    *out = n;
    if (assay_jtok_is(p, "(")) ASSAY_TRY(parse_signature(n, p));
    ASSAY_TRY(assay_jparse_expression(&n->b, p, true));
    if (n->b->kind != ASSAY_JN_CALL) return assay_jsyntax(p, "expected a call");
    return macro_body(n, p, "endcall");
}

static assay_status parse_filterblock(assay_jnode **out, assay_jparser *p) {
    assay_jnode *n = assay_jnode_new(p, ASSAY_JN_FILTERBLOCK);
    if (!n) return ASSAY_ENOMEM;
    *out = n;
    ASSAY_TRY(assay_jparse_filter(&n->b, p, NULL, true));
    return block_body(&n->a, p, "endfilter");
}

static assay_status parse_generation(assay_jnode **out, assay_jparser *p) {
    *out = assay_jnode_new(p, ASSAY_JN_SCOPE);
    return *out ? macro_body(*out, p, "endgeneration") : ASSAY_ENOMEM;
}

static assay_status parse_print(assay_jnode **out, assay_jparser *p) {
    assay_jnode *n = assay_jnode_new(p, ASSAY_JN_OUTPUT);
    if (!n) return ASSAY_ENOMEM;
    *out = n;
    return assay_jparse_tuple(&n->a, p, true, false, NULL);
}

/* ---- templates ---- */

static const struct {
    const char *name;
    tag_parser parse; /* NULL: a tag of Jinja that is not supported */
} tags[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_callblock},
    {"filter", parse_filterblock},
    {"with", parse_with},
    {"break", parse_break},
    {"continue", parse_continue},
    {"print", parse_print},
    {"generation", parse_generation},
    {"include", NULL},
    {"import", NULL},
    {"from", NULL},
    {"extends", NULL},
    {"block", NULL},
    {"autoescape", NULL},
    {"do", NULL},
    {"trans", NULL},
    {"debug", NULL},
};

static assay_status parse_tag(assay_jnode **out, assay_jparser *p) {
    if (p->tok->kind != ASSAY_JT_NAME) return assay_jsyntax(p, "expected the name of a tag");
    for (size_t i = 0; i < ASSAY_LEN(tags); i++) {
        if (!assay_jtok_is_name(p, tags[i].name)) continue;
        if (!tags[i].parse)
            return assay_fail(p->err, ASSAY_EUNSUPPORTED,
                              "chat template line %d: the tag '%s' is not supported", p->tok->line,
                              tags[i].name);
        p->tok++;
        ASSAY_TRY(tags[i].parse(out, p));
        return end_of_tag(p);
    }
    return assay_jsyntax(p, "unknown tag '%.*s'", (int)ASSAY_MIN(p->tok->n, (size_t)60), p->tok->s);
}

/* One statement: text, an expression or a tag. */
static assay_status parse_statement(assay_jnode **out, assay_jparser *p) {
    if (p->tok->kind == ASSAY_JT_TEXT) {
        *out = assay_jnode_new(p, ASSAY_JN_TEXT);
        p->tok++;
        return *out ? ASSAY_OK : ASSAY_ENOMEM;
    }
    bool variable = p->tok->kind == ASSAY_JT_VAR_BEGIN;
    p->tok++;
    if (!variable) return parse_tag(out, p);
    ASSAY_TRY(parse_print(out, p));
    if (p->tok->kind != ASSAY_JT_VAR_END) return assay_jsyntax(p, "expected '}}'");
    p->tok++;
    return ASSAY_OK;
}

static assay_status parse_body(assay_jnode **out, assay_jparser *p, const char *ends) {
    assay_jnode **v = NULL;
    size_t n = 0, cap = 0;
    assay_status s = ASSAY_OK;
    assay_jnode *body = assay_jnode_new(p, ASSAY_JN_BLOCK);
    if (!body) return ASSAY_ENOMEM;
    if (++p->depth > ASSAY_J_MAX_NESTING) {
        s = assay_jsyntax(p, "tags are nested more than %d deep", ASSAY_J_MAX_NESTING);
        goto out;
    }
    for (;;) {
        if (p->tok->kind == ASSAY_JT_EOF) {
            if (ends) s = assay_jsyntax(p, "the template ends inside of a tag, expected one of: %s", ends);
            break;
        }
        if (p->tok->kind == ASSAY_JT_BLOCK_BEGIN && is_one_of(p->tok + 1, ends)) {
            p->tok++;
            break;
        }
        ASSAY_GO(assay_grow(&v, &cap, n + 1, sizeof *v, p->err));
        ASSAY_GO(parse_statement(&v[n], p));
        n++;
    }
    if (s == ASSAY_OK) {
        body->kids = assay_jparse_copy(p, v, n, sizeof *v);
        body->n_kids = n;
        if (!body->kids) s = ASSAY_ENOMEM;
    }
    *out = body;
out:
    p->depth--;
    assay_free(v);
    return s;
}

assay_status assay_jparse_template(assay_template *t, const assay_jtokens *tokens, assay_err *err) {
    assay_jparser p = {.t = t, .tok = tokens->v, .err = err};
    return parse_body(&t->body, &p, NULL);
}
