/* jinja_test.c: the tests of Jinja ("x is defined"), as jinja2/tests.py defines them. */
#include <math.h>
#include <string.h>
#include "text/jinja.h"

#define TESTER(name)                                                                                         \
    static assay_status name(assay_jvalue *out, assay_jrun *r, assay_jvalue self, const assay_jvalue *a,     \
                             const assay_jargs *args)
/* A test that is one expression. */
#define SIMPLE(name, expr)                                                                                   \
    TESTER(name) {                                                                                           \
        (void)r, (void)a, (void)args;                                                                        \
        *out = assay_jbool(expr);                                                                            \
        return ASSAY_OK;                                                                                     \
    }
SIMPLE(test_boolean, self.kind == ASSAY_J_BOOL)
SIMPLE(test_callable, self.kind == ASSAY_J_FUNCTION || self.kind == ASSAY_J_MACRO || self.kind == ASSAY_J_UNDEFINED) /* in order to fail */
SIMPLE(test_defined, !assay_jis_undefined(self))
SIMPLE(test_undefined, assay_jis_undefined(self))
SIMPLE(test_false, self.kind == ASSAY_J_BOOL && !self.b)
SIMPLE(test_true, self.kind == ASSAY_J_BOOL && self.b)
SIMPLE(test_float, self.kind == ASSAY_J_FLOAT)
SIMPLE(test_integer, self.kind == ASSAY_J_INT)
SIMPLE(test_number, assay_jis_number(self))
SIMPLE(test_mapping, self.kind == ASSAY_J_DICT)
SIMPLE(test_none, self.kind == ASSAY_J_NONE)
SIMPLE(test_string, self.kind == ASSAY_J_STRING)
/* An undefined value has a length and can be iterated over; it is empty. */
SIMPLE(test_iterable, self.kind == ASSAY_J_STRING || assay_jis_list(self) || self.kind == ASSAY_J_DICT ||
                          self.kind == ASSAY_J_LOOP || assay_jis_undefined(self))
SIMPLE(test_sequence, self.kind == ASSAY_J_STRING || assay_jis_list(self) || self.kind == ASSAY_J_DICT ||
                          assay_jis_undefined(self))
SIMPLE(test_filter,
       self.kind == ASSAY_J_STRING && assay_jbuiltin_find(assay_jfilters, self.str.s, self.str.n) != NULL)
SIMPLE(test_test,
       self.kind == ASSAY_J_STRING && assay_jbuiltin_find(assay_jtests, self.str.s, self.str.n) != NULL)

TESTER(test_eq) {
    bool yes;
    (void)args;
    ASSAY_TRY(assay_jequal(&yes, r, self, a[0]));
    *out = assay_jbool(yes);
    return ASSAY_OK;
}
TESTER(test_ne) {
    ASSAY_TRY(test_eq(out, r, self, a, args));
    out->b = !out->b;
    return ASSAY_OK;
}

#define ORDER(name, expr)                                                                                    \
    TESTER(name) {                                                                                           \
        int c;                                                                                               \
        (void)args;                                                                                          \
        ASSAY_TRY(assay_jcompare(&c, r, self, a[0]));                                                        \
        *out = assay_jbool(expr);                                                                            \
        return ASSAY_OK;                                                                                     \
    }
ORDER(test_lt, c < 0)
ORDER(test_le, c <= 0)
ORDER(test_gt, c == 1)
ORDER(test_ge, c == 0 || c == 1)

TESTER(test_in) {
    bool yes;
    (void)args;
    ASSAY_TRY(assay_jcontains(&yes, r, a[0], self));
    *out = assay_jbool(yes);
    return ASSAY_OK;
}

TESTER(test_sameas) {
    (void)args;
    bool yes = self.kind == a[0].kind;
    if (yes && (assay_jis_list(self) || self.kind >= ASSAY_J_DICT))
        yes = self.list == a[0].list;
    else if (yes)
        ASSAY_TRY(assay_jequal(&yes, r, self, a[0]));
    *out = assay_jbool(yes);
    return ASSAY_OK;
}

/* self % n == wanted */
static assay_status divides(assay_jvalue *out, assay_jrun *r, assay_jvalue self, assay_jvalue n,
                            int64_t wanted) {
    assay_jvalue m;
    bool yes;
    if (!assay_jis_number(self)) return assay_jfail(r, ASSAY_EINPUT, "a %s is no number", assay_jtype(self));
    ASSAY_TRY(assay_jarithmetic(&m, r, ASSAY_JOP_MOD, self, n));
    ASSAY_TRY(assay_jequal(&yes, r, m, assay_jint(wanted)));
    *out = assay_jbool(yes);
    return ASSAY_OK;
}
TESTER(test_odd) {
    (void)a, (void)args;
    return divides(out, r, self, assay_jint(2), 1);
}
TESTER(test_even) {
    (void)a, (void)args;
    return divides(out, r, self, assay_jint(2), 0);
}
TESTER(test_divisibleby) {
    (void)args;
    return divides(out, r, self, a[0], 0);
}

static assay_status by_method(assay_jvalue *out, assay_jrun *r, assay_jvalue self, const char *method) {
    const assay_jargs none = {0};
    ASSAY_TRY(assay_jto_str(&self, r, self));
    return assay_jcall_builtin(out, r, assay_jbuiltin_find(assay_jstring_methods, method, strlen(method)),
                               self, &none);
}
TESTER(test_lower) {
    (void)a, (void)args;
    return by_method(out, r, self, "islower");
}
TESTER(test_upper) {
    (void)a, (void)args;
    return by_method(out, r, self, "isupper");
}

#define FILTER(name, fn, params, required)
#define TEST(name, fn, params, required) {name, fn, params, required},
#define FUNCTION(name, fn, params, required)
#define STRING_METHOD(name, fn, params, required)
#define DICT_METHOD(name, fn, params, required)
#define LIST_METHOD(name, fn, params, required)
#define LOOP(name, fn, params, required)
const assay_jbuiltin assay_jtests[] = {
#include "text/jinja.def"
    {NULL, NULL, NULL, 0}};
