/* jinja_eval.c: expressions to values. One function per kind of node, found by table. */
#include <math.h>
#include <string.h>
#include "text/jinja.h"

typedef assay_status (*eval_fn)(assay_jvalue *out, assay_jrun *r, const assay_jnode *n);

static assay_status undefined_error(assay_jrun *r, assay_jvalue v) {
    return assay_jfail(r, ASSAY_EINPUT, "%.*s", (int)v.str.n, v.str.s ? v.str.s : "");
}

static assay_status eval_const(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    (void)r;
    *out = n->k;
    return ASSAY_OK;
}

static assay_status eval_name(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    for (const assay_jscope *s = r->scope; s; s = s->parent) {
        for (size_t i = 0; i < s->n; i++) {
            if (s->vars[i].n != n->n || memcmp(s->vars[i].s, n->s, n->n) != 0) continue;
            *out = s->vars[i].value;
            return ASSAY_OK;
        }
    }
    const assay_jbuiltin *f = assay_jbuiltin_find(assay_jfunctions, n->s, n->n);
    if (!f) return assay_jundefined(out, r, "'%.*s' is undefined", (int)ASSAY_MIN(n->n, (size_t)80), n->s);
    assay_jbound *bound = assay_jalloc(r, 1, sizeof *bound);
    if (!bound) return assay_jnomem(r);
    *bound = (assay_jbound){f, {.kind = ASSAY_J_MISSING}};
    *out = (assay_jvalue){.kind = ASSAY_J_FUNCTION, .bound = bound};
    return ASSAY_OK;
}

static assay_status eval_items(assay_jlist **out, assay_jrun *r, const assay_jnode *n) {
    ASSAY_TRY(assay_jlist_new(out, r, n->n_kids));
    for (size_t i = 0; i < n->n_kids; i++) {
        assay_jvalue v;
        ASSAY_TRY(assay_jeval(&v, r, n->kids[i]));
        ASSAY_TRY(assay_jlist_put(*out, r, v));
    }
    return ASSAY_OK;
}

static assay_status eval_listing(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jlist *l;
    ASSAY_TRY(eval_items(&l, r, n));
    *out = assay_jlist_value(l);
    return ASSAY_OK;
}

static assay_status eval_tupling(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    ASSAY_TRY(eval_listing(out, r, n));
    out->kind = ASSAY_J_TUPLE;
    return ASSAY_OK;
}

static assay_status eval_dicting(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jdict *d;
    ASSAY_TRY(assay_jdict_new(&d, r, n->n_kids / 2));
    for (size_t i = 0; i + 1 < n->n_kids; i += 2) {
        assay_jvalue k, v;
        ASSAY_TRY(assay_jeval(&k, r, n->kids[i]));
        ASSAY_TRY(assay_jeval(&v, r, n->kids[i + 1]));
        ASSAY_TRY(assay_jdict_put(d, r, k, v));
    }
    *out = assay_jdict_value(d);
    return ASSAY_OK;
}

static assay_status eval_attribute(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue v;
    ASSAY_TRY(assay_jeval(&v, r, n->a));
    return assay_jattribute(out, r, v, n->s, n->n);
}

static assay_status eval_item(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue v, key;
    ASSAY_TRY(assay_jeval(&v, r, n->a));
    ASSAY_TRY(assay_jeval(&key, r, n->b));
    return assay_jitem(out, r, v, key);
}

static assay_status eval_slice(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue v,
        part[3] = {{.kind = ASSAY_J_MISSING}, {.kind = ASSAY_J_MISSING}, {.kind = ASSAY_J_MISSING}};
    const assay_jnode *nodes[] = {n->b, n->c, n->d};
    ASSAY_TRY(assay_jeval(&v, r, n->a));
    for (int i = 0; i < 3; i++)
        if (nodes[i]) ASSAY_TRY(assay_jeval(&part[i], r, nodes[i]));
    return assay_jslice(out, r, v, part[0], part[1], part[2]);
}

/* ---- calls ---- */

static assay_status put_named(assay_jargs *a, assay_jrun *r, size_t *cap, const char *s, size_t n,
                              assay_jvalue v) {
    if (a->n_named == *cap) {
        size_t bigger = *cap ? *cap * 2 : 4;
        assay_jvar *w = assay_jalloc(r, bigger, sizeof *w);
        if (!w) return assay_jnomem(r);
        if (a->n_named) memcpy(w, a->named, a->n_named * sizeof *w);
        a->named = w;
        *cap = bigger;
    }
    for (size_t i = 0; i < a->n_named; i++)
        if (a->named[i].n == n && memcmp(a->named[i].s, s, n) == 0)
            return assay_jfail(r, ASSAY_EINPUT, "the argument '%.*s' is given twice",
                               (int)ASSAY_MIN(n, (size_t)60), s);
    a->named[a->n_named++] = (assay_jvar){s, n, v};
    return ASSAY_OK;
}

