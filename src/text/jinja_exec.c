/* jinja_exec.c: statements to text. Scoping as in Jinja: a loop's turn, a macro's call, and the bodies of
 * set, call, filter, with and generation blocks have scopes of their own; if has none. What they assign does
 * not leave them; namespaces do. */
#include <string.h>
#include "text/jinja.h"

typedef assay_status (*exec_fn)(assay_jrun *r, const assay_jnode *n);

/* ---- scopes ---- */

assay_status assay_jscope_push(assay_jrun *r, assay_jscope *parent) {
    assay_jscope *s = assay_jalloc(r, 1, sizeof *s);
    if (!s) return assay_jnomem(r);
    s->parent = parent;
    r->scope = s;
    return ASSAY_OK;
}

assay_status assay_jscope_set(assay_jrun *r, assay_jscope *scope, const char *s, size_t n, assay_jvalue v) {
    for (size_t i = 0; i < scope->n; i++) {
        if (scope->vars[i].n != n || memcmp(scope->vars[i].s, s, n) != 0) continue;
        scope->vars[i].value = v;
        return ASSAY_OK;
    }
    if (scope->n == scope->cap) {
        size_t cap = scope->cap ? scope->cap * 2 : 4;
        assay_jvar *w = assay_jalloc(r, cap, sizeof *w);
        if (!w) return assay_jnomem(r);
        if (scope->n) memcpy(w, scope->vars, scope->n * sizeof *w);
        scope->vars = w;
        scope->cap = cap;
    }
    scope->vars[scope->n++] = (assay_jvar){s, n, v};
    return ASSAY_OK;
}

assay_status assay_jassign(assay_jrun *r, const assay_jnode *target, assay_jvalue v) {
    if (target->kind == ASSAY_JN_NAME) return assay_jscope_set(r, r->scope, target->s, target->n, v);
    if (target->kind == ASSAY_JN_ATTRIBUTE) {
        assay_jvalue ns;
        ASSAY_TRY(assay_jeval(&ns, r, target->a));
        if (ns.kind != ASSAY_J_NAMESPACE)
            return assay_jfail(r, ASSAY_EINPUT, "cannot assign an attribute of a %s, only of a namespace",
                               assay_jtype(ns));
        if (target->s[0] == '_')
            return assay_jfail(r, ASSAY_EINPUT,
                               "a namespace takes no attribute that begins with an underscore");
        return assay_jdict_put(ns.dict, r, assay_jstr(target->s, target->n), v);
    }
    assay_jlist *l;
    ASSAY_TRY(assay_jiterate(&l, r, v));
    if (l->n != target->n_kids)
        return assay_jfail(r, ASSAY_EINPUT, "%zu values for %zu names", l->n, target->n_kids);
    for (size_t i = 0; i < l->n; i++)
        ASSAY_TRY(assay_jassign(r, target->kids[i], l->v[i]));
    return ASSAY_OK;
}

/* ---- text ---- */

static assay_status check_output(assay_jrun *r) {
    if (r->out->failed) return assay_nomem(r->err);
    if (r->out->len <= ASSAY_J_MAX_OUTPUT) return ASSAY_OK;
    return assay_jfail(r, ASSAY_EINPUT, "the template writes more than %u MiB", ASSAY_J_MAX_OUTPUT >> 20);
}

static assay_status exec_text(assay_jrun *r, const assay_jnode *n) {
    assay_str_putn(r->out, n->s, n->n);
    ASSAY_TRY(assay_jstep(r, n->n));
    return check_output(r);
}

static assay_status exec_output(assay_jrun *r, const assay_jnode *n) {
    assay_jvalue v;
    ASSAY_TRY(assay_jeval(&v, r, n->a));
    r->line = n->line;
    ASSAY_TRY(assay_jput_str(r->out, r, v));
    return check_output(r);
}

static assay_status exec_block(assay_jrun *r, const assay_jnode *n) {
    for (size_t i = 0; i < n->n_kids && r->jump == ASSAY_J_RUN; i++)
        ASSAY_TRY(assay_jexec(r, n->kids[i]));
    return ASSAY_OK;
}

