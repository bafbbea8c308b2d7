#!/bin/sh
# demo.sh PROGRAM [OUT]: runs the demo study (examples/demo.yaml) and shows what it found. Started again it goes on where it was, or shows the
# finished study at once.
set -u
program=${1:?usage: demo.sh PROGRAM [OUT]} out=${2:-out/demo}
top=$(cd "$(dirname "$0")/.." && pwd); cd "$top" || exit 1
begin=$(date +%s)
"$program" study examples/demo.yaml --out "$out"; code=$?
[ $code -eq 0 ] || { echo "demo: the study ended with exit code $code" >&2; exit $code; }
echo "demo: $(($(date +%s) - begin)) s; everything is in $out (assay.db has every record)"
echo "demo: open $(cd "$out" && pwd)/report.html in a browser"
