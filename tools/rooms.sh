#!/bin/sh
# rooms.sh list | closure ROOM: the rooms of rooms.def, or a room and all that it may include, transitively.
dir=$(dirname "$0")
awk -v mode="$1" -v want="$2" '
!/^#/ && NF {
    order[++n] = $1
    for (i = 2; i <= NF; i++) { sub(/\(.*/, "", $i); deps[$1] = deps[$1] " " $i }
}
END {
    if (mode == "list") { for (i = 1; i <= n; i++) print order[i]; exit }
    queue[m = 1] = want
    for (i = 1; i <= m; i++) {
        if (seen[queue[i]]++) continue
        print queue[i]
        k = split(deps[queue[i]], a, " ")
        for (j = 1; j <= k; j++) queue[++m] = a[j]
    }
}' "$dir/rooms.def"