assay_status assay_jcapture(assay_jvalue *out, assay_jrun *r, const assay_jnode *body) {
    assay_str text = {0}, *outer = r->out;
    assay_jscope *scope = r->scope;
    r->out = &text;
    assay_status s = assay_jscope_push(r, scope);
    if (s == ASSAY_OK) s = assay_jexec(r, body);
    r->out = outer;
    r->scope = scope;
    if (s == ASSAY_OK) return assay_jstr_take(out, r, &text);
    assay_str_free(&text);
    return s;
}

/* ---- if, for ---- */

static assay_status exec_if(assay_jrun *r, const assay_jnode *n) {
    for (size_t i = 0; i + 1 < n->n_kids; i += 2) {
        assay_jvalue v = assay_jbool(true);
        if (n->kids[i]) ASSAY_TRY(assay_jeval(&v, r, n->kids[i]));
        if (assay_jtruth(v)) return assay_jexec(r, n->kids[i + 1]);
    }
    return ASSAY_OK;
}

/* The items that pass the loop's own condition. */
static assay_status sift(assay_jlist **out, assay_jrun *r, const assay_jnode *n, const assay_jlist *all) {
    assay_jscope *outer = r->scope;
    ASSAY_TRY(assay_jlist_new(out, r, 0));
    for (size_t i = 0; i < all->n; i++) {
        assay_jvalue v;
        ASSAY_TRY(assay_jscope_push(r, outer));
        ASSAY_TRY(assay_jassign(r, n->a, all->v[i]));
        ASSAY_TRY(assay_jeval(&v, r, n->c));
        if (assay_jtruth(v)) ASSAY_TRY(assay_jlist_put(*out, r, all->v[i]));
    }
    r->scope = outer;
    return ASSAY_OK;
}

static assay_status run_loop(assay_jrun *r, const assay_jnode *n, assay_jloop *loop) {
    assay_jscope *outer = r->scope;
    assay_jvalue v = {.kind = ASSAY_J_LOOP, .loop = loop};
    for (loop->index = 0; loop->index < loop->items->n; loop->index++) {
        ASSAY_TRY(assay_jscope_push(r, outer));
        ASSAY_TRY(assay_jassign(r, n->a, loop->items->v[loop->index]));
        ASSAY_TRY(assay_jscope_set(r, r->scope, "loop", 4, v));
        ASSAY_TRY(assay_jexec(r, n->d));
        bool stop = r->jump == ASSAY_J_BREAK;
        r->jump = ASSAY_J_RUN;
        if (stop) break;
    }
    r->scope = outer;
    return ASSAY_OK;
}

static assay_status exec_for(assay_jrun *r, const assay_jnode *n) {
    assay_jvalue sequence;
    assay_jlist *items;
    ASSAY_TRY(assay_jeval(&sequence, r, n->b));
    r->line = n->line;
    ASSAY_TRY(assay_jiterate(&items, r, sequence));
    if (n->c) ASSAY_TRY(sift(&items, r, n, items));
    assay_jscope *outer = r->scope;
    if (items->n == 0) {
        if (!n->n_kids) return ASSAY_OK;
        ASSAY_TRY(assay_jscope_push(r, outer));
        ASSAY_TRY(assay_jexec(r, n->kids[0]));
        r->scope = outer;
        return ASSAY_OK;
    }
    assay_jloop *loop = assay_jalloc(r, 1, sizeof *loop);
    if (!loop) return assay_jnomem(r);
    *loop = (assay_jloop){.items = items};
    return run_loop(r, n, loop);
}

static assay_status exec_break(assay_jrun *r, const assay_jnode *n) {
    (void)n;
    r->jump = ASSAY_J_BREAK;
    return ASSAY_OK;
}
static assay_status exec_continue(assay_jrun *r, const assay_jnode *n) {
    (void)n;
    r->jump = ASSAY_J_CONTINUE;
    return ASSAY_OK;
}

/* ---- set, with, scopes ---- */

static assay_status exec_set(assay_jrun *r, const assay_jnode *n) {
    assay_jvalue v;
    ASSAY_TRY(assay_jeval(&v, r, n->b));
    r->line = n->line;
    return assay_jassign(r, n->a, v);
}

