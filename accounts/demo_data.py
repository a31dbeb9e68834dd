"""The accounts of `manage.py demo`: clinicians who own patients, a clinic for which three of them act, and a member of
staff for each role."""

import datetime
import json
import secrets
from dataclasses import dataclass
from functools import cached_property

from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.db.models import Model
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.delegations.models import Delegation
from accounts.limits import attempts_key
from accounts.models import Attempts, LoginSession, User
from audit.models import Basis
from healthcare.api.acting_for import role_suffices
from healthcare.demo.parts import Demo, DemoPart
from healthcare.demo.past import Past, column_values, insert, next_ids

DOMAIN = "demo.example.org"  # no other account has an e-mail there

USER_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/604.1",
    "curl/8.15.0",
)


@dataclass(frozen=True)
class DemoUser:
    username: str
    name: str
    role: str = ""  # a group of staff
    is_superuser: bool = False


CLINICIANS = [
    DemoUser("demo-asha", "Asha Nair"),
    DemoUser("demo-yusuf", "Yusuf Haddad"),
    DemoUser("demo-marta", "Marta Kowalska"),
    DemoUser("demo-kenji", "Kenji Tanaka"),
    DemoUser("demo-lucia", "Lucía Romero"),
]
CLINIC = DemoUser("demo-clinic", "Sunrise Clinic")
DELEGATES = {"demo-asha": "manage", "demo-yusuf": "write", "demo-marta": "read"}  # each with the role at the clinic
STAFF = [
    DemoUser("demo-admin", "Ingrid Solberg", is_superuser=True),
    DemoUser("demo-front", "Tom Okafor", "Front desk"),
    DemoUser("demo-clinical", "Elena Petrova", "Clinical staff"),
    DemoUser("demo-records", "Ravi Menon", "Records"),
    DemoUser("demo-auditor", "Claire Dubois", "Auditor"),
    DemoUser("demo-support", "Daniel Cohen", "Support"),
]


