# The calls of /api/mappings/, for scripts/quickstart.sh.
need patients
need doctors

mappings_begin() {
    title "Who treats whom"
    call 201 POST /api/mappings/ "{\"patient\":$patient,\"doctor\":$doctor}"
    mapping="$(field id)"
    call 400 POST /api/mappings/ "{\"patient\":$patient,\"doctor\":$doctor}"
    call 200 GET /api/mappings/
    call 200 GET "/api/assignments/$mapping/"
    call 200 GET "/api/mappings/$patient/"
    call 200 GET "/api/patients/$patient/doctors/"
    call 200 GET "/api/doctors/$doctor/patients/"
    call 200 PATCH "/api/mappings/$mapping/" '{"role":"cardiologist","is_primary":true}'
    call 409 DELETE "/api/doctors/$doctor/"
}

mappings_end() {
    title "An assignment ended"
    call 200 GET "/api/mappings/$mapping/history/"
    call 204 DELETE "/api/mappings/$mapping/"
    call 200 GET "/api/mappings/?active=false"
}
