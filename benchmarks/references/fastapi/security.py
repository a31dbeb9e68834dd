import os
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.references.fastapi.database import User, get_session

KEY = os.environ["JWT_SIGNING_KEY"]
hasher = PasswordHasher()

DatabaseSession = Annotated[AsyncSession, Depends(get_session)]


async def get_current_user(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())], session: DatabaseSession
) -> User:
    try:
        claims = jwt.decode(
            credentials.credentials, KEY, algorithms=["HS256"], audience="healthcare-api", issuer="healthcare"
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401) from error
    user = await session.get(User, int(claims["user_id"]))
    if user is None or not user.is_active:
        raise HTTPException(401)
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]


def verify(password: str, encoded: str) -> bool:
    try:
        return hasher.verify(encoded.removeprefix("argon2"), password)
    except VerifyMismatchError:
        return False


def token(user: User, kind: str, lifetime: timedelta) -> str:
    claims: dict[str, Any] = {
        "token_type": kind, "user_id": str(user.id), "iss": "healthcare", "aud": "healthcare-api",
        "exp": datetime.now(UTC) + lifetime,
    }  # fmt: skip
    return jwt.encode(claims, KEY, algorithm="HS256")
