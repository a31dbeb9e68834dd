"""A login with our guarantees: failures counted before the password is looked at, one session, two tokens."""

import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

COUNT = """
INSERT INTO accounts_attempts AS a (key, count, until) VALUES (%({key})s, 1, now())
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN a.until < now() - interval '15 minutes' THEN 1 ELSE a.count + 1 END,
    until = now() + interval '1 second' * CASE
        WHEN a.until < now() - interval '15 minutes' OR a.count + 1 < 1000000 THEN 0
        ELSE least(2 ^ least(a.count + 1 - 1000000, 20), 900) END
WHERE a.count < 1000000 OR a.until <= now();
"""
BEGIN = f"""{COUNT.format(key="address")} {COUNT.format(key="pair")} {COUNT.format(key="account")}
SELECT id, password FROM accounts_user WHERE (lower(username) = %(name)s OR lower(email) = %(name)s) AND is_active
"""
START = """
UPDATE accounts_attempts SET count = greatest(count - 1, 0), until = least(until, now()) WHERE key = %(address)s;
DELETE FROM accounts_attempts WHERE key = %(pair)s;
UPDATE accounts_attempts SET count = greatest(count - 1, 0), until = least(until, now()) WHERE key = %(account)s;
INSERT INTO accounts_loginaddress (user_id, network, last_login_at)
SELECT id, %(from)s, now() FROM accounts_user WHERE id = %(user)s
ON CONFLICT (user_id, network) DO UPDATE SET last_login_at = now()
WHERE accounts_loginaddress.last_login_at < now() - interval '1 hour';
INSERT INTO accounts_loginsession (user_id, token_id, previous_token_id, user_agent, address, created_at, rotated_at,
    last_used_at, expires_at)
SELECT id, %(token_id)s, '', %(agent)s, %(from)s, now(), now(), now(), now() + interval '168 hours'
FROM (SELECT id FROM accounts_user WHERE id = %(user)s AND password = %(password)s AND is_active FOR NO KEY UPDATE) u
RETURNING id
"""
hasher = PasswordHasher()


def log_in(environ: dict[str, Any], key: str, ask: Callable[[str, dict[str, Any]], Any]) -> bytes | None:
    """The tokens as JSON; None when the name or the password is wrong."""
    given = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    name, address = given["username"].lower(), environ["REMOTE_ADDR"]
    counted = {kind: hmac.digest(key.encode(), f"{kind}:{whom}".encode(), "sha256").hex() for kind, whom in (
        ("address", address), ("pair", f"{address} {name}"), ("account", name))}  # fmt: skip
    found = ask(BEGIN, {**counted, "name": name})
    if not found or not verified(found[1], given["password"]):
        return None
    token_id = uuid4().hex
    session = ask(START, {
        **counted, "token_id": token_id, "agent": environ.get("HTTP_USER_AGENT", "")[:200], "from": address,
        "user": found[0], "password": found[1],
    })  # fmt: skip
    return json.dumps(pair(key, found[0], session[0], token_id)).encode() if session else None


def verified(encoded: str, password: str) -> bool:
    try:
        return hasher.verify(encoded.removeprefix("argon2"), password)
    except VerificationError:
        return False


def pair(key: str, user: int, session: int, token_id: str) -> dict[str, str]:
    now = int(time.time())
    common = {"iat": now, "user_id": str(user), "sid": session, "aud": "healthcare-api", "iss": "healthcare"}
    access = common | {"token_type": "access", "exp": now + 900, "jti": uuid4().hex}
    refresh = common | {"token_type": "refresh", "exp": now + 168 * 3600, "jti": token_id}
    return {"access": jwt.encode(access, key), "refresh": jwt.encode(refresh, key)}
