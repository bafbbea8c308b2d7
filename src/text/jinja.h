/* text/jinja.h: the interpreter of chat templates, inside: values, syntax tree, and what one rendering
 * shares.
 *
 *   jinja_lex.c     text -> tokens            jinja_value.c   truth, equality, order, str(), repr()
 *   jinja_parse.c   tokens -> expressions     jinja_access.c  attributes, items, slices, iteration
 *   jinja_stmt.c    tokens -> statements      jinja_eval.c    expressions -> values
 *   template.c      what text.h promises      jinja_exec.c    statements -> text
 *   jinja_filter.c, jinja_json.c, jinja_test.c, jinja_method.c, jinja_function.c: what templates call;
 *   jinja.def is the list
 *
 * Memory is arenas: a template's tree lives in the template, a rendering's values in the rendering; nothing
 * is freed singly. Values are immutable, as in transformers' ImmutableSandboxedEnvironment, but for
 * namespaces and loop state. Strings are UTF-8 with a length and not NUL-terminated. */
#ifndef ASSAY_TEXT_JINJA_H
#define ASSAY_TEXT_JINJA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "text/text.h"

/* Limits of one template and one rendering. Real templates stay below a hundredth of each. */
#define ASSAY_J_MAX_SOURCE  (1 << 20)    /* bytes of template text */
#define ASSAY_J_MAX_NESTING 100          /* of expressions and of statements in the text */
#define ASSAY_J_MAX_DEPTH   250          /* of evaluation: calls, operators, nested values */
#define ASSAY_J_MAX_STEPS   20000000     /* nodes evaluated, loop turns, 64-byte blocks of string work */
#define ASSAY_J_MAX_OUTPUT  (64u << 20)  /* bytes rendered */
#define ASSAY_J_MAX_MEMORY  (256u << 20) /* bytes of values */

/* ---- values ---- */

typedef enum assay_jkind {
    ASSAY_J_MISSING,   /* no argument given; never seen by a template */
    ASSAY_J_UNDEFINED, /* str holds why, for messages */
    ASSAY_J_NONE,
    ASSAY_J_BOOL,
    ASSAY_J_INT,
    ASSAY_J_FLOAT,
    ASSAY_J_STRING,
    ASSAY_J_LIST,
    ASSAY_J_TUPLE,
    ASSAY_J_DICT,
    ASSAY_J_NAMESPACE,
    ASSAY_J_LOOP,
    ASSAY_J_MACRO,
    ASSAY_J_FUNCTION, /* a global, or a method bound to self */
} assay_jkind;

typedef struct assay_jvalue {
    assay_jkind kind;
    union {
        bool b;
        int64_t i;
        double f;
        struct {
            const char *s;
            size_t n;
        } str;
        struct assay_jlist *list;
        struct assay_jdict *dict;
        struct assay_jloop *loop;
        struct assay_jmacro *macro;
        struct assay_jbound *bound;
    };
} assay_jvalue;

typedef struct assay_jlist {
    size_t n, cap;
    assay_jvalue *v;
} assay_jlist;

typedef struct assay_jdict {
    size_t n, cap;
    assay_jvalue *keys, *values;
} assay_jdict;

typedef struct assay_jloop { /* the variable `loop` */
    const assay_jlist *items;
    size_t index;         /* from 0 */
    int64_t depth;        /* from 0 */
    assay_jvalue changed; /* last argument of loop.changed, MISSING before */
} assay_jloop;

/* ---- syntax tree ---- */

typedef struct assay_jnode assay_jnode;
typedef struct assay_jrun assay_jrun;

typedef enum assay_jargkind {
    ASSAY_J_ARG,
    ASSAY_J_ARG_NAMED,
    ASSAY_J_ARG_STAR,
    ASSAY_J_ARG_STARSTAR
} assay_jargkind;
typedef struct assay_jarg {
    assay_jargkind kind;
    const char *name;
    size_t n_name;
    assay_jnode *value;
} assay_jarg;

