/* jinja_lex.c: template text to tokens, with Jinja's rules on white space as transformers sets them
 * (trim_blocks, lstrip_blocks, no trailing newline kept):
 *   "%}" and "#}" take one newline that follows; "-%}" all white space, "+%}" nothing
 *   "{%" and "{#" take the blanks before them on a line of their own; "{%-" all white space, "{%+" nothing
 *
 * Line statements and other delimiters are not part of chat templates. */
#include <stdlib.h>
#include <string.h>
#include "text/jinja.h"
#include "text/unicode.h"

typedef struct lexer {
    assay_template *t;
    const char *s;
    size_t n, i;
    int line;
    bool line_starting; /* what was consumed last ended in a newline */
    assay_jtokens *out;
    assay_err *err;
} lexer;

static assay_status broken(const lexer *x, const char *what) {
    return assay_fail(x->err, ASSAY_EINPUT, "chat template line %d: %s", x->line, what);
}

static assay_status put(lexer *x, assay_jtoken token) {
    if (x->out->n == x->out->cap)
        ASSAY_TRY(assay_grow(&x->out->v, &x->out->cap, x->out->n + 1, sizeof *x->out->v, x->err));
    token.line = x->line;
    x->out->v[x->out->n++] = token;
    return ASSAY_OK;
}

static void advance(lexer *x, size_t to) {
    for (; x->i < to; x->i++)
        x->line += x->s[x->i] == '\n';
    x->line_starting = to > 0 && x->s[to - 1] == '\n';
}

static size_t skip_space(const lexer *x, size_t i) {
    size_t len;
    while (i < x->n && assay_char_is_space(assay_utf8_next(&len, x->s + i, x->n - i)))
        i += len;
    return i;
}

static bool at(const lexer *x, size_t i, const char *what) {
    size_t n = strlen(what);
    return i + n <= x->n && memcmp(x->s + i, what, n) == 0;
}

/* ---- text and delimiters ---- */

/* The text [begin, end) before a tag whose sign is `sign`. */
static assay_status put_text(lexer *x, size_t begin, size_t end, char sign, bool variable) {
    size_t len;
    if (sign == '-') {
        while (end > begin && assay_char_is_space(assay_utf8_prev(&len, x->s + begin, end - begin)))
            end -= len;
    } else if (sign != '+' && !variable) {
        size_t line = end, k;
        while (line > begin && x->s[line - 1] != '\n')
            line--;
        if (line > begin || x->line_starting) {
            for (k = line; k < end && assay_char_is_space(assay_utf8_next(&len, x->s + k, end - k));)
                k += len;
            if (k == end) end = line;
        }
    }
    if (end == begin) return ASSAY_OK;
    return put(x, (assay_jtoken){.kind = ASSAY_JT_TEXT, .s = x->s + begin, .n = end - begin});
}

/* Where what follows a closing delimiter begins. `sign` stood before it; trim: take one newline. */
static size_t after_close(const lexer *x, size_t i, char sign, bool trim) {
    if (sign == '-') return skip_space(x, i);
    return sign != '+' && trim && i < x->n && x->s[i] == '\n' ? i + 1 : i;
}

static assay_status comment(lexer *x, size_t begin) {
    const char *hit = memmem(x->s + begin, x->n - begin, "#}", 2);
    if (!hit) return broken(x, "a comment is not closed");
    size_t end = (size_t)(hit - x->s);
    char sign = end > begin ? x->s[end - 1] : 0;
    advance(x, after_close(x, end + 2, sign, true));
    return ASSAY_OK;
}

/* "{%- name -%}" at i: where it ends (0: not that), and its two signs. */
static size_t bare_tag(const lexer *x, size_t i, const char *name, char *open, char *close) {
    if (!at(x, i, "{%")) return 0;
    i += 2;
    *open = i < x->n && (x->s[i] == '-' || x->s[i] == '+') ? x->s[i++] : 0;
    i = skip_space(x, i);
    if (!at(x, i, name)) return 0;
    i = skip_space(x, i + strlen(name));
    *close = i < x->n && (x->s[i] == '-' || x->s[i] == '+') ? x->s[i++] : 0;
    return at(x, i, "%}") ? i + 2 : 0;
}

static assay_status raw(lexer *x, size_t body, char close) {
    advance(x, after_close(x, body, close, false));
    size_t begin = x->i;
    if (begin == x->n) return ASSAY_OK; /* the original lets this one go */
    for (size_t i = begin; i < x->n; i++) {
        char open;
        size_t end = x->s[i] == '{' ? bare_tag(x, i, "endraw", &open, &close) : 0;
        if (!end) continue;
        ASSAY_TRY(put_text(x, begin, i, open, false));
        advance(x, after_close(x, end, close, true));
        return ASSAY_OK;
    }
    return broken(x, "raw is not closed");
}

