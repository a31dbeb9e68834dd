# The calls of /api/patients/ and /api/transfers/, for scripts/quickstart.sh. Leaves the id of a patient in $patient.

patients_begin() {
    title "Patients"
    call 201 POST /api/patients/ '{"name":"John Smith","age":34,"gender":"M","address":"Bengaluru"}'
    patient="$(field id)"
    call 200 GET "/api/patients/?limit=10&count=true"
    call 200 GET "/api/patients/$patient/"
    call 200 PUT "/api/patients/$patient/" '{"name":"John Smith","birth_date":"1992-03-14","gender":"M","address":"Mysuru"}'
    call 200 PATCH "/api/patients/$patient/" '{"phone":"+91 80 5550 0100"}'
    call 400 POST /api/patients/ '{"name":"","age":-1}'
    call 400 POST /api/patients/ '{"name":"John Smith","date_of_birth":"1992-03-14"}'

    title "Finding"
    call 200 GET "/api/patients/?search=jon%20smyth"
    call 200 GET "/api/patients/?gender=M&age_min=30&ordering=-updated_at&fields=id,name&include=doctors"
    call 200 POST /api/patients/search/ '{"search":"jon smyth"}'
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

    title "Repeated calls, and concurrent changes"
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
}

patients_end() {
    title "What changed in a patient, and who read it"
    call 200 GET "/api/patients/$patient/history/"
    call 200 GET "/api/patients/$patient/access-log/"
    call 200 GET "/api/patients/$patient/audience/"
    call 200 GET "/api/patients/?as_of=$changed_at"
    call 400 POST "/api/patients/$patient/file/" '{"current_password":"wrong"}'

    title "A patient deleted, and restored"
    call 204 DELETE "/api/patients/$patient/"
    call 404 GET "/api/patients/$patient/"
    call 200 GET "/api/patients/?deleted=true"
    call 200 POST "/api/patients/$patient/restore/"

    title "A patient offered to the clinic"
    for settled in withdraw decline accept; do
        call 202 POST "/api/patients/$patient/transfer/" "{\"to\":\"$clinic\"}"
        transfer="$(printf '%s' "$body" | sed 's/^{"id":\([0-9]*\).*/\1/')"
        if [ "$settled" = withdraw ]; then
            call 200 POST "/api/transfers/$transfer/withdraw/"
        else
            call 200 POST "/api/transfers/$transfer/$settled/" "" "X-Acting-For: $clinic"
        fi
    done
    call 200 GET /api/transfers/
    call 404 GET "/api/patients/$patient/"
    call 200 GET "/api/patients/$patient/" "" "X-Acting-For: $clinic"
}
