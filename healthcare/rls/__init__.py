"""Row-level security: API requests run as a role whose policies admit the rows of one owner alone."""

ROLE = "healthcare_api"
# The caller's id in a policy, NULL for an anonymous caller. PostgreSQL evaluates a subquery once a statement.
CALLER_ID_SQL = "(SELECT nullif(current_setting('app.user_id', true), '')::bigint)"
# The id of the owner whose records the request works on: the caller, unless a request acts for another owner, which
# takes a caller and a role; NULL without them. A server of the last release sets the caller alone.
OWNER_ID_SQL = (
    "(SELECT CASE WHEN coalesce(nullif(current_setting('app.owner_id', true), ''), "
    "current_setting('app.user_id', true)) = current_setting('app.user_id', true) "
    "THEN nullif(current_setting('app.user_id', true), '')::bigint "
    "WHEN current_setting('app.user_id', true) <> '' "
    "AND current_setting('app.owner_role', true) IN ('read', 'write', 'manage') "
    "THEN current_setting('app.owner_id', true)::bigint END)"
)
# What the caller may do with the owner's records: 'manage' with their own, else the role of the delegation.
RECORD_ROLE_SQL = (
    "(SELECT CASE WHEN coalesce(nullif(current_setting('app.owner_id', true), ''), "
    "current_setting('app.user_id', true)) = current_setting('app.user_id', true) THEN 'manage' "
    "ELSE coalesce(current_setting('app.owner_role', true), '') END)"
)
