# The calls of /api/doctors/, for scripts/quickstart.sh. Leaves the id of a doctor in $doctor.

doctors_begin() {
    title "Doctors"
    call 201 POST /api/doctors/ '{"name":"Dr. Meera Rao","specialization":"Cardiology","experience_years":12}'
    doctor="$(field id)"
    call 200 GET "/api/doctors/?limit=10"
    call 200 GET "/api/doctors/$doctor/"
    call 200 PUT "/api/doctors/$doctor/" '{"name":"Dr. Meera Rao","specialization":"Cardiology","hospital":"City Hospital"}'
    call 200 PATCH "/api/doctors/$doctor/" '{"experience_years":13}'
}

doctors_end() {
    title "A doctor deleted, and restored"
    call 200 GET "/api/doctors/$doctor/history/"
    call 204 DELETE "/api/doctors/$doctor/"
    call 200 POST "/api/doctors/$doctor/restore/"
}