/* Every kind of node, with the function that evaluates or executes it. */
/* clang-format off */
#define ASSAY_J_EXPRESSIONS(X)                                                          \
    X(CONST, const)         X(NAME, name)           X(LISTING, listing)                 \
    X(TUPLING, tupling)     X(DICTING, dicting)     X(ATTRIBUTE, attribute)             \
    X(ITEM, item)           X(SLICE, slice)         X(CALL, call)                       \
    X(FILTER, filter)       X(TEST, test)           X(NEGATE, negate)                   \
    X(BINARY, binary)       X(COMPARE, compare)     X(AND, and)                         \
    X(OR, or)               X(NOT, not)             X(CONDITION, condition)             \
    X(CONCAT, concat)
#define ASSAY_J_STATEMENTS(X)                                                           \
    X(TEXT, text)           X(OUTPUT, output)       X(BLOCK, block)                     \
    X(IF, if)               X(FOR, for)             X(SET, set)                         \
    X(SETBLOCK, setblock)   X(MACRO, macro)         X(CALLBLOCK, callblock)             \
    X(FILTERBLOCK, filterblock) X(WITH, with)       X(SCOPE, scope)                     \
    X(BREAK, break)         X(CONTINUE, continue)
/* clang-format on */
typedef enum assay_jnodekind {
#define X(NAME, fn) ASSAY_JN_##NAME,
    ASSAY_J_EXPRESSIONS(X) ASSAY_J_STATEMENTS(X)
#undef X
} assay_jnodekind;

typedef enum assay_jop {
    ASSAY_JOP_NONE,
    ASSAY_JOP_ADD,
    ASSAY_JOP_SUB,
    ASSAY_JOP_MUL,
    ASSAY_JOP_DIV,
    ASSAY_JOP_FLOORDIV,
    ASSAY_JOP_MOD,
    ASSAY_JOP_POW,
    ASSAY_JOP_EQ,
    ASSAY_JOP_NE,
    ASSAY_JOP_LT,
    ASSAY_JOP_LE,
    ASSAY_JOP_GT,
    ASSAY_JOP_GE,
    ASSAY_JOP_IN,
    ASSAY_JOP_NOTIN
} assay_jop;

/* Which of the names that a macro gets without declaring them its body mentions. */
#define ASSAY_J_USES_VARARGS 1u
#define ASSAY_J_USES_KWARGS  2u
#define ASSAY_J_USES_CALLER  4u

struct assay_jnode {
    assay_jnodekind kind;
    assay_jop op;  /* BINARY, NEGATE, and each side of a COMPARE */
    bool flag;     /* TEST: negated */
    unsigned uses; /* MACRO, CALLBLOCK: ASSAY_J_USES_... */
    int line;
    const char *s; /* NAME, ATTRIBUTE, FILTER, TEST, TEXT, MACRO: the name or text */
    size_t n;
    assay_jvalue k; /* CONST */
    const void *fn; /* FILTER, TEST: the row of jinja.def */
    assay_jnode *a, *b, *c, *d;
    assay_jnode **kids;
    size_t n_kids;
    assay_jarg *args; /* CALL, FILTER, TEST; MACRO, CALLBLOCK: parameters (value is the default) */
    size_t n_args;
};

/* ---- scopes, macros, calls ---- */

typedef struct assay_jvar {
    const char *s;
    size_t n;
    assay_jvalue value;
} assay_jvar;

typedef struct assay_jscope {
    struct assay_jscope *parent;
    assay_jvar *vars;
    size_t n, cap;
} assay_jscope;

typedef struct assay_jmacro {
    const assay_jnode *node; /* args are its parameters, a its body */
    assay_jscope *scope;     /* where it was defined */
} assay_jmacro;

/* Arguments of a call, evaluated. */
typedef struct assay_jargs {
    assay_jvalue *v;
    size_t n;
    assay_jvar *named;
    size_t n_named;
} assay_jargs;