static assay_status put_star(assay_jargs *a, assay_jrun *r, size_t *cap, assay_jlist *positional,
                             const assay_jarg *arg, assay_jvalue v) {
    if (arg->kind == ASSAY_J_ARG_STAR) {
        assay_jlist *l;
        ASSAY_TRY(assay_jiterate(&l, r, v));
        for (size_t i = 0; i < l->n; i++)
            ASSAY_TRY(assay_jlist_put(positional, r, l->v[i]));
        return ASSAY_OK;
    }
    if (v.kind != ASSAY_J_DICT)
        return assay_jfail(r, ASSAY_EINPUT, "** wants a dict, not %s", assay_jtype(v));
    for (size_t i = 0; i < v.dict->n; i++) {
        assay_jvalue k = v.dict->keys[i];
        if (k.kind != ASSAY_J_STRING) return assay_jfail(r, ASSAY_EINPUT, "** wants names for keys");
        ASSAY_TRY(put_named(a, r, cap, k.str.s, k.str.n, v.dict->values[i]));
    }
    return ASSAY_OK;
}

static assay_status eval_arguments(assay_jargs *a, assay_jrun *r, const assay_jnode *n) {
    assay_jlist *l;
    size_t cap = 0;
    *a = (assay_jargs){0};
    ASSAY_TRY(assay_jlist_new(&l, r, n->n_args));
    for (size_t i = 0; i < n->n_args; i++) {
        const assay_jarg *arg = &n->args[i];
        assay_jvalue v;
        ASSAY_TRY(assay_jeval(&v, r, arg->value));
        if (arg->kind == ASSAY_J_ARG)
            ASSAY_TRY(assay_jlist_put(l, r, v));
        else if (arg->kind == ASSAY_J_ARG_NAMED)
            ASSAY_TRY(put_named(a, r, &cap, arg->name, arg->n_name, v));
        else
            ASSAY_TRY(put_star(a, r, &cap, l, arg, v));
    }
    a->v = l->v;
    a->n = l->n;
    return ASSAY_OK;
}

/* Index of a parameter among names separated by spaces, or -1; its number of names in *count. */
static int param_index(const char *params, const char *s, size_t n, int *count) {
    int found = -1, k = 0;
    for (const char *p = params; *p; k++) {
        size_t len = strcspn(p, " ");
        if (s && len == n && memcmp(p, s, n) == 0) found = k;
        p += len + (p[len] == ' ');
    }
    *count = k;
    return found;
}

assay_status assay_jcall_builtin(assay_jvalue *out, assay_jrun *r, const assay_jbuiltin *f, assay_jvalue self,
                                 const assay_jargs *args) {
    assay_jvalue a[ASSAY_J_MAX_PARAMS] = {{.kind = ASSAY_J_MISSING}};
    int count = 0;
    if (!f->fn) return assay_jfail(r, ASSAY_EUNSUPPORTED, "'%s' is not supported", f->name);
    if (!f->params) return f->fn(out, r, self, a, args);
    param_index(f->params, NULL, 0, &count);
    if (args->n > (size_t)count)
        return assay_jfail(r, ASSAY_EINPUT, "'%s' takes at most %d arguments", f->name, count);
    for (size_t i = 0; i < args->n; i++)
        a[i] = args->v[i];
    for (size_t i = 0; i < args->n_named; i++) {
        const assay_jvar *v = &args->named[i];
        int k = param_index(f->params, v->s, v->n, &count);
        if (k < 0 || a[k].kind != ASSAY_J_MISSING)
            return assay_jfail(r, ASSAY_EINPUT, "'%s' cannot take the argument '%.*s'", f->name,
                               (int)ASSAY_MIN(v->n, (size_t)60), v->s);
        a[k] = v->value;
    }
    for (int k = 0; k < f->required; k++)
        if (a[k].kind == ASSAY_J_MISSING)
            return assay_jfail(r, ASSAY_EINPUT, "'%s' needs %d arguments", f->name, f->required);
    return f->fn(out, r, self, a, args);
}

