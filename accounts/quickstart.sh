# The calls of /api/auth/, /api/clinics/, /api/delegations/ and /api/notices/, for scripts/quickstart.sh. Leaves the access
# token in $access, which every later call sends, a clinic that the user manages in $clinic (its username), and the username and
# the access token of a colleague in $colleague and $colleague_access.

accounts_begin() {
    title "An account and its tokens"
    user="asha-$(date +%s)-$$-$RANDOM"
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
    call 200 GET /api/auth/me/file/
    found_clinic
}

found_clinic() {
    local own_access="$access"
    title "A clinic, and a colleague who works for it"
    access=""
    colleague="ben-${user#asha-}"
    call 201 POST /api/auth/register/ "{\"name\":\"Ben Otieno\",\"email\":\"$colleague@example.org\",\"username\":\"$colleague\",\"password\":\"StrongPass123\"}"
    call 403 POST /api/auth/login/ "{\"username\":\"$colleague\",\"password\":\"StrongPass123\",\"acting_for\":\"$user\"}"
    call 200 POST /api/auth/login/ "{\"username\":\"$colleague\",\"password\":\"StrongPass123\"}"
    colleague_access="$(field access)"
    access="$own_access"
    clinic="sunrise-${user#asha-}"
    call 201 POST /api/clinics/ "{\"name\":\"Sunrise\",\"username\":\"$clinic\"}"
    clinic_id="$(field id)"
    call 200 GET /api/clinics/
    call 200 GET "/api/clinics/$clinic_id/"
    call 200 PATCH "/api/clinics/$clinic_id/" '{"name":"Sunrise Clinic"}'
    call 201 POST /api/delegations/ "{\"delegate\":\"$colleague\",\"role\":\"read\"}" "X-Acting-For: $clinic"
    delegation="$(printf '%s' "$body" | sed 's/^{"id":\([0-9]*\).*/\1/')"
    call 400 POST /api/delegations/ "{\"delegate\":\"$colleague\",\"role\":\"read\"}" "X-Acting-For: $clinic"
    call 200 GET "/api/delegations/?direction=given" "" "X-Acting-For: $clinic"
    call 200 GET "/api/delegations/$delegation/" "" "X-Acting-For: $clinic"
    access="$colleague_access"
    call 200 GET /api/patients/ "" "X-Acting-For: $clinic"
    call 403 POST /api/patients/ '{"name":"John Smith"}' "X-Acting-For: $clinic"
    call 200 GET /api/notices/
    notice="$(printf '%s' "$body" | sed 's/^\[{"id":\([0-9]*\).*/\1/')"
    call 204 DELETE "/api/notices/$notice/"
    access="$own_access"
    call 200 PATCH "/api/delegations/$delegation/" '{"role":"manage"}' "X-Acting-For: $clinic"
}

accounts_end() {
    title "A delegation ended"
    call 204 DELETE "/api/delegations/$delegation/" "" "X-Acting-For: $clinic"

    title "A personal access token, for a script"
    this_access="$access"
    call 201 POST /api/auth/tokens/ '{"name":"Nightly export","scope":"read","current_password":"StrongPass123"}'
    token="$(field id)"
    access="$(field token)"
    call 200 GET /api/patients/
    call 403 POST /api/patients/ '{"name":"John Smith"}'
    access="$this_access"
    call 200 GET /api/auth/tokens/
    call 200 GET "/api/auth/tokens/$token/"
    call 204 DELETE "/api/auth/tokens/$token/"

    title "Login sessions, and logging out"
    call 200 GET /api/auth/sessions/
    session="$(printf '%s' "$body" | sed 's/.*"id":\([0-9]*\),"current":false.*/\1/')"
    call 204 DELETE "/api/auth/sessions/$session/" '{"current_password":"StrongPass123"}'
    this_access="$access"
    access="$other_access"
    call 401 GET /api/auth/me/
    access="$this_access"
    call 204 POST /api/auth/password/ '{"current_password":"StrongPass123","new_password":"EvenStronger456"}'
    call 409 DELETE /api/auth/me/ '{"current_password":"EvenStronger456"}'
    call 204 POST /api/auth/logout/
    call 401 GET /api/auth/me/
}