/* ---- inside a tag ---- */

static int escape_digits(const lexer *x, size_t i, size_t end, int n, int base) {
    int v = 0, k = 0;
    for (; k < n && i + (size_t)k < end; k++) {
        char c = x->s[i + (size_t)k];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : 99;
        if (d >= base) return -1;
        v = v * base + d;
    }
    return k == n ? v : -1;
}

/* The escape at i (after the backslash); *i moves behind it. Python's rules: an unknown one stays as it is.
 */
static assay_status unescape(assay_str *b, lexer *x, size_t *i, size_t end) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = x->s[*i];
    const char *hit = c ? strchr(from, c) : NULL;
    if (c == '\n') {
        ++*i;
    } else if (hit) {
        assay_str_putc(b, to[hit - from]);
        ++*i;
    } else if (c >= '0' && c <= '7') {
        int v = 0, k = 0;
        for (; k < 3 && *i < end && x->s[*i] >= '0' && x->s[*i] <= '7'; k++)
            v = v * 8 + (x->s[(*i)++] - '0');
        assay_utf8_put(b, v);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        int digits = c == 'x' ? 2 : c == 'u' ? 4 : 8, v = escape_digits(x, *i + 1, end, digits, 16);
        if (v < 0 || v > 0x10FFFF || (v >= 0xD800 && v < 0xE000))
            return broken(x, "a string has a broken escape");
        assay_utf8_put(b, v);
        *i += 1 + (size_t)digits;
    } else if (c == 'N') {
        return assay_fail(x->err, ASSAY_EUNSUPPORTED, "chat template line %d: \\N escapes are not supported",
                          x->line);
    } else {
        assay_str_putc(b, '\\');
    }
    return ASSAY_OK;
}

static assay_status string(lexer *x) {
    char quote = x->s[x->i];
    size_t begin = x->i + 1, end = begin;
    while (end < x->n && x->s[end] != quote)
        end += x->s[end] == '\\' ? 2 : 1;
    if (end >= x->n) return broken(x, "a string is not closed");
    assay_str b = {0};
    assay_status s = ASSAY_OK;
    for (size_t i = begin; i < end && s == ASSAY_OK;) {
        const char *bs = memchr(x->s + i, '\\', end - i);
        size_t plain = bs ? (size_t)(bs - x->s) : end;
        assay_str_putn(&b, x->s + i, plain - i);
        i = plain + 1;
        if (bs) s = unescape(&b, x, &i, end);
    }
    if (s == ASSAY_OK) s = assay_str_status(&b, x->err);
    char *copy = s == ASSAY_OK ? assay_arena_strndup(&x->t->arena, assay_str_c(&b), b.len) : NULL;
    if (s == ASSAY_OK && !copy) s = assay_nomem(x->err);
    if (s == ASSAY_OK) s = put(x, (assay_jtoken){.kind = ASSAY_JT_STRING, .s = copy, .n = b.len});
    assay_str_free(&b);
    if (s == ASSAY_OK) advance(x, end + 1);
    return s;
}

static bool digit(const lexer *x, size_t i) {
    return i < x->n && x->s[i] >= '0' && x->s[i] <= '9';
}
static size_t digits(const lexer *x, size_t i) {
    while (digit(x, i) || (i < x->n && x->s[i] == '_' && digit(x, i + 1)))
        i++;
    return i;
}

static assay_status number(lexer *x) {
    char buf[64];
    size_t begin = x->i, end = digits(x, begin), k = 0;
    bool real = false, after_dot = begin > 0 && x->s[begin - 1] == '.';
    if (x->s[begin] == '0' && begin + 1 < x->n && strchr("xXoObB", x->s[begin + 1]))
        return assay_fail(x->err, ASSAY_EUNSUPPORTED,
                          "chat template line %d: numbers in other bases are not supported", x->line);
    if (!after_dot && end < x->n && x->s[end] == '.' && digit(x, end + 1)) {
        real = true;
        end = digits(x, end + 1);
    }
    if (!after_dot && end < x->n && (x->s[end] == 'e' || x->s[end] == 'E')) {
        size_t e = end + 1;
        if (e < x->n && (x->s[e] == '+' || x->s[e] == '-')) e++;
        if (digit(x, e)) {
            real = true;
            end = digits(x, e);
        }
    }
    for (size_t i = begin; i < end; i++) {
        if (x->s[i] == '_') continue;
        if (k + 1 >= sizeof buf) return broken(x, "a number is too long");
        buf[k++] = x->s[i];
    }
    buf[k] = '\0';
    assay_jtoken t = {.kind = real ? ASSAY_JT_FLOAT : ASSAY_JT_INT, .s = x->s + begin, .n = end - begin};
    if (real) {
        t.f = strtod(buf, NULL);
    } else {
        if (k > 18) return broken(x, "a number is too large");
        t.i = strtoll(buf, NULL, 10);
    }
    ASSAY_TRY(put(x, t));
    advance(x, end);
    return ASSAY_OK;
}

