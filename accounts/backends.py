"""Authentication by username or e-mail and password, used by the API's login and the admin's."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password
from django.http import HttpRequest

from accounts.email_links.rules import EmailUnverified
from accounts.hashing_limit import hashing_slot
from accounts.limits import LoginAttempt
from accounts.models import User
from accounts.passwords import spellings
from accounts.second_factor.models import confirmed_factor
from accounts.second_factor.rules import CodeCheck, OtpRequired, check_code


class UsernameOrEmailBackend(ModelBackend):
    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        otp: str | None = None,
        *,
        verified_email: bool = False,
        **kwargs: Any,
    ) -> User | None:
        """The active user, or None after the same work whatever was wrong about the username and the password.

        `otp` is a code of the user's second factor. Raises OtpRequired (401) without a right one if the user has a
        second factor, EmailUnverified (401) with `verified_email` on if the user has none, RateLimited (429) during a
        back-off, and Busy (503) if too many passwords are being hashed.
        """
        if request is None or not username or password is None:
            return None
        with hashing_slot():
            return self.check_credentials(request, username, password, otp, verified_email=verified_email)

    def check_credentials(
        self, request: HttpRequest, username: str, password: str, otp: str | None, *, verified_email: bool
    ) -> User | None:
        user = User.objects.find_with_factor(username)
        attempt = LoginAttempt.begin(request, username, user)
        if user is None:
            for spelling in spellings(password):  # takes as long as checking a wrong password
                make_password(spelling)
        elif user.check_password(password) and user.is_active:
            self.check_second_factor(request, attempt, user, otp)
            if verified_email and not user.has_verified_email:
                attempt.take_back()  # nothing was wrong, so it does not count
                raise EmailUnverified
            attempt.succeed()
            return user
        attempt.fail()
        return None

    @staticmethod
    def check_second_factor(request: HttpRequest, attempt: LoginAttempt, user: User, otp: str | None) -> None:
        """Raises OtpRequired (401). A wrong code counts as a wrong password does; none is asked for without counting,
        and leaves the failures that were counted before."""
        check = check_code(request, confirmed_factor(user), otp)
        # For the session of the admin, see `accounts.admin_second_factor`.
        request.passed_second_factor = check is CodeCheck.ACCEPTED  # type: ignore[attr-defined]
        if check is CodeCheck.MISSING:
            attempt.take_back()
        elif check is CodeCheck.WRONG:
            attempt.fail()
        if not check.passed:
            raise OtpRequired

    def get_user(self, user_id: int) -> User | None:
        """The active user of a session of the admin, with the second factor, but for its secret."""
        users = User.objects.select_related("second_factor").defer("second_factor__encrypted_secret")
        return users.filter(pk=user_id, is_active=True).first()