static assay_status exec_setblock(assay_jrun *r, const assay_jnode *n) {
    assay_jvalue v;
    ASSAY_TRY(assay_jcapture(&v, r, n->c));
    if (n->b) {
        r->pipe = v;
        ASSAY_TRY(assay_jeval(&v, r, n->b));
    }
    return assay_jassign(r, n->a, v);
}

static assay_status exec_filterblock(assay_jrun *r, const assay_jnode *n) {
    assay_jvalue v;
    ASSAY_TRY(assay_jcapture(&v, r, n->a));
    r->pipe = v;
    ASSAY_TRY(assay_jeval(&v, r, n->b));
    ASSAY_TRY(assay_jput_str(r->out, r, v));
    return check_output(r);
}

/* Values are computed outside, assigned inside. */
static assay_status exec_with(assay_jrun *r, const assay_jnode *n) {
    assay_jscope *outer = r->scope;
    assay_jlist *values;
    assay_jvalue v;
    ASSAY_TRY(assay_jlist_new(&values, r, n->n_kids / 2));
    for (size_t i = 1; i < n->n_kids; i += 2) {
        ASSAY_TRY(assay_jeval(&v, r, n->kids[i]));
        ASSAY_TRY(assay_jlist_put(values, r, v));
    }
    ASSAY_TRY(assay_jscope_push(r, outer));
    for (size_t i = 0; i + 1 < n->n_kids; i += 2)
        ASSAY_TRY(assay_jassign(r, n->kids[i], values->v[i / 2]));
    ASSAY_TRY(assay_jexec(r, n->a));
    r->scope = outer;
    return ASSAY_OK;
}

static assay_status exec_scope(assay_jrun *r, const assay_jnode *n) {
    assay_jscope *outer = r->scope;
    ASSAY_TRY(assay_jscope_push(r, outer));
    ASSAY_TRY(assay_jexec(r, n->a));
    r->scope = outer;
    return ASSAY_OK;
}

/* ---- macros ---- */

static assay_status new_macro(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jmacro *m = assay_jalloc(r, 1, sizeof *m);
    if (!m) return assay_jnomem(r);
    *m = (assay_jmacro){n, r->scope};
    *out = (assay_jvalue){.kind = ASSAY_J_MACRO, .macro = m};
    return ASSAY_OK;
}

static assay_status exec_macro(assay_jrun *r, const assay_jnode *n) {
    assay_jvalue m;
    ASSAY_TRY(new_macro(&m, r, n));
    return assay_jscope_set(r, r->scope, n->s, n->n, m);
}

static assay_status exec_callblock(assay_jrun *r, const assay_jnode *n) {
    /* The call with one more argument, caller=<this block>, by way of a name that only this scope knows. */
    assay_jscope *outer = r->scope;
    assay_jvalue m, v;
    assay_jnode name = {.kind = ASSAY_JN_NAME, .line = n->line, .s = "caller", .n = 6}, call = *n->b;
    assay_jarg *args = assay_jalloc(r, call.n_args + 1, sizeof *args);
    if (!args) return assay_jnomem(r);
    ASSAY_TRY(new_macro(&m, r, n));
    ASSAY_TRY(assay_jscope_push(r, outer));
    ASSAY_TRY(assay_jscope_set(r, r->scope, "caller", 6, m));
    if (call.n_args) memcpy(args, call.args, call.n_args * sizeof *args);
    args[call.n_args] =
        (assay_jarg){.kind = ASSAY_J_ARG_NAMED, .name = "caller", .n_name = 6, .value = &name};
    call.args = args;
    call.n_args++;
    ASSAY_TRY(assay_jeval(&v, r, &call));
    r->scope = outer;
    ASSAY_TRY(assay_jput_str(r->out, r, v));
    return check_output(r);
}

