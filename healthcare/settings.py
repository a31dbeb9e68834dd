"""Settings of the project. Every variable is documented in .env.example and parsed strictly by `env_settings`."""

import hashlib
import hmac
import tomllib
from datetime import timedelta
from pathlib import Path

import pghistory
from corsheaders.defaults import default_headers
from dotenv import load_dotenv

from healthcare import env_settings

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION: str = tomllib.loads((BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
load_dotenv(BASE_DIR / ".env")

LOG_FORMAT = env_settings.choice("LOG_FORMAT", "text", {"text", "json"})

DEBUG = env_settings.boolean("DEBUG", default=False)
DATABASES = {"default": env_settings.database("DATABASE_URL"), **env_settings.replica("DATABASE_REPLICA_URL")}
SECRET_KEY, GENERATED_KEY_FILE = env_settings.secret_key("SECRET_KEY", debug=DEBUG, database=DATABASES["default"])
ALLOWED_HOSTS = env_settings.hosts("ALLOWED_HOSTS", named=not DEBUG)
THROTTLE_SCALE = env_settings.whole("THROTTLE_SCALE", 1, least=1, most=1_000_000)
RATE_LIMIT = env_settings.whole("RATE_LIMIT", 6000, least=0, most=1_000_000)  # requests a minute; 0: no limit
TRUSTED_PROXIES = env_settings.whole("TRUSTED_PROXIES", 0, least=0, most=10)
HTTPS = env_settings.boolean("HTTPS", default=not DEBUG)

INSTALLED_APPS = [
    "healthcare.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.forms",  # its templates of widgets, for FORM_RENDERER
    "corsheaders",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "pgtrigger",
    "pghistory",
    "healthcare.apps.HealthcareConfig",
    "healthcare.rls.apps.RowLevelSecurityConfig",
    "healthcare.staff_roles.apps.StaffRolesConfig",
    "healthcare.api.apps.APIConfig",
    "healthcare.search.apps.SearchConfig",
    "healthcare.replicas.apps.ReplicasConfig",
    "healthcare.fastpath.apps.FastPathConfig",
    "healthcare.exports.apps.ExportsConfig",
    "healthcare.imports.apps.ImportsConfig",
    "healthcare.operations.apps.OperationsConfig",
    "accounts",
    "audit",
    "patients",
    "doctors",
    "mappings",
    "fhir",
]

# An API request meets the first five and the last two; the others step aside for it.
MIDDLEWARE = [
    "healthcare.api.middleware.RequestMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "healthcare.api.middleware.CorsMiddleware",
    "accounts.request_limit.RequestLimitMiddleware",
    "healthcare.api.middleware.CommonMiddleware",
    "healthcare.api.middleware.WhiteNoiseMiddleware",
    "healthcare.api.middleware.SessionMiddleware",
    "healthcare.api.middleware.CsrfViewMiddleware",
    "healthcare.api.middleware.AuthenticationMiddleware",
    "healthcare.api.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "audit.middleware.AuditMiddleware",
]

# The single-statement implementation of the actions that opt into it (see healthcare/fastpath): `on`, `off`, or
# `verify`, which answers reads by Django REST framework and logs a warning where the fast path would differ.
FAST_PATH = env_settings.choice("FAST_PATH", "on", {"on", "off", "verify"})
# Plans statements once a database session (SQL PREPARE). `off` behind PgBouncer in transaction mode.
DB_PREPARED_STATEMENTS = env_settings.choice("DB_PREPARED_STATEMENTS", "on", {"on", "off"}) == "on"

# Who adds, changes, deletes and restores doctors, beside staff: see doctors/permissions.py.
DIRECTORY_EDITORS = env_settings.choice("DIRECTORY_EDITORS", "anyone", {"anyone", "creator", "staff"})

# Who registers: anyone, who has an invitation (see accounts/invitations), or nobody.
REGISTRATION = env_settings.choice("REGISTRATION", "open", {"open", "invite", "closed"})

# Who founds clinics: see accounts/delegations.
CLINICS = env_settings.choice("CLINICS", "anyone", {"anyone", "staff"})

# Where e-mails of notices and links are handed in: see accounts/mail.py.
MAIL_SERVER = env_settings.mail_server("EMAIL_URL", debug=DEBUG)
EMAIL_CONFIGURED, EMAIL_BACKEND = MAIL_SERVER.is_configured, MAIL_SERVER.backend
EMAIL_HOST, EMAIL_PORT = MAIL_SERVER.host, MAIL_SERVER.port
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = MAIL_SERVER.user, MAIL_SERVER.password
EMAIL_USE_TLS, EMAIL_USE_SSL = MAIL_SERVER.starttls, MAIL_SERVER.tls
EMAIL_TIMEOUT = 10  # seconds
DEFAULT_FROM_EMAIL = env_settings.sender("EMAIL_FROM", needed=bool(MAIL_SERVER.host))
# The front end whose pages the links in e-mails open, without a slash at the end. Empty: e-mails hold no links.
PUBLIC_URL = env_settings.public_url("PUBLIC_URL", debug=DEBUG)
# How long links in e-mails work, and what they mean: see accounts/email_links.
PASSWORD_RESET_LIFETIME = timedelta(minutes=env_settings.whole("PASSWORD_RESET_MINUTES", 60, least=5, most=24 * 60))
EMAIL_VERIFY_LIFETIME = timedelta(hours=env_settings.whole("EMAIL_VERIFY_HOURS", 72, least=1, most=24 * 30))
PASSWORD_RESET_TIMEOUT = int(max(PASSWORD_RESET_LIFETIME, EMAIL_VERIFY_LIFETIME).total_seconds())  # Django's, for both
PASSWORD_RESET_ENDS_TOKENS = env_settings.boolean("PASSWORD_RESET_ENDS_TOKENS", default=False)
REQUIRE_VERIFIED_EMAIL = env_settings.verified_email("REQUIRE_VERIFIED_EMAIL", configured=EMAIL_CONFIGURED)

# Where `manage.py serve` tells those who operate it how it fares: /metrics, /healthz and /readyz. Empty: nowhere.
METRICS = env_settings.listen_address("METRICS")

ROOT_URLCONF = "healthcare.urls"
WSGI_APPLICATION = "healthcare.wsgi.application"
TEST_RUNNER = "healthcare.test_runner.PytestRunner"
# A redirect would turn `curl -L -X POST /api/patients` into a GET and lose the body with a 200.
APPEND_SLASH = False
LARGEST_FILE = 20 * 1024 * 1024  # bytes of a body, where a view accepts files
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # bytes; a patient is under 10 KiB
BODY_SECONDS = env_settings.whole("BODY_SECONDS", 15, least=1, most=600)  # for a body to arrive; then 408
# Requests that wait in each worker while others run; further ones are answered 503. None waits longer than a second.
QUEUE_LENGTH = env_settings.whole("QUEUE_LENGTH", 64, least=1, most=10_000)
# How long a server goes on answering after SIGTERM, so that load balancers notice.
DRAIN_SECONDS = env_settings.whole("DRAIN_SECONDS", 5, least=0, most=600)
# A POST to one of these hashes a password, which takes as much CPU as hundreds of other requests: few run at once.
PASSWORD_PATHS = frozenset(
    {
        "/api/auth/login/",
        "/api/auth/register/",
        "/api/auth/password/",
        "/api/auth/password/reset/confirm/",
        "/api/auth/email/",
        "/api/auth/otp/",
        "/api/auth/tokens/",
        "/admin/login/",
        "/admin/password_change/",
        "/admin/second_factor/",
    }
)

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "healthcare" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

FORM_RENDERER = "django.forms.renderers.TemplatesSetting"  # healthcare/templates replaces templates of widgets, too
CSRF_FAILURE_VIEW = "healthcare.admin.error_pages.csrf_failure"

# Free space on the disk of the embedded database below which /readyz is 503.
DISK_FREE_MIB = env_settings.whole("DISK_FREE_MIB", 128, least=0, most=1_000_000)
# Seconds by which the clocks of this machine and of the database server may differ: see healthcare/operations/clock.py.
CLOCK_DIFFERENCE_SECONDS = env_settings.whole("CLOCK_DIFFERENCE_SECONDS", 60, least=0, most=100_000)
# How long a statement of a web request may run, a statement wait for a lock, and a transaction wait for its next
# statement, before PostgreSQL ends it and the request is answered by 503.
API_STATEMENT_TIMEOUT, API_LOCK_TIMEOUT, API_IDLE_TIMEOUT = "10s", "2s", "30s"
API_ANSWER_TIMEOUT = 12  # seconds that PostgreSQL may take to answer: it enforces no timeout while it is frozen
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

PGHISTORY_FOREIGN_KEY_FIELD = pghistory.ForeignKey(db_index=False)  # the events' own indexes serve their lists

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.UsernameOrEmailBackend"]
SILENCED_SYSTEM_CHECKS = [
    "auth.W004",  # usernames are unique on their lower case by a constraint, which the check does not recognise
    "security.W005",  # HSTS_SUBDOMAINS is the operator's decision
    "security.W021",  # and so is HSTS_PRELOAD
    "security.W003",  # healthcare.api.middleware runs Django's CsrfViewMiddleware outside the API
]
PASSWORD_HASHERS = ["accounts.hashers.Argon2idHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ["username", "name", "email"]},
    },
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
    {"NAME": "accounts.passwords.ContextWordValidator"},
    {"NAME": "accounts.passwords.ClinicValidator"},
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.SessionJWTAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["healthcare.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "healthcare.api.parsers.OnlyJSON",
    "DEFAULT_PAGINATION_CLASS": "healthcare.api.pagination.KeysetPagination",
    "DEFAULT_SCHEMA_CLASS": "healthcare.api.schema.ProblemAutoSchema",
    "EXCEPTION_HANDLER": "healthcare.api.errors.exception_handler",
    "NUM_PROXIES": TRUSTED_PROXIES,
    "URL_FORMAT_OVERRIDE": None,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}

SESSION_LIFETIME = timedelta(hours=env_settings.whole("SESSION_HOURS", 168, least=1, most=24 * 90))
# A session that no request has used for so long ends.
SESSION_IDLE_TIME = timedelta(hours=env_settings.whole("SESSION_IDLE_HOURS", 72, least=1, most=24 * 90))
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=env_settings.whole("ACCESS_TOKEN_MINUTES", 15, least=1, most=24 * 60)),
    "REFRESH_TOKEN_LIFETIME": SESSION_LIFETIME,
    # A key of its own: a leaked token key must not sign admin cookies. Derived when none is given (RFC 2104).
    "SIGNING_KEY": env_settings.key("JWT_SIGNING_KEY")
    or hmac.digest(SECRET_KEY.encode(), b"healthcare.jwt", hashlib.sha256).hex(),
    "ALGORITHM": "HS256",
    "ISSUER": "healthcare",
    "AUDIENCE": "healthcare-api",
    "UPDATE_LAST_LOGIN": False,
    "AUTH_TOKEN_CLASSES": ["accounts.tokens.AccessToken"],
}