#define ASSAY_J_MAX_PARAMS 6
/* Filters, tests, methods, functions: self is the filtered or tested value, the object, or MISSING. a[] are
 * the declared parameters in order, MISSING where not given; args is everything, for those that declare none.
 */
typedef assay_status (*assay_jfn)(assay_jvalue *out, assay_jrun *r, assay_jvalue self, const assay_jvalue *a,
                                  const assay_jargs *args);
typedef struct assay_jbuiltin {
    const char *name;
    assay_jfn fn;       /* NULL: known to Jinja, not to us */
    const char *params; /* names separated by spaces; NULL: takes any arguments */
    int required;
} assay_jbuiltin;

typedef struct assay_jbound {
    const assay_jbuiltin *fn;
    assay_jvalue self;
} assay_jbound;

extern const assay_jbuiltin assay_jfilters[], assay_jtests[], assay_jfunctions[], assay_jstring_methods[],
    assay_jdict_methods[], assay_jlist_methods[], assay_jloop_methods[]; /* each ends in a NULL name */
const assay_jbuiltin *assay_jbuiltin_find(const assay_jbuiltin *table, const char *s, size_t n);

/* ---- a template and a rendering ---- */

struct assay_template {
    assay_arena arena;
    const char *text; /* newlines normalized */
    size_t n;
    assay_jnode *body;
    char *hash, *source; /* in the arena; the source is the text as it was given */
    size_t n_source;
};

struct assay_jrun {
    assay_arena arena;
    size_t used; /* bytes of the arena */
    uint64_t steps;
    int depth;
    int line; /* of the statement or expression at work, for messages */
    const int64_t *now; /* what strftime_now tells, seconds since the epoch in UTC; NULL: the clock */
    assay_jscope *scope;
    assay_str *out;    /* where statements write */
    assay_jvalue pipe; /* what a filter without an operand filters: the body of a set or filter block */
    enum { ASSAY_J_RUN, ASSAY_J_BREAK, ASSAY_J_CONTINUE } jump;
    assay_err *err;
};

/* "chat template line N: ..." */
assay_status assay_jfail(assay_jrun *r, assay_status code, const char *fmt, ...) ASSAY_PRINTF(3, 4);
/* Zeroed memory of the rendering; NULL when out of memory or over the limit, then return assay_jnomem(r). */
void *assay_jalloc(assay_jrun *r, size_t n, size_t size);
assay_status assay_jnomem(assay_jrun *r);
/* Counts work; EINPUT when a template does too much. */
assay_status assay_jstep(assay_jrun *r, size_t bytes);
/* Around anything recursive. */
assay_status assay_jenter(assay_jrun *r);
static inline void assay_jleave(assay_jrun *r) {
    r->depth--;
}

/* ---- parsing ---- */

typedef enum assay_jtokenkind {
    ASSAY_JT_EOF,
    ASSAY_JT_TEXT,
    ASSAY_JT_VAR_BEGIN,
    ASSAY_JT_VAR_END,
    ASSAY_JT_BLOCK_BEGIN,
    ASSAY_JT_BLOCK_END,
    ASSAY_JT_NAME,
    ASSAY_JT_STRING,
    ASSAY_JT_INT,
    ASSAY_JT_FLOAT,
    ASSAY_JT_OP
} assay_jtokenkind;

typedef struct assay_jtoken {
    assay_jtokenkind kind;
    int line;
    const char *s; /* OP: the operator; STRING: decoded; TEXT; NAME */
    size_t n;
    int64_t i;
    double f;
} assay_jtoken;

typedef struct assay_jtokens {
    assay_jtoken *v; /* owned */
    size_t n, cap;
} assay_jtokens;

/* t->text to tokens; strings live in t's arena. */
assay_status assay_jlex(assay_jtokens *out, assay_template *t, assay_err *err);

typedef struct assay_jparser {
    assay_template *t;
    const assay_jtoken *tok; /* current */
    int depth;
    int loops; /* for statements around, for break and continue */
    int branches; /* if statements around: what is unknown there fails when it is reached, as in Jinja */
    assay_err *err;
} assay_jparser;