static bool name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

static assay_status operator(lexer *x, char *stack, size_t *depth) {
    static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
    size_t n = 1;
    for (size_t k = 0; k < ASSAY_LEN(two); k++)
        if (at(x, x->i, two[k])) n = 2;
    char c = x->s[x->i];
    if (n == 1 && !strchr("+-/*%~[](){}><=.:|,;", c)) return broken(x, "an unexpected character in a tag");
    if (c == '(' || c == '[' || c == '{') {
        if (*depth == ASSAY_J_MAX_NESTING) return broken(x, "brackets are nested too deep");
        stack[(*depth)++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (*depth == 0 || stack[*depth - 1] != c) return broken(x, "an unexpected closing bracket");
        --*depth;
    }
    ASSAY_TRY(put(x, (assay_jtoken){.kind = ASSAY_JT_OP, .s = x->s + x->i, .n = n}));
    advance(x, x->i + n);
    return ASSAY_OK;
}

/* From behind the opening delimiter to behind the closing one. */
static assay_status inside(lexer *x, bool variable) {
    char stack[ASSAY_J_MAX_NESTING];
    size_t depth = 0;
    const char *close = variable ? "}}" : "%}";
    for (;;) {
        advance(x, skip_space(x, x->i));
        if (x->i >= x->n) return broken(x, variable ? "an expression is not closed" : "a tag is not closed");
        char c = x->s[x->i];
        size_t signs = (c == '-' || (c == '+' && !variable)) && at(x, x->i + 1, close) ? 1 : 0;
        if (depth == 0 && at(x, x->i + signs, close)) {
            ASSAY_TRY(put(x, (assay_jtoken){.kind = variable ? ASSAY_JT_VAR_END : ASSAY_JT_BLOCK_END}));
            advance(x, after_close(x, x->i + signs + 2, signs ? c : 0, !variable));
            return ASSAY_OK;
        }
        if (c == '\'' || c == '"') {
            ASSAY_TRY(string(x));
        } else if (c >= '0' && c <= '9') {
            ASSAY_TRY(number(x));
        } else if (name_byte(c)) {
            size_t end = x->i;
            while (end < x->n && name_byte(x->s[end]))
                end++;
            ASSAY_TRY(put(x, (assay_jtoken){.kind = ASSAY_JT_NAME, .s = x->s + x->i, .n = end - x->i}));
            advance(x, end);
        } else {
            ASSAY_TRY(operator(x, stack, &depth));
        }
    }
}

static size_t next_delimiter(const lexer *x, size_t i) {
    for (; i + 1 < x->n; i++) {
        const char *hit = memchr(x->s + i, '{', x->n - 1 - i);
        if (!hit) break;
        i = (size_t)(hit - x->s);
        if (x->s[i + 1] == '{' || x->s[i + 1] == '%' || x->s[i + 1] == '#') return i;
    }
    return x->n;
}

assay_status assay_jlex(assay_jtokens *out, assay_template *t, assay_err *err) {
    lexer x = {.t = t, .s = t->text, .n = t->n, .line = 1, .line_starting = true, .out = out, .err = err};
    while (x.i < x.n) {
        size_t tag = next_delimiter(&x, x.i);
        if (tag == x.n) {
            ASSAY_TRY(put_text(&x, x.i, x.n, '+', true));
            advance(&x, x.n);
            break;
        }
        char c = x.s[tag + 1], open, close;
        size_t body = tag + 2;
        char sign = body < x.n && (x.s[body] == '-' || x.s[body] == '+') ? x.s[body] : 0;
        if (sign) body++;
        ASSAY_TRY(put_text(&x, x.i, tag, sign, c == '{'));
        size_t raw_body = c == '%' ? bare_tag(&x, tag, "raw", &open, &close) : 0;
        advance(&x, raw_body ? tag : body);
        if (raw_body) {
            ASSAY_TRY(raw(&x, raw_body, close));
        } else if (c == '#') {
            ASSAY_TRY(comment(&x, body));
        } else {
            ASSAY_TRY(put(&x, (assay_jtoken){.kind = c == '{' ? ASSAY_JT_VAR_BEGIN : ASSAY_JT_BLOCK_BEGIN}));
            ASSAY_TRY(inside(&x, c == '{'));
        }
    }
    return put(&x, (assay_jtoken){.kind = ASSAY_JT_EOF});
}