assay_status assay_jcall(assay_jvalue *out, assay_jrun *r, assay_jvalue callee, const assay_jargs *args) {
    if (callee.kind == ASSAY_J_UNDEFINED) return undefined_error(r, callee);
    if (callee.kind == ASSAY_J_FUNCTION)
        return assay_jcall_builtin(out, r, callee.bound->fn, callee.bound->self, args);
    if (callee.kind == ASSAY_J_MACRO) return assay_jcall_macro(out, r, callee.macro, args);
    return assay_jfail(r, ASSAY_EINPUT, "a %s cannot be called", assay_jtype(callee));
}

static assay_status eval_call(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue callee;
    assay_jargs args;
    ASSAY_TRY(assay_jeval(&callee, r, n->a));
    ASSAY_TRY(eval_arguments(&args, r, n));
    r->line = n->line;
    return assay_jcall(out, r, callee, &args);
}

static assay_status eval_filter(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue self = r->pipe;
    assay_jargs args;
    if (n->a) ASSAY_TRY(assay_jeval(&self, r, n->a));
    ASSAY_TRY(eval_arguments(&args, r, n));
    r->line = n->line;
    return assay_jcall_builtin(out, r, n->fn, self, &args);
}

static assay_status eval_test(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue self;
    assay_jargs args;
    ASSAY_TRY(assay_jeval(&self, r, n->a));
    ASSAY_TRY(eval_arguments(&args, r, n));
    r->line = n->line;
    ASSAY_TRY(assay_jcall_builtin(out, r, n->fn, self, &args));
    if (n->flag) *out = assay_jbool(!assay_jtruth(*out));
    return ASSAY_OK;
}

/* ---- operators ---- */

static assay_status eval_negate(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue v;
    ASSAY_TRY(assay_jeval(&v, r, n->a));
    if (v.kind == ASSAY_J_UNDEFINED) return undefined_error(r, v);
    if (!assay_jis_number(v)) return assay_jfail(r, ASSAY_EINPUT, "a sign before a %s", assay_jtype(v));
    if (v.kind == ASSAY_J_BOOL) v = assay_jint(v.b);
    if (n->op == ASSAY_JOP_SUB && v.kind == ASSAY_J_INT && v.i == INT64_MIN)
        return assay_jfail(r, ASSAY_EINPUT, "an integer overflows");
    if (n->op == ASSAY_JOP_SUB) v = v.kind == ASSAY_J_INT ? assay_jint(-v.i) : assay_jfloat(-v.f);
    *out = v;
    return ASSAY_OK;
}

static assay_status eval_binary(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue a, b;
    ASSAY_TRY(assay_jeval(&a, r, n->a));
    ASSAY_TRY(assay_jeval(&b, r, n->b));
    r->line = n->line;
    return assay_jarithmetic(out, r, n->op, a, b);
}

static assay_status compare_one(bool *out, assay_jrun *r, assay_jop op, assay_jvalue a, assay_jvalue b) {
    int c;
    if (op == ASSAY_JOP_EQ || op == ASSAY_JOP_NE) {
        ASSAY_TRY(assay_jequal(out, r, a, b));
        *out ^= op == ASSAY_JOP_NE;
        return ASSAY_OK;
    }
    if (op == ASSAY_JOP_IN || op == ASSAY_JOP_NOTIN) {
        ASSAY_TRY(assay_jcontains(out, r, b, a));
        *out ^= op == ASSAY_JOP_NOTIN;
        return ASSAY_OK;
    }
    ASSAY_TRY(assay_jcompare(&c, r, a, b));
    *out = op == ASSAY_JOP_LT   ? c < 0
           : op == ASSAY_JOP_LE ? c <= 0
           : op == ASSAY_JOP_GT ? c == 1
                                : c == 0 || c == 1;
    return ASSAY_OK;
}

static assay_status eval_compare(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue a, b;
    bool yes = true;
    ASSAY_TRY(assay_jeval(&a, r, n->a));
    for (size_t i = 0; yes && i < n->n_kids; i++) {
        ASSAY_TRY(assay_jeval(&b, r, n->kids[i]->a));
        r->line = n->line;
        ASSAY_TRY(compare_one(&yes, r, n->kids[i]->op, a, b));
        a = b;
    }
    *out = assay_jbool(yes);
    return ASSAY_OK;
}

static assay_status eval_and(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    ASSAY_TRY(assay_jeval(out, r, n->a));
    return assay_jtruth(*out) ? assay_jeval(out, r, n->b) : ASSAY_OK;
}

static assay_status eval_or(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    ASSAY_TRY(assay_jeval(out, r, n->a));
    return assay_jtruth(*out) ? ASSAY_OK : assay_jeval(out, r, n->b);
}

