#!/bin/sh
# A persistent worker for `safepoint run --worker`, in POSIX shell with awk, wc and sha256sum (or shasum).
#
# Each item is the path of a file. The result is its size in bytes, its lines, its words and its SHA-256.
#
#     safepoint run --worker files.txt -- sh examples/workers/worker.sh
#
# Limits, because this is a shell and not a JSON parser:
# - The item is a string. An object, a list or a number is answered with an error.
# - A character of the item written as \uXXXX is answered with an error, and so is a newline (\n): the runner writes
#   other characters as they are, so this concerns only control characters.
# - One item at a time, and some child processes for each. For many small items take another language.
set -u

# Answers go to descriptor 3, which is the real standard output; all other output goes to standard error.
exec 3>&1 1>&2

if command -v sha256sum >/dev/null 2>&1; then
    sha256() { sha256sum; }
else
    sha256() { shasum -a 256; }
fi

answer() { printf '%s\n' "$1" >&3 || exit 1; }

# Print two lines: the item as it is written in the JSON text, and the item with its escapes undone.
# A quote inside a JSON string always has a backslash before it, so `,"item":"` is found only where the field is.
# The text is kept escaped for the answer: what was valid JSON once need not be escaped again.
# shellcheck disable=SC2016
parse_item='
{
    at = match($0, /,"item":"([^"\\]|\\.)*"/)
    if (!at) exit 1
    raw = substr($0, at + 9, RLENGTH - 10)
    text = ""
    rest = raw
    while ((slash = index(rest, "\\")) > 0) {
        c = substr(rest, slash + 1, 1)
        if (c !~ /["\\\/t]/) exit 1
        text = text substr(rest, 1, slash - 1) (c == "t" ? "\t" : c)
        rest = substr(rest, slash + 2)
    }
    print raw
    print text rest
}'

# Usage: work ID LINE
work() {
    if ! parsed=$(printf '%s\n' "$2" | LC_ALL=C awk "$parse_item"); then
        answer "{\"id\":$1,\"error\":\"the item is not a plain string with a path\",\"retry\":false}"
        return
    fi
    raw=${parsed%%"$newline"*}
    path=${parsed#*"$newline"}
    if [ ! -f "$path" ] || [ ! -r "$path" ]; then
        answer "{\"id\":$1,\"error\":\"\`$raw\`: not a readable file\",\"retry\":false}"
        return
    fi
    # The standard input of children is never ours: they would swallow the next items.
    if ! counts=$(wc -l -w -c <"$path") || ! digest=$(sha256 <"$path"); then
        answer "{\"id\":$1,\"error\":\"\`$raw\`: cannot be read\",\"retry\":true,\"retry_after\":2.5}"
        return
    fi
    # shellcheck disable=SC2086  # Split into its three numbers on purpose.
    set -- "$1" $counts
    answer "{\"id\":$1,\"result\":{\"path\":\"$raw\",\"bytes\":$4,\"lines\":$2,\"words\":$3,\"sha256\":\"${digest%% *}\"}}"
}

newline='
'
# The end of input means: stop. The loop has then answered the item it was given last.
while IFS= read -r line; do
    id=${line#'{"id":'}
    id=${id%%,*}
    case $id in
    '' | *[!0-9]*)
        echo "worker.sh: no id at the beginning of: $line" >&2
        exit 1
        ;;
    esac
    work "$id" "$line"
done
