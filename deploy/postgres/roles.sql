-- What a new PostgreSQL needs before the first `manage.py migrate`. A superuser runs it once, with psql:
--
--   psql --set password="$(cat database_password)" --file deploy/postgres/roles.sql
--
-- `healthcare` is the login of the application and of its migrations. It owns the database and is no superuser.
-- `healthcare_api` is the role that API requests take, which row-level security binds; nobody logs in as it.
\set ON_ERROR_STOP on
\if :{?password}
\else
    \set password `cat /run/secrets/database_password`
\endif
SELECT :'password' = '' AS empty \gset
\if :empty
    \warn 'roles.sql: the password is empty.'
    DO $$ BEGIN RAISE 'the password is empty'; END $$;
\endif
CREATE ROLE healthcare LOGIN PASSWORD :'password';
CREATE ROLE healthcare_api NOLOGIN;
GRANT healthcare_api TO healthcare;
CREATE DATABASE healthcare OWNER healthcare ENCODING 'UTF8' TEMPLATE template0;