# Encrypts the secrets of second factors: from a key of its own, else from SECRET_KEY. OTP_KEY may later be set to an
# earlier SECRET_KEY, which gives the same key, so that another SECRET_KEY leaves the second factors working.
OTP_KEY = hmac.digest((env_settings.key("OTP_KEY") or SECRET_KEY).encode(), b"healthcare.otp", hashlib.sha512)
# Whether staff need a second factor in the admin; who has one needs it anyway. See accounts/admin_second_factor.py.
ADMIN_OTP = env_settings.choice("ADMIN_OTP", "optional", {"optional", "required"})
AUDIT_SEAL_KEY = env_settings.key(
    "AUDIT_SEAL_KEY"
)  # stored apart from the database, so that its superuser cannot forge seals
# What `manage.py tidy` removes, so long after it expired. Less would change answers: see `accounts.retention`.
RETENTION_LOGIN_SESSIONS = env_settings.days("RETENTION_LOGIN_SESSIONS_DAYS", 30, least=0)
RETENTION_ADMIN_SESSIONS = env_settings.days("RETENTION_ADMIN_SESSIONS_DAYS", 0, least=0)
RETENTION_ATTEMPTS = env_settings.days("RETENTION_ATTEMPTS_DAYS", 1, least=1)
RETENTION_LOGIN_ADDRESSES = env_settings.days("RETENTION_LOGIN_ADDRESSES_DAYS", 90, least=90)
RETENTION_NOTICES = env_settings.days("RETENTION_NOTICES_DAYS", 30, least=0)
RETENTION_INVITATIONS = env_settings.days("RETENTION_INVITATIONS_DAYS", 30, least=0)
RETENTION_IDEMPOTENCY_RECORDS = env_settings.days("RETENTION_IDEMPOTENCY_RECORDS_DAYS", 0, least=0)
# What `manage.py retention_due` lists.
RETENTION_PATIENTS_YEARS = env_settings.whole("RETENTION_PATIENTS_YEARS", 10, least=1, most=200)
RETENTION_AUDIT_MONTHS = env_settings.whole("RETENTION_AUDIT_MONTHS", 12, least=1, most=2400)
CORS_ALLOWED_ORIGINS = env_settings.origins("CORS_ALLOWED_ORIGINS")
CORS_ALLOW_HEADERS = [
    *default_headers, "if-match", "if-none-match", "idempotency-key", "prefer", "x-acting-for", "x-change-reason",
]  # fmt: skip
CORS_EXPOSE_HEADERS = [
    "Link", "X-Total-Count", "X-Request-Id", "Retry-After", "ETag", "Idempotency-Replayed", "Preference-Applied",
    "Location", "Content-Location", "X-Progress", "RateLimit", "RateLimit-Policy", "X-Acting-For",
]  # fmt: skip
CSRF_TRUSTED_ORIGINS = env_settings.origins("CSRF_TRUSTED_ORIGINS")

SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
# Both bind domains beside this server's, for a year, so they are the operator's decision.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env_settings.boolean("HSTS_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = env_settings.hsts_preload("HSTS_PRELOAD", subdomains=SECURE_HSTS_INCLUDE_SUBDOMAINS)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
# A browser takes a __Host- cookie only from this host over HTTPS, so that no subdomain can set it.
SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = (
    ("__Host-sessionid", "__Host-csrftoken") if HTTPS else ("sessionid", "csrftoken")
)
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # no third cookie
SESSION_COOKIE_AGE = 8 * 60 * 60  # seconds: a working day in the admin
# A session of the admin that no request has used for so long ends.
ADMIN_IDLE_TIME = timedelta(minutes=env_settings.whole("ADMIN_IDLE_MINUTES", 60, least=1, most=8 * 60))
X_FRAME_OPTIONS = "DENY"

LANGUAGE_CODE = "en-us"
# Decides what day it is, for ages above all, and the times that the admin shows. The API writes times in UTC.
TIME_ZONE = env_settings.time_zone("TIME_ZONE")
USE_TZ = True
FORMAT_MODULE_PATH = ["healthcare.formats"]  # a time is shown with its zone
STATIC_URL = "static/"
# Static files come from the packages, so that no collectstatic is needed before the first start.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "unknown_host": {"()": "healthcare.operations.logs.UnknownHostFilter"},
        "exception_text": {"()": "healthcare.operations.logs.ExceptionTextFilter"},
    },
    "formatters": {
        "text": {"()": "healthcare.operations.logs.SafeFormatter"},
        "json": {"()": "healthcare.operations.logs.JSONFormatter"},
    },
    "handlers": {"console": {"class": "healthcare.operations.logs.SafeHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        # These write paths and exceptions; `healthcare.access` writes the route's template instead.
        "django.request": {"level": "CRITICAL"},
        "django.security": {"level": "CRITICAL"},
        "django.security.DisallowedHost": {"level": "ERROR", "filters": ["unknown_host"]},
        "asyncio": {"filters": ["exception_text"]},
        "django.server": {"handlers": [], "level": "CRITICAL", "propagate": False},
    },
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Healthcare API",
    "DESCRIPTION": (
        "Patients, doctors, and who treats whom. Register, log in, and send the `access` token as "
        "`Authorization: Bearer <token>`. Lists are plain arrays, newest first; the next page is in the `Link` header. "
        "Errors are RFC 9457 problems. What is not yours reads like what is not there: 404. "
        "What HTML forms send is accepted too: a number or a boolean as text, and an empty text for null."
    ),
    "VERSION": VERSION,
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "CONTACT": {"name": "The operators of this server"},
    "SERVERS": [{"url": "/", "description": "The server that this description comes from."}],
    "OAS_VERSION": "3.1.1",
    "TAGS": [
        {"name": "auth", "description": "Accounts, tokens and login sessions."},
        {"name": "patients", "description": "Patients, each of one owner: yours, or those of whom you act for."},
        {"name": "doctors", "description": "The public directory of doctors."},
        {"name": "mappings", "description": "Who treats whom."},
        {"name": "clinics", "description": "Owners of records whom nobody logs in to; their delegates act for them."},
        {"name": "delegations", "description": "Who may act for whom, in which role, and until when."},
        {"name": "notices", "description": "What others have done that concerns you."},
        {
            "name": "transfers",
            "description": "Offers of patients from one owner to another, and their states.",
        },
        {"name": "imports", "description": "What imports of files have created, and undoing it."},
    ],
    "PREPROCESSING_HOOKS": ["healthcare.api.routing.split_by_method"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "healthcare.api.search_by_post.describe_bodies",
        "healthcare.exports.schema.describe_exports",
        "healthcare.api.schema.define_tags",
        "healthcare.api.schema.state_defaults",
        "healthcare.imports.schema.describe_imports",
        "healthcare.api.schema.remove_unused_schemas",
    ],
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": r"/api/",
    "PATH_CONVERTER_OVERRIDES": {"int": {"type": "integer", "format": "int64", "minimum": 1}},
    "ENUM_NAME_OVERRIDES": {
        "Gender": "patients.models.Gender",
        "DelegateRole": "accounts.delegations.models.DelegateRole",
    },
}
