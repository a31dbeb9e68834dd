#!/usr/bin/env bash
# Makes every call of this API once, as a new user, and prints each command with its answer. Exits with status 1 at the
# first unexpected status. Needs bash and curl.
#
#   scripts/quickstart.sh [BASE_URL]        default http://127.0.0.1:8000
#
# The calls of an app are in <app>/quickstart.sh, which defines two functions: <app>_begin creates and reads, <app>_end
# deletes. An app whose calls need another app's records says `need <app>` at the top of its file. The _end functions run
# in the reverse order of the _begin functions.
set -euo pipefail

base="${1:-http://127.0.0.1:8000}"
base="${base%/}"
access=""
body=""
etag=""
begun=()
headers="$(mktemp)"
trap 'rm -f "$headers"' EXIT
cd "$(dirname "$0")/.."

# call EXPECTED_STATUS METHOD PATH [JSON [HEADER]...]: sends $access as the token if it is set, and sets $body and $etag
# from the answer.
call() {
    local expected="$1" method="$2" path="$3" json="${4:-}" header printed answer status
    local -a arguments=(--silent --show-error --max-time 30 --request "$method")
    printed="curl --request $method"
    if [ -n "$access" ]; then
        arguments+=(--header "Authorization: Bearer $access")
        printed+=" --header \"Authorization: Bearer \$access\""
    fi
    if [ -n "$json" ]; then
        arguments+=(--header "Content-Type: application/json" --data "$json")
        printed+=" --header 'Content-Type: application/json' --data '$json'"
    fi
    for header in "${@:5}"; do
        arguments+=(--header "$header")
        printed+=" --header '$header'"
    done
    printf "\n$ %s '%s%s'\n" "$printed" "$base" "$path"
    answer="$(curl "${arguments[@]}" --dump-header "$headers" --write-out '\n%{http_code}' "$base$path")" || {
        printf '%s does not answer. Is the server running?\n' "$base" >&2
        exit 1
    }
    etag="$(sed -n 's/^[Ee][Tt]ag: \(".*"\).*/\1/p' "$headers")"
    status="${answer##*$'\n'}"
    body="${answer%$'\n'*}"
    printf '%s %s\n' "$status" "$body"
    if [ "$status" != "$expected" ]; then
        printf 'Expected %s instead of %s.\n' "$expected" "$status" >&2
        exit 1
    fi
}

# field NAME: prints the value of this member of $body.
field() { printf '%s' "$body" | sed "s/.*[{,]\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/"; }

title() { printf '\n== %s\n' "$1"; }

# need APP: runs <app>_begin unless it has run.
need() {
    case " ${begun[*]-} " in *" $1 "*) return 0 ;; esac
    # shellcheck source=/dev/null
    source "$1/quickstart.sh"
    "$1_begin"
    begun+=("$1")
}

need accounts
for calls in */quickstart.sh; do
    app="$(dirname "$calls")"
    if [ "$app" != scripts ]; then need "$app"; fi
done
for ((number = ${#begun[@]} - 1; number >= 0; number--)); do
    "${begun[number]}_end"
done

printf '\nEvery call returned the expected status.\n'