assay_status assay_jparse_template(assay_template *t, const assay_jtokens *tokens, assay_err *err);
assay_status assay_jsyntax(assay_jparser *p, const char *fmt, ...) ASSAY_PRINTF(2, 3);
assay_jnode *assay_jnode_new(assay_jparser *p, assay_jnodekind kind); /* NULL: out of memory */
void *assay_jparse_copy(assay_jparser *p, const void *v, size_t n, size_t size);
bool assay_jtok_is(const assay_jparser *p, const char *op); /* current is this operator */
bool assay_jtok_is_name(const assay_jparser *p, const char *name);
bool assay_jtok_accept(assay_jparser *p, const char *op);
bool assay_jtok_accept_name(assay_jparser *p, const char *name);
assay_status assay_jtok_expect(assay_jparser *p, const char *op);
assay_status assay_jparse_expression(assay_jnode **out, assay_jparser *p, bool with_condition);
/* a, b or just a; stops before `in` and `recursive` when they end it. simple: primaries only (targets). */
assay_status assay_jparse_tuple(assay_jnode **out, assay_jparser *p, bool with_condition, bool simple,
                                const char *end);
assay_status assay_jparse_primary(assay_jnode **out, assay_jparser *p);
/* "| name(args) | ..." on node; start_inline: the first has no bar (filter blocks). */
assay_status assay_jparse_filter(assay_jnode **out, assay_jparser *p, assay_jnode *node, bool start_inline);

/* ---- values: jinja_value.c ---- */

static inline assay_jvalue assay_jbool(bool b) {
    return (assay_jvalue){.kind = ASSAY_J_BOOL, .b = b};
}
static inline assay_jvalue assay_jint(int64_t i) {
    return (assay_jvalue){.kind = ASSAY_J_INT, .i = i};
}
static inline assay_jvalue assay_jfloat(double f) {
    return (assay_jvalue){.kind = ASSAY_J_FLOAT, .f = f};
}
static inline assay_jvalue assay_jnone(void) {
    return (assay_jvalue){.kind = ASSAY_J_NONE};
}
static inline assay_jvalue assay_jstr(const char *s, size_t n) {
    return (assay_jvalue){.kind = ASSAY_J_STRING, .str = {s, n}};
} /* borrowed */
static inline bool assay_jis_list(assay_jvalue v) {
    return v.kind == ASSAY_J_LIST || v.kind == ASSAY_J_TUPLE;
}
static inline bool assay_jis_number(assay_jvalue v) {
    return v.kind >= ASSAY_J_BOOL && v.kind <= ASSAY_J_FLOAT;
}
static inline bool assay_jis_undefined(assay_jvalue v) {
    return v.kind == ASSAY_J_UNDEFINED || v.kind == ASSAY_J_MISSING;
}

assay_status assay_jundefined(assay_jvalue *out, assay_jrun *r, const char *fmt, ...) ASSAY_PRINTF(3, 4);
/* A copy of bytes; takes b's content and frees b. */
assay_status assay_jstr_copy(assay_jvalue *out, assay_jrun *r, const char *s, size_t n);
assay_status assay_jstr_take(assay_jvalue *out, assay_jrun *r, assay_str *b);
assay_status assay_jlist_new(assay_jlist **out, assay_jrun *r, size_t cap);
assay_status assay_jlist_put(assay_jlist *l, assay_jrun *r, assay_jvalue v);
assay_status assay_jdict_new(assay_jdict **out, assay_jrun *r, size_t cap);
assay_status assay_jdict_put(assay_jdict *d, assay_jrun *r, assay_jvalue key,
                             assay_jvalue value); /* replaces in place */
assay_status assay_jdict_find(const assay_jvalue **out, assay_jrun *r, const assay_jdict *d,
                              assay_jvalue key); /* NULL: not there */
