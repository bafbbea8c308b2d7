/* tests/kern/cmocka_lite.h: the words of cmocka that checkkern uses, for machines that have no cmocka
 * (tests/kern/neon.sh). TAP on stdout; a failed assertion ends its test. */
#ifndef CMOCKA_LITE_H
#define CMOCKA_LITE_H

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*fn)(void **state);
};
static jmp_buf lite_failed;

#define cmocka_unit_test(f)                                                                                  \
    { #f, f }
#define print_message(...) printf(__VA_ARGS__)
#define fail_msg(...)                                                                                        \
    do {                                                                                                     \
        printf("# %s:%d: ", __FILE__, __LINE__);                                                             \
        printf(__VA_ARGS__);                                                                                 \
        printf("\n");                                                                                        \
        longjmp(lite_failed, 1);                                                                             \
    } while (0)
#define assert_true(c)                                                                                       \
    do {                                                                                                     \
        if (!(c)) fail_msg("%s", #c);                                                                        \
    } while (0)
#define assert_int_equal(a, b) assert_true((a) == (b))
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

static inline int lite_run(const struct CMUnitTest *t, size_t n) {
    volatile int failed = 0;
    for (volatile size_t i = 0; i < n; i++) {
        void *state = NULL;
        if (setjmp(lite_failed) == 0) {
            t[i].fn(&state);
            printf("ok %d - %s\n", (int)i + 1, t[i].name);
        } else {
            printf("not ok %d - %s\n", (int)i + 1, t[i].name);
            failed = failed + 1;
        }
    }
    return failed;
}
#define cmocka_run_group_tests_name(name, tests, setup, teardown)                                            \
    lite_run(tests, sizeof(tests) / sizeof((tests)[0]))

#endif
