#!/usr/bin/env bash
# Makes every call of this API once, as a user of its own, and shows each command with its answer. Stops with status 1 at
# the first answer that is not the expected one. Needs bash and curl alone.
#
#   scripts/quickstart.sh [BASE_URL]        default http://127.0.0.1:8000
set -euo pipefail

base="${1:-http://127.0.0.1:8000}"
base="${base%/}"
user="asha-$(date +%s)-$$-$RANDOM"
access=""
body=""
etag=""
headers="$(mktemp)"
trap 'rm -f "$headers"' EXIT

# call EXPECTED_STATUS METHOD PATH [JSON [HEADER]...]: sends the access token once there is one; leaves the answer in
# $body and its entity tag in $etag.
call() {
    local expected="$1" method="$2" path="$3" json="${4:-}" header shown answer status
    local -a arguments=(--silent --show-error --max-time 30 --request "$method")
    shown="curl --request $method"
    if [ -n "$access" ]; then
        arguments+=(--header "Authorization: Bearer $access")
        shown+=" --header \"Authorization: Bearer \$access\""
    fi
    if [ -n "$json" ]; then
        arguments+=(--header "Content-Type: application/json" --data "$json")
        shown+=" --header 'Content-Type: application/json' --data '$json'"
    fi
    for header in "${@:5}"; do
        arguments+=(--header "$header")
        shown+=" --header '$header'"
    done
    printf "\n$ %s '%s%s'\n" "$shown" "$base" "$path"
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

# field NAME: the value of that name in the last answer.
field() { printf '%s' "$body" | sed "s/.*[{,]\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/"; }

title() { printf '\n== %s\n' "$1"; }

title "An account and its tokens"
call 201 POST /api/auth/register/ "{\"name\":\"Asha Nair\",\"email\":\"$user@example.org\",\"username\":\"$user\",\"password\":\"StrongPass123\"}"
call 401 POST /api/auth/login/ "{\"username\":\"$user\",\"password\":\"not the password\"}"
call 200 POST /api/auth/login/ "{\"username\":\"$user@example.org\",\"password\":\"StrongPass123\"}"
other_access="$(field access)"
call 200 POST /api/auth/login/ "{\"username\":\"$user\",\"password\":\"StrongPass123\"}"
refresh="$(field refresh)"
call 200 POST /api/auth/refresh/ "{\"refresh\":\"$refresh\"}"
access="$(field access)"
call 200 GET /api/auth/me/
call 200 PATCH /api/auth/me/ '{"name":"Asha R. Nair"}'

title "Patients"
call 201 POST /api/patients/ '{"name":"John Smith","age":34,"gender":"M","address":"Bengaluru"}'
patient="$(field id)"
call 200 GET "/api/patients/?limit=10&count=true"
call 200 GET "/api/patients/$patient/"
call 200 PUT "/api/patients/$patient/" '{"name":"John Smith","birth_date":"1992-03-14","gender":"M","address":"Mysuru"}'
call 200 PATCH "/api/patients/$patient/" '{"phone":"+91 80 5550 0100"}'
call 400 POST /api/patients/ '{"name":"","age":-1}'

title "Finding"
call 200 GET "/api/patients/?search=jon%20smyth"
call 200 GET "/api/patients/?gender=M&age_min=30&ordering=-updated_at&fields=id,name&include=doctors"
call 400 GET "/api/patients/?gendre=M"
call 200 GET "/api/patients/$patient/duplicates/"
call 409 POST "/api/patients/?on_duplicate=reject" '{"name":"Smith, John","birth_date":"1992-03-14"}'

title "Two records of one person"
call 201 POST /api/patients/ '{"name":"J. Smith","identifier":"MRN 17"}'
duplicate="$(field id)"
call 200 POST "/api/patients/$patient/merge/" "{\"duplicate\":$duplicate}"
call 410 GET "/api/patients/$duplicate/"
call 200 POST "/api/patients/$patient/unmerge/" "{\"duplicate\":$duplicate}"
call 204 DELETE "/api/patients/$duplicate/"

title "Sent again, and changed meanwhile"
key="Idempotency-Key: $user"
call 201 POST /api/patients/ '{"name":"Mary Smith"}' "$key"
call 201 POST /api/patients/ '{"name":"Mary Smith"}' "$key"
call 422 POST /api/patients/ '{"name":"Another"}' "$key"
call 200 GET "/api/patients/$patient/"
read_etag="$etag"
call 200 PATCH "/api/patients/$patient/" '{"address":"Hubballi"}' "If-Match: $read_etag" "X-Change-Reason: has moved"
changed_at="$(field updated_at)"
call 304 GET "/api/patients/$patient/" "" "If-None-Match: $etag"
call 412 PATCH "/api/patients/$patient/" '{"address":"Delhi"}' "If-Match: $read_etag"

title "Doctors"
call 201 POST /api/doctors/ '{"name":"Dr. Meera Rao","specialization":"Cardiology","experience_years":12}'
doctor="$(field id)"
call 200 GET "/api/doctors/?limit=10"
call 200 GET "/api/doctors/$doctor/"
call 200 PUT "/api/doctors/$doctor/" '{"name":"Dr. Meera Rao","specialization":"Cardiology","hospital":"City Hospital"}'
call 200 PATCH "/api/doctors/$doctor/" '{"experience_years":13}'

title "Who treats whom"
call 201 POST /api/mappings/ "{\"patient\":$patient,\"doctor\":$doctor}"
mapping="$(field id)"
call 400 POST /api/mappings/ "{\"patient\":$patient,\"doctor\":$doctor}"
call 200 GET /api/mappings/
call 200 GET "/api/mappings/$patient/"
call 200 GET "/api/patients/$patient/doctors/"
call 200 GET "/api/doctors/$doctor/patients/"
call 200 PATCH "/api/mappings/$mapping/" '{"role":"cardiologist","is_primary":true}'
call 409 DELETE "/api/doctors/$doctor/"

title "What changed, and who read it"
call 200 GET "/api/patients/$patient/history/"
call 200 GET "/api/patients/$patient/access-log/"
call 200 GET "/api/doctors/$doctor/history/"
call 200 GET "/api/mappings/$mapping/history/"
call 200 GET "/api/patients/?as_of=$changed_at"

title "Deleted, and brought back"
call 204 DELETE "/api/mappings/$mapping/"
call 200 GET "/api/mappings/?active=false"
call 204 DELETE "/api/doctors/$doctor/"
call 204 DELETE "/api/patients/$patient/"
call 404 GET "/api/patients/$patient/"
call 200 GET "/api/patients/?deleted=true"
call 200 POST "/api/patients/$patient/restore/"
call 200 POST "/api/doctors/$doctor/restore/"

title "Login sessions, and the way out"
call 200 GET /api/auth/sessions/
session="$(printf '%s' "$body" | sed 's/.*"id":\([0-9]*\),"current":false.*/\1/')"
call 204 DELETE "/api/auth/sessions/$session/"
this_access="$access"
access="$other_access"
call 401 GET /api/auth/me/
access="$this_access"
call 204 POST /api/auth/password/ '{"current_password":"StrongPass123","new_password":"EvenStronger456"}'
call 204 POST /api/auth/logout/
call 401 GET /api/auth/me/

printf '\nEvery call answered as it should.\n'
