#!/bin/sh
# embed.sh OUT FILE...: writes a C header with each file as a byte array `asset_NAME` and its size `asset_NAME_size`.
set -e
out=$1; shift
: > "$out.tmp"
for f in "$@"; do
    n=$(basename "$f" | tr -c 'A-Za-z0-9\n' '_')
    { printf 'static const unsigned char asset_%s[] = {\n' "$n"; od -An -v -tu1 "$f" | sed 's/  */,/g; s/^,//; s/$/,/'; printf '0};\nstatic const unsigned long asset_%s_size = %s;\n' "$n" "$(wc -c < "$f")"; } >> "$out.tmp"
done
mv "$out.tmp" "$out"