class Accounts(DemoPart):
    def __init__(self, demo: Demo) -> None:
        super().__init__(demo)
        self.users: dict[str, User] = {}
        self.passwords: dict[str, str] = {}

    @cached_property
    def clinicians(self) -> list[User]:
        return [self.users[account.username] for account in CLINICIANS]

    @cached_property
    def owners(self) -> list[User]:
        """The owners of patients, from those who own many to those who own few."""
        first, *others = self.clinicians
        return [first, self.users[CLINIC.username], *others]

    def actor_for(self, owner_id: int, role: str) -> tuple[int, Basis]:
        """The id of a user who does what takes this role with the owner's records, and on which basis."""
        if owner_id != self.users[CLINIC.username].pk:
            return owner_id, Basis.OWNER
        suitable = [username for username, given in DELEGATES.items() if role_suffices(given, role)]
        return self.users[self.random.choice(suitable)].pk, Basis.DELEGATE

    def staff(self, *roles: str) -> list[User]:
        """The members of staff with these roles."""
        return [self.users[account.username] for account in STAFF if account.role in roles]

    def is_present(self) -> bool:
        return User.objects.filter(email__endswith=f"@{DOMAIN}").exists()

    def tables(self) -> list[type[Model]]:
        return [User, Delegation]

    def begin(self) -> None:
        accounts = [*STAFF, *CLINICIANS, CLINIC]
        names = [account.username for account in accounts]
        taken = User.objects.annotate(lower=Lower("username")).filter(lower__in=names).first()
        if taken:
            raise CommandError(f"There is an account {taken.username} that this command did not add; rename it.")
        keys = next_ids(User, len(accounts))
        pasts = [self.past(account, key) for account, key in zip(accounts, keys, strict=True)]
        self.demo.pasts.write(pasts)
        self.users = {user.username: user for user in User.objects.filter(pk__in=keys)}
        for account in STAFF:
            self.users[account.username].groups.set(Group.objects.filter(name=account.role))
        self.add_delegations()
        self.add_sessions()
        self.add_refused_logins()

    def past(self, account: DemoUser, key: int) -> Past:
        is_clinic = account == CLINIC
        user = User(
            id=key,
            username=account.username,
            name=account.name,
            email=None if is_clinic else f"{account.username.removeprefix('demo-')}@{DOMAIN}",
            is_staff=account in STAFF,
            is_superuser=account.is_superuser,
            is_clinic=is_clinic,
        )
        if is_clinic:
            user.set_unusable_password()
        else:
            self.passwords[account.username] = new_password(user)
            user.set_password(self.passwords[account.username])
        user.clean_fields(exclude={"email"} if is_clinic else None)
        context = {"login": "demo", "application": "manage.py demo"}
        return Past(user, self.demo.start, context)

    def add_delegations(self) -> None:
        """By the first manager, who has founded the clinic."""
        clinic, [manager, *_] = self.users[CLINIC.username], DELEGATES
        context = self.demo.context(self.random, self.users[manager].pk)
        self.demo.pasts.write(
            Past(Delegation(id=key, owner=clinic, delegate=self.users[username], role=role), self.demo.start, context)
            for key, (username, role) in zip(next_ids(Delegation, len(DELEGATES)), DELEGATES.items(), strict=True)
        )

    def add_sessions(self) -> None:
        """Of the clinicians, one of each in use. No token of any of them exists."""
        sessions = []
        for clinician in self.clinicians:
            for days, is_revoked in ((self.random.randint(1, 20), True), (0, False)):
                last_used_at = self.demo.now - datetime.timedelta(days=days, hours=self.random.random())
                session = LoginSession(
                    user=clinician,
                    token_id=secrets.token_hex(16),
                    user_agent=self.random.choice(USER_AGENTS),
                    address=f"192.0.2.{self.random.randint(1, 254)}",  # RFC 5737
                    created_at=last_used_at - datetime.timedelta(hours=1),
                    rotated_at=last_used_at,
                    last_used_at=last_used_at,
                    expires_at=last_used_at + settings.SESSION_LIFETIME,
                    revoked_at=last_used_at if is_revoked else None,
                )
                sessions.append(session)
        sessions.sort(key=lambda session: session.created_at)
        keys = next_ids(LoginSession, len(sessions))
        insert(LoginSession, [column_values(one) | {"id": key} for one, key in zip(sessions, keys, strict=True)])

    def add_refused_logins(self) -> None:
        """Of today, and of accounts that do not exist, so that nobody has to wait."""
        since = timezone.localtime(self.demo.now).replace(hour=0, minute=0, second=0, microsecond=0)
        Attempts.objects.bulk_create(
            Attempts(
                key=attempts_key("pair", secrets.token_hex()),
                kind=Attempts.Kind.PAIR,
                count=self.random.choice([1, 1, 1, 2, 3, 5]),
                until=since + self.random.random() * (self.demo.now - since),
            )
            for _ in range(9)
        )

    def describe(self) -> str:
        first = CLINICIANS[0].username
        body = json.dumps({"username": first, "password": self.passwords[first]})
        lines = ["Log in to the API as (each owns patients):"]
        lines += [self.login(account) for account in CLINICIANS]
        delegates = ", ".join(f"{username} ({role})" for username, role in DELEGATES.items())
        lines += [f"Nobody logs in to the clinic {CLINIC.username}. These act for it: {delegates}."]
        lines += ["Log in to the admin, http://127.0.0.1:8000/admin/, as:"]
        lines += [self.login(account) for account in STAFF]
        lines += [
            "The passwords are random and printed only now. `manage.py changepassword USERNAME` sets another one.",
            "",
            "Next, while `manage.py serve` runs:",
            "",
            "TOKEN=$(curl -s http://127.0.0.1:8000/api/auth/login/ -H 'Content-Type: application/json' \\",
            rf"""  -d '{body}' | sed 's/.*"access":"\([^"]*\)".*/\1/')""",
        ]
        return "\n".join(lines)

    def login(self, account: DemoUser) -> str:
        role = "superuser" if account.is_superuser else account.role
        return f"  {account.username:<14} {self.passwords[account.username]}  {role}".rstrip()


def new_password(user: User) -> str:
    """A random password that the validators accept."""
    while True:
        password = secrets.token_urlsafe(12)
        try:
            validate_password(password, user)
        except ValidationError:
            continue
        return password
