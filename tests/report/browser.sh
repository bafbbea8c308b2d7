#!/bin/sh
# browser.sh: the HTML report in a real browser: headless Chromium, 390 and 1280 pixels, light and dark, of eight variants and of
# twenty-two. Checks that the page runs
# its script without an error on the console, asks the network for nothing, never scrolls sideways as a whole, and draws something in
# each theme. Screenshots stay in $BUILD/browser for looking at.
set -u
: "${BUILD:=build/release}"
out=$BUILD/browser; mkdir -p "$out"
page=$out/report.html
n=0
ok() { n=$((n + 1)); if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; shift 2; [ $# -eq 0 ] || echo "# $*"; fi; }

"$BUILD/tests/report/test_report" --html "$page"; ok $? "the synthetic report is written"
"$BUILD/tests/report/test_report" --html-many "$out/many.html"; ok $? "one of twenty-two variants is written"

chrome=
for c in chromium chromium-browser google-chrome; do command -v "$c" >/dev/null 2>&1 && { chrome=$c; break; }; done
if [ -z "$chrome" ]; then
    echo "ok $((n + 1)) - report in a browser # SKIP no chromium here: the HTML was not opened in a browser"
    exit 0
fi
place=file://$(cd "$out" && pwd)
url=$place/report.html
profile=$(mktemp -d) || exit 1
trap 'rm -rf "$profile"' EXIT

# browse NAME WIDTH THEME: dumps the DOM after scripts ran; console and network logs beside it.
browse() {
    timeout 120 "$chrome" --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-background-networking \
        --user-data-dir="$profile" --window-size="$2,1600" --enable-logging=stderr --v=0 --log-net-log="$out/$1.net.json" \
        --dump-dom "$url#theme=$3" > "$out/$1.dom" 2> "$out/$1.log"
}
shot() {
    timeout 120 "$chrome" --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --user-data-dir="$profile" \
        --window-size="$2,$4" --screenshot="$out/$1.png" "$url#theme=$3" > /dev/null 2>&1
}

# A study of every method: nothing may spill over the page, and the matrix keeps its heading in view.
for width in 390 1280; do
    url=$place/many.html
    name=many-$width
    browse "$name" "$width" light; ok $? "$name: the browser finishes"
    head -c 4000 "$out/$name.dom" | tr '\n' ' ' > "$out/$name.head"
    over=$(sed -n 's/.*<html[^>]*data-overflow="\([-0-9]*\)".*/\1/p' "$out/$name.head")
    [ "${over:-999}" -le 0 ]; ok $? "$name: nothing scrolls sideways" "overflow ${over:-not reported} pixels"
    ! grep -q 'CONSOLE' "$out/$name.log"; ok $? "$name: nothing on the console" "$(grep CONSOLE "$out/$name.log" | head -n 2)"
    grep -q '<div class="scroll tall"[^>]*><table class="matrix">' "$out/$name.dom"; ok $? "$name: the matrix scrolls under its heading"
    shot "$name" "$width" light 3200
    size=$(wc -c < "$out/$name.png" 2>/dev/null || echo 0)
    [ "$size" -gt 40000 ]; ok $? "$name: the screenshot is not empty" "$size bytes"
done
url=$place/report.html

for width in 390 1280; do
    for theme in light dark; do
        name=$theme-$width
        browse "$name" "$width" "$theme"; ok $? "$name: the browser finishes"
        head -c 4000 "$out/$name.dom" | tr '\n' ' ' > "$out/$name.head"
        grep -q '<html[^>]*data-ready="yes"' "$out/$name.head"; ok $? "$name: the script ran to its end"
        grep -q "<html[^>]*data-theme=\"$theme\"" "$out/$name.head"; ok $? "$name: the theme is the asked one"
        over=$(sed -n 's/.*<html[^>]*data-overflow="\([-0-9]*\)".*/\1/p' "$out/$name.head")
        [ "${over:-999}" -le 0 ]; ok $? "$name: nothing scrolls sideways" "overflow ${over:-not reported} pixels"
        ! grep -q 'CONSOLE' "$out/$name.log"; ok $? "$name: nothing on the console" "$(grep CONSOLE "$out/$name.log" | head -n 2)"
        # the browser has requests of its own (updates, time), which have no origin; a request of the page has one, "null" for a file's
        [ "$(sed -n 's/.*<html[^>]*data-requests="\([0-9]*\)".*/\1/p' "$out/$name.head")" = 0 ]; ok $? "$name: the page asked for nothing"
        ! grep -o '"initiator":"[^"]*"' "$out/$name.net.json" | grep -v '"not an origin"' | grep -q .
        ok $? "$name: no network request of the page's"
        grep -q 'alert(' "$out/$name.dom" && ! grep -q '<img' "$out/$name.dom"; ok $? "$name: hostile outputs are text"
        shot "$name" "$width" "$theme" 1600
        size=$(wc -c < "$out/$name.png" 2>/dev/null || echo 0)
        [ "$size" -gt 40000 ]; ok $? "$name: the screenshot is not empty" "$size bytes"
    done
done
cmp -s "$out/light-1280.png" "$out/dark-1280.png"; [ $? -ne 0 ]; ok $? "light and dark differ"
timeout 120 "$chrome" --headless --no-sandbox --disable-gpu --user-data-dir="$profile" --print-to-pdf="$out/report.pdf" "$url" > /dev/null 2>&1
[ "$(head -c 4 "$out/report.pdf" 2>/dev/null)" = "%PDF" ]; ok $? "the page prints"
echo "1..$n"
