#!/bin/sh
# checkdeps.sh: the tree keeps its rules, and the checker can tell: each kind of violation, planted in a copy, is found.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
n=0

if sh "$top/tools/checkdeps" "$top" > "$tmp/log" 2>&1; then echo "ok 1 - the tree keeps its rules"
else echo "not ok 1 - the tree keeps its rules"; sed 's/^/# /' "$tmp/log"; fi
n=1

# A small tree that keeps the rules, so that exactly the planted line is found.
mkdir -p "$tmp/clean/src/base" "$tmp/clean/src/num" "$tmp/clean/src/eval" "$tmp/clean/src/runtime" "$tmp/clean/cli" "$tmp/clean/include/assay" "$tmp/clean/tools"
cat > "$tmp/clean/tools/rooms.def" <<'DEF'
# room      may include
base
num         base
runtime     base num
eval        base runtime(runtime.h)
DEF
echo '#ifndef ASSAY_STATUS_H
#define ASSAY_STATUS_H
int assay_status_of(void);
#endif' > "$tmp/clean/include/assay/status.h"
echo '#include <stddef.h>
void *assay_malloc(size_t n);' > "$tmp/clean/src/base/mem.h"
echo '#include <stdlib.h>
#include "base/mem.h"
void *assay_malloc(size_t n) { return malloc(n); }' > "$tmp/clean/src/base/mem.c"
echo '#include <string.h>
#include "base/mem.h"
/* prose may speak of strcpy(a, b) and malloc(n)
   over lines: free(p) */
static const char *text = "sprintf(buf) \" atoi(x)"; // strtok(s)
int assay_num(struct t *m) { m->free(m); return (int)strlen(text); }' > "$tmp/clean/src/num/num.c"
echo '#include "runtime/runtime.h"' > "$tmp/clean/src/eval/eval.c"
echo 'int assay_runtime(void);' > "$tmp/clean/src/runtime/runtime.h"
echo 'int assay_native(void);' > "$tmp/clean/src/runtime/native.h"
echo '#include <stdio.h>
#include "assay/status.h"
#include "options.h"' > "$tmp/clean/cli/main.c"
: > "$tmp/clean/cli/options.h"

# plant NAME EXPECTED FILE TEXT: appends TEXT to FILE of a copy; EXPECTED must be in every line of the report.
plant() {
    n=$((n + 1))
    rm -rf "$tmp/copy"; cp -r "$tmp/clean" "$tmp/copy"
    printf '%s\n' "$4" >> "$tmp/copy/$3"
    if sh "$top/tools/checkdeps" "$tmp/copy" > "$tmp/log" 2>&1; then echo "not ok $n - $1: nothing was found"; return; fi
    if grep -qF -- "$2" "$tmp/log" && ! grep -qvF -- "$2" "$tmp/log"; then echo "ok $n - $1"
    else echo "not ok $n - $1"; sed 's/^/# /' "$tmp/log"; fi
}

n=$((n + 1))
if sh "$top/tools/checkdeps" "$tmp/clean" > "$tmp/log" 2>&1; then echo "ok $n - a clean tree passes"
else echo "not ok $n - a clean tree passes"; sed 's/^/# /' "$tmp/log"; fi

plant 'a room that may not be included' 'src/num/num.c:7: "runtime/runtime.h": room num may not include room runtime' src/num/num.c '#include "runtime/runtime.h"'
plant 'another header of a room with one door' 'room eval may not include room runtime' src/eval/eval.c '#include "runtime/native.h"'
plant 'a room that does not exist' 'nowhere is no room' src/num/num.c '#include "nowhere/x.h"'
plant 'an include without its room' 'write the room too' src/num/num.c '#include "num.h"'
plant 'the command line reaching inside' 'only include/assay' cli/main.c '#include "num/num.h"'
plant 'a library outside its place' '<sqlite3.h> may stand in src/store/ only' src/num/num.c '#include <sqlite3.h>'
plant 'a library that nobody listed' '<zlib.h> is in no list' src/base/mem.c '#include <zlib.h>'
plant 'a banned function' 'src/num/num.c:7: strcpy() is banned' src/num/num.c 'void f(char *a, char *b) { strcpy(a, b); }'
plant 'a banned function in a macro' 'atoi() is banned' src/num/num.c '#define NUMBER(x) atoi(x)'
plant 'bare malloc outside base' 'malloc() outside base' src/num/num.c 'void *g(void) { return malloc(3); }'
plant 'a cycle of rooms' 'is part of a cycle' tools/rooms.def 'loop        base loop'
plant 'a header that does not stand alone' 'include/assay/status.h:1: does not compile alone' include/assay/status.h 'size_t missing_include(void);'
plant 'a long function' 'src/num/num.c:7: function long_one has 152 lines, 150 is the limit' src/num/num.c \
    "int long_one(int x) {$(awk 'BEGIN { for (i = 0; i < 150; i++) printf "\n    x += %d;", i }')
}"
plant 'a long function with its brace on a line of its own' 'function other has 151 lines' src/num/num.c \
    "int other(int x)
{$(awk 'BEGIN { for (i = 0; i < 149; i++) printf "\n    x += %d;", i }')
}"
plant 'a long file' 'src/num/num.c:1601: file has 1601 lines' src/num/num.c "$(awk 'BEGIN { for (i = 0; i < 1594; i++) print "/* */"; print "int end;" }')"
echo "1..$n"
