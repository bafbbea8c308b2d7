/* replay.c: runs a fuzz target over the files of its corpus (a folder given as argument), as one TAP test per
 * file. Also `PROGRAM FILE` to reproduce one finding. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return -1;
    uint8_t *buf = NULL;
    size_t n = 0, cap = 0;
    for (;;) {
        if (n == cap) {
            cap = cap ? cap * 2 : 4096;
            uint8_t *p = realloc(buf, cap);
            if (!p) break;
            buf = p;
        }
        size_t got = fread(buf + n, 1, cap - n, f);
        if (!got) break;
        n += got;
    }
    fclose(f);
    uint8_t *exact = malloc(n ? n : 1); /* exact size, so that ASan sees an over-read */
    if (exact && n) memcpy(exact, buf, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    free(buf);
    return 0;
}

int main(int argc, char **argv) {
    struct stat st;
    int n = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2 || stat(argv[1], &st)) {
        printf("not ok 1 - no corpus at %s\n", argc > 1 ? argv[1] : "(none)");
        return 1;
    }
    if (!S_ISDIR(st.st_mode)) return replay(argv[1]);
    struct dirent **names;
    int count = scandir(argv[1], &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        if (names[i]->d_name[0] != '.') {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[1], names[i]->d_name);
            int r = replay(path);
            printf("%s %d - %s\n", r ? "not ok" : "ok", ++n, names[i]->d_name);
        }
        free(names[i]);
    }
    free(names);
    printf("1..%d\n", n);
    return 0;
}