static assay_status eval_not(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue v;
    ASSAY_TRY(assay_jeval(&v, r, n->a));
    *out = assay_jbool(!assay_jtruth(v));
    return ASSAY_OK;
}

static assay_status eval_condition(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue v;
    ASSAY_TRY(assay_jeval(&v, r, n->a));
    if (assay_jtruth(v)) return assay_jeval(out, r, n->b);
    if (n->c) return assay_jeval(out, r, n->c);
    return assay_jundefined(out, r, "an inline if without else was false");
}

static assay_status eval_concat(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    assay_jvalue a, b;
    ASSAY_TRY(assay_jeval(&a, r, n->a));
    ASSAY_TRY(assay_jeval(&b, r, n->b));
    assay_str t = {0};
    assay_status s = assay_jput_str(&t, r, a);
    if (s == ASSAY_OK) s = assay_jput_str(&t, r, b);
    if (s == ASSAY_OK) return assay_jstr_take(out, r, &t);
    assay_str_free(&t);
    return s;
}

assay_status assay_jeval(assay_jvalue *out, assay_jrun *r, const assay_jnode *n) {
    static const eval_fn table[] = {
#define X(NAME, fn) [ASSAY_JN_##NAME] = eval_##fn,
        ASSAY_J_EXPRESSIONS(X)
#undef X
    };
    r->line = n->line;
    ASSAY_TRY(assay_jenter(r));
    ASSAY_TRY(table[n->kind](out, r, n));
    assay_jleave(r);
    return ASSAY_OK;
}

/* ---- arithmetic ---- */

static int64_t as_int(assay_jvalue v) {
    return v.kind == ASSAY_J_INT ? v.i : (int64_t)v.b;
}
static double as_double(assay_jvalue v) {
    return v.kind == ASSAY_J_FLOAT ? v.f : (double)as_int(v);
}

static bool int_power(int64_t *out, int64_t base, int64_t exponent) { /* true: overflow */
    int64_t x = 1;
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) && __builtin_mul_overflow(x, base, &x)) return true;
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return true;
    }
    *out = x;
    return false;
}

static assay_status int_arithmetic(assay_jvalue *out, assay_jrun *r, assay_jop op, int64_t a, int64_t b) {
    int64_t x = 0;
    bool over = false;
    if (op == ASSAY_JOP_ADD)
        over = __builtin_add_overflow(a, b, &x);
    else if (op == ASSAY_JOP_SUB)
        over = __builtin_sub_overflow(a, b, &x);
    else if (op == ASSAY_JOP_MUL)
        over = __builtin_mul_overflow(a, b, &x);
    else if (op == ASSAY_JOP_POW)
        over = int_power(&x, a, b);
    else if (b == -1) { /* INT64_MIN / -1 traps */
        if (op == ASSAY_JOP_FLOORDIV) over = __builtin_sub_overflow((int64_t)0, a, &x);
    } else {
        int64_t q = a / b, m = a % b;
        bool down = m != 0 && (m < 0) != (b < 0); /* Python rounds down */
        x = op == ASSAY_JOP_FLOORDIV ? q - down : down ? m + b : m;
    }
    if (over) return assay_jfail(r, ASSAY_EINPUT, "an integer overflows");
    *out = assay_jint(x);
    return ASSAY_OK;
}

static assay_status number_arithmetic(assay_jvalue *out, assay_jrun *r, assay_jop op, assay_jvalue a,
                                      assay_jvalue b) {
    bool ints = a.kind != ASSAY_J_FLOAT && b.kind != ASSAY_J_FLOAT;
    double x = as_double(a), y = as_double(b);
    if ((op == ASSAY_JOP_DIV || op == ASSAY_JOP_FLOORDIV || op == ASSAY_JOP_MOD) && y == 0)
        return assay_jfail(r, ASSAY_EINPUT, "a division by zero");
    if (ints && op != ASSAY_JOP_DIV && !(op == ASSAY_JOP_POW && as_int(b) < 0))
        return int_arithmetic(out, r, op, as_int(a), as_int(b));
    double f = 0, m;
    switch (op) {
    case ASSAY_JOP_ADD:
        f = x + y;
        break;
    case ASSAY_JOP_SUB:
        f = x - y;
        break;
    case ASSAY_JOP_MUL:
        f = x * y;
        break;
    case ASSAY_JOP_DIV:
        f = x / y;
        break;
    case ASSAY_JOP_FLOORDIV:
        f = floor(x / y);
        break;
    case ASSAY_JOP_POW:
        f = pow(x, y);
        break;
    default:
        m = fmod(x, y);
        f = m != 0 && (m < 0) != (y < 0) ? m + y : m;
    }
    *out = assay_jfloat(f);
    return ASSAY_OK;
}