static inline assay_jvalue assay_jlist_value(assay_jlist *l) {
    return (assay_jvalue){.kind = ASSAY_J_LIST, .list = l};
}
static inline assay_jvalue assay_jtuple_value(assay_jlist *l) {
    return (assay_jvalue){.kind = ASSAY_J_TUPLE, .list = l};
}
static inline assay_jvalue assay_jdict_value(assay_jdict *d) {
    return (assay_jvalue){.kind = ASSAY_J_DICT, .dict = d};
}
assay_status assay_jpair(assay_jvalue *out, assay_jrun *r, assay_jvalue a,
                         assay_jvalue b); /* a tuple of two */

const char *assay_jtype(assay_jvalue v); /* Python's name of the type */
bool assay_jtruth(assay_jvalue v);
assay_status assay_jequal(bool *out, assay_jrun *r, assay_jvalue a, assay_jvalue b);
assay_status assay_jcompare(int *out, assay_jrun *r, assay_jvalue a,
                            assay_jvalue b); /* -1 0 1, 2: a NaN; EINPUT when there is no order */
assay_status assay_jput_str(assay_str *b, assay_jrun *r, assay_jvalue v);  /* str(v) */
assay_status assay_jput_repr(assay_str *b, assay_jrun *r, assay_jvalue v); /* repr(v) */
assay_status assay_jto_str(assay_jvalue *out, assay_jrun *r, assay_jvalue v);
void assay_jput_float(assay_str *b, double f); /* repr of a Python float */
assay_status assay_jfrom_json(assay_jvalue *out, assay_jrun *r, const json_t *j);

/* a OP b for the arithmetic operators */
assay_status assay_jarithmetic(assay_jvalue *out, assay_jrun *r, assay_jop op, assay_jvalue a,
                               assay_jvalue b);

/* ---- access: jinja_access.c ---- */

assay_status assay_jattribute(assay_jvalue *out, assay_jrun *r, assay_jvalue v, const char *s,
                              size_t n);                                                      /* v.name */
assay_status assay_jitem(assay_jvalue *out, assay_jrun *r, assay_jvalue v, assay_jvalue key); /* v[key] */
assay_status assay_jslice(assay_jvalue *out, assay_jrun *r, assay_jvalue v, assay_jvalue start,
                          assay_jvalue stop, assay_jvalue step);
/* What iterating over v gives, as a list (v's own when it is one). */
assay_status assay_jiterate(assay_jlist **out, assay_jrun *r, assay_jvalue v);
assay_status assay_jlength(int64_t *out, assay_jrun *r, assay_jvalue v);
assay_status assay_jcontains(bool *out, assay_jrun *r, assay_jvalue v, assay_jvalue item); /* item in v */

/* ---- running: jinja_eval.c, jinja_exec.c ---- */

assay_status assay_jeval(assay_jvalue *out, assay_jrun *r, const assay_jnode *n);
assay_status assay_jexec(assay_jrun *r, const assay_jnode *n);
/* The text that a body writes, in a scope of its own. */
assay_status assay_jcapture(assay_jvalue *out, assay_jrun *r, const assay_jnode *body);
assay_status assay_jcall(assay_jvalue *out, assay_jrun *r, assay_jvalue callee, const assay_jargs *args);
assay_status assay_jcall_macro(assay_jvalue *out, assay_jrun *r, const assay_jmacro *m,
                               const assay_jargs *args);
/* Binds args to the builtin's parameters and calls it. `what` is "filter", "test", "function" for messages.
 */
assay_status assay_jcall_builtin(assay_jvalue *out, assay_jrun *r, const assay_jbuiltin *f, assay_jvalue self,
                                 const assay_jargs *args);
assay_status assay_jscope_push(assay_jrun *r, assay_jscope *parent);
assay_status assay_jscope_set(assay_jrun *r, assay_jscope *scope, const char *s, size_t n, assay_jvalue v);
assay_status assay_jassign(assay_jrun *r, const assay_jnode *target, assay_jvalue v);

#endif
