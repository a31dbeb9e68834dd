"""The database's own wall: API requests work as a role that row-level security holds to the caller's rows."""

ROLE = "healthcare_api"
# The caller's id as a policy reads it: a subquery, so that PostgreSQL computes it once a statement; NULL for nobody.
CALLER = "(SELECT nullif(current_setting('app.user_id', true), '')::bigint)"
