# The calls of /api/auth/, for scripts/quickstart.sh. Leaves the access token in $access, which every later call sends.

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
}

accounts_end() {
    title "Login sessions, and logging out"
    call 200 GET /api/auth/sessions/
    session="$(printf '%s' "$body" | sed 's/.*"id":\([0-9]*\),"current":false.*/\1/')"
    call 204 DELETE "/api/auth/sessions/$session/" '{"current_password":"StrongPass123"}'
    this_access="$access"
    access="$other_access"
    call 401 GET /api/auth/me/
    access="$this_access"
    call 204 POST /api/auth/password/ '{"current_password":"StrongPass123","new_password":"EvenStronger456"}'
    call 204 POST /api/auth/logout/
    call 401 GET /api/auth/me/
}
