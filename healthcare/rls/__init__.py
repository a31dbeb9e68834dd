"""Row-level security: API requests run as a role whose policies admit the caller's rows alone."""

ROLE = "healthcare_api"
# The caller's id in a policy, NULL for an anonymous caller. PostgreSQL evaluates a subquery once a statement.
CALLER_ID_SQL = "(SELECT nullif(current_setting('app.user_id', true), '')::bigint)"