static assay_status join_lists(assay_jvalue *out, assay_jrun *r, assay_jvalue a, assay_jvalue b) {
    assay_jlist *l;
    ASSAY_TRY(assay_jlist_new(&l, r, a.list->n + b.list->n));
    for (size_t i = 0; i < a.list->n; i++)
        ASSAY_TRY(assay_jlist_put(l, r, a.list->v[i]));
    for (size_t i = 0; i < b.list->n; i++)
        ASSAY_TRY(assay_jlist_put(l, r, b.list->v[i]));
    *out = (assay_jvalue){.kind = a.kind, .list = l};
    return ASSAY_OK;
}

static assay_status join_strings(assay_jvalue *out, assay_jrun *r, assay_jvalue a, assay_jvalue b) {
    size_t n = a.str.n + b.str.n;
    char *s = assay_jalloc(r, n, 1);
    if (!s) return assay_jnomem(r);
    if (a.str.n) memcpy(s, a.str.s, a.str.n);
    if (b.str.n) memcpy(s + a.str.n, b.str.s, b.str.n);
    *out = assay_jstr(s, n);
    return assay_jstep(r, n);
}

/* A string or list, `times` over. */
static assay_status repeat(assay_jvalue *out, assay_jrun *r, assay_jvalue v, int64_t times) {
    assay_jvalue x = v;
    if (v.kind == ASSAY_J_STRING) {
        if (times <= 0 || v.str.n == 0) {
            *out = assay_jstr("", 0);
            return ASSAY_OK;
        }
        char *s = times <= (int64_t)ASSAY_J_MAX_MEMORY ? assay_jalloc(r, (size_t)times, v.str.n) : NULL;
        if (!s) {
            r->used = ASSAY_J_MAX_MEMORY;
            return assay_jnomem(r);
        }
        for (int64_t i = 0; i < times; i++)
            memcpy(s + (size_t)i * v.str.n, v.str.s, v.str.n);
        *out = assay_jstr(s, (size_t)times * v.str.n);
        return assay_jstep(r, out->str.n);
    }
    ASSAY_TRY(assay_jlist_new(&x.list, r, 0));
    for (int64_t i = 0; i < times && v.list->n; i++)
        for (size_t k = 0; k < v.list->n; k++)
            ASSAY_TRY(assay_jlist_put(x.list, r, v.list->v[k]));
    *out = x;
    return ASSAY_OK;
}

assay_status assay_jarithmetic(assay_jvalue *out, assay_jrun *r, assay_jop op, assay_jvalue a,
                               assay_jvalue b) {
    static const char *const names[] = {"", "+", "-", "*", "/", "//", "%", "**"};
    if (assay_jis_number(a) && assay_jis_number(b)) return number_arithmetic(out, r, op, a, b);
    if (a.kind == ASSAY_J_UNDEFINED) return undefined_error(r, a);
    if (b.kind == ASSAY_J_UNDEFINED) return undefined_error(r, b);
    bool a_counts = a.kind == ASSAY_J_INT || a.kind == ASSAY_J_BOOL,
         b_counts = b.kind == ASSAY_J_INT || b.kind == ASSAY_J_BOOL;
    if (op == ASSAY_JOP_ADD && a.kind == ASSAY_J_STRING && b.kind == ASSAY_J_STRING)
        return join_strings(out, r, a, b);
    if (op == ASSAY_JOP_ADD && assay_jis_list(a) && a.kind == b.kind) return join_lists(out, r, a, b);
    if (op == ASSAY_JOP_MUL && (a.kind == ASSAY_J_STRING || assay_jis_list(a)) && b_counts)
        return repeat(out, r, a, as_int(b));
    if (op == ASSAY_JOP_MUL && (b.kind == ASSAY_J_STRING || assay_jis_list(b)) && a_counts)
        return repeat(out, r, b, as_int(a));
    if (op == ASSAY_JOP_MOD && a.kind == ASSAY_J_STRING) {
        const assay_jbuiltin *format = assay_jbuiltin_find(assay_jfilters, "format", 6);
        assay_jargs args = {.v = &b, .n = 1};
        if (b.kind == ASSAY_J_TUPLE) args = (assay_jargs){.v = b.list->v, .n = b.list->n};
        return assay_jcall_builtin(out, r, format, a, &args);
    }
    return assay_jfail(r, ASSAY_EINPUT, "%s %s %s is not possible", assay_jtype(a), names[op],
                       assay_jtype(b));
}