/* Parameters of m from args, into the current scope. *taken counts the positional ones used. */
static assay_status bind(assay_jrun *r, const assay_jmacro *m, const assay_jargs *args, bool *used) {
    const assay_jnode *n = m->node;
    for (size_t i = 0; i < n->n_args; i++) {
        const assay_jarg *p = &n->args[i];
        assay_jvalue v = {.kind = ASSAY_J_MISSING};
        if (i < args->n) v = args->v[i];
        for (size_t k = 0; k < args->n_named; k++) {
            if (args->named[k].n != p->n_name || memcmp(args->named[k].s, p->name, p->n_name) != 0) continue;
            if (v.kind != ASSAY_J_MISSING)
                return assay_jfail(r, ASSAY_EINPUT, "the argument '%.*s' is given twice", (int)p->n_name,
                                   p->name);
            v = args->named[k].value;
            used[k] = true;
        }
        if (v.kind == ASSAY_J_MISSING && p->value)
            ASSAY_TRY(assay_jeval(&v, r, p->value));
        else if (v.kind == ASSAY_J_MISSING)
            ASSAY_TRY(assay_jundefined(&v, r, "parameter '%.*s' was not provided",
                                       (int)ASSAY_MIN(p->n_name, (size_t)80), p->name));
        ASSAY_TRY(assay_jscope_set(r, r->scope, p->name, p->n_name, v));
    }
    return ASSAY_OK;
}

/* What the parameters left over: varargs, kwargs and caller, or an error. */
static assay_status bind_rest(assay_jrun *r, const assay_jmacro *m, const assay_jargs *args,
                              const bool *used) {
    const assay_jnode *n = m->node;
    assay_jlist *varargs;
    assay_jdict *kwargs;
    ASSAY_TRY(assay_jlist_new(&varargs, r, 0));
    ASSAY_TRY(assay_jdict_new(&kwargs, r, 0));
    for (size_t i = n->n_args; i < args->n; i++)
        ASSAY_TRY(assay_jlist_put(varargs, r, args->v[i]));
    for (size_t k = 0; k < args->n_named; k++) {
        const assay_jvar *v = &args->named[k];
        if (used[k]) continue;
        if ((n->uses & ASSAY_J_USES_CALLER) && v->n == 6 && memcmp(v->s, "caller", 6) == 0)
            ASSAY_TRY(assay_jscope_set(r, r->scope, "caller", 6, v->value));
        else
            ASSAY_TRY(assay_jdict_put(kwargs, r, assay_jstr(v->s, v->n), v->value));
    }
    if (varargs->n && !(n->uses & ASSAY_J_USES_VARARGS))
        return assay_jfail(r, ASSAY_EINPUT, "the macro takes no more than %zu arguments", n->n_args);
    if (kwargs->n && !(n->uses & ASSAY_J_USES_KWARGS))
        return assay_jfail(r, ASSAY_EINPUT, "the macro takes no argument '%.*s'",
                           (int)ASSAY_MIN(kwargs->keys[0].str.n, (size_t)60), kwargs->keys[0].str.s);
    if (n->uses & ASSAY_J_USES_VARARGS)
        ASSAY_TRY(assay_jscope_set(r, r->scope, "varargs", 7, assay_jtuple_value(varargs)));
    if (n->uses & ASSAY_J_USES_KWARGS)
        ASSAY_TRY(assay_jscope_set(r, r->scope, "kwargs", 6, assay_jdict_value(kwargs)));
    return ASSAY_OK;
}

assay_status assay_jcall_macro(assay_jvalue *out, assay_jrun *r, const assay_jmacro *m,
                               const assay_jargs *args) {
    assay_jscope *outer = r->scope;
    bool *used = assay_jalloc(r, args->n_named + 1, sizeof *used);
    if (!used) return assay_jnomem(r);
    ASSAY_TRY(assay_jenter(r));
    ASSAY_TRY(assay_jscope_push(r, m->scope));
    ASSAY_TRY(bind(r, m, args, used));
    ASSAY_TRY(bind_rest(r, m, args, used));
    ASSAY_TRY(assay_jcapture(out, r, m->node->a));
    r->scope = outer;
    assay_jleave(r);
    return ASSAY_OK;
}

assay_status assay_jexec(assay_jrun *r, const assay_jnode *n) {
    static const exec_fn table[] = {
#define X(NAME, fn) [ASSAY_JN_##NAME - ASSAY_JN_TEXT] = exec_##fn,
        ASSAY_J_STATEMENTS(X)
#undef X
    };
    r->line = n->line;
    ASSAY_TRY(assay_jenter(r));
    ASSAY_TRY(table[n->kind - ASSAY_JN_TEXT](r, n));
    assay_jleave(r);
    return ASSAY_OK;
}
