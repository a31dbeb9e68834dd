"""Collects everything that is stored about an account, for its user (GDPR article 15).

A server answers with the whole body at once, so the document is bounded: each list has at most MOST_ROWS rows, and
`shortened` names those that have more. The access log has no index by user, since every read of a patient would pay for
it, so one document scans MOST_SCANNED rows of it at most, and says where the next one goes on.
"""

from collections.abc import Mapping
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q, QuerySet

from accounts.delegations.models import Delegation, DelegationEvent, Notice
from accounts.delegations.named_users import NamedUser
from accounts.invitations.models import Invitation
from accounts.leaving.attempts import attempts_of, own_address_of
from accounts.leaving.file_serializers import AccountFileSerializer
from accounts.leaving.parts import ACCOUNT_PARTS, count_records
from accounts.models import Attempts, LoginSession, User
from accounts.second_factor.models import SecondFactor
from audit.history import attach_previous
from audit.models import AccessLog, UserEvent
from healthcare.api.models import IdempotencyRecord
from healthcare.imports.models import Import

MOST_ROWS = 10_000  # of one list
MOST_ACCESSES_SCANNED = 1_000_000  # rows of the access log, of all users


def write_file(user: User, access_log_before: int | None = None) -> Any:
    """The document about an account, as AccountFileSerializer describes it. Its access log is the part before the entry
    with this id, or else the latest. It reads with the rights of the tables' owner: each query names the user."""
    lists = {**own_lists(user), "history": UserEvent.objects.filter(id=user.pk).with_actor_names().order_by("-pgh_id")}
    delegation_events: Any = DelegationEvent
    lists["delegation_history"] = (
        delegation_events.objects.filter(Q(owner=user) | Q(delegate=user)).with_actor_names().order_by("-pgh_id")
    )
    rows = {name: list(queryset[: MOST_ROWS + 1]) for name, queryset in lists.items()}
    shortened = sorted(name for name, found in rows.items() if len(found) > MOST_ROWS)
    rows = {name: found[:MOST_ROWS] for name, found in rows.items()}
    attach_previous(rows["history"], None)
    attach_previous_of_each(rows["delegation_history"])
    document = {
        **rows,
        "account": user,
        "second_factor": SecondFactor.objects.filter(pk=user.pk).first(),
        "groups": [*user.groups.order_by("name").values_list("name", flat=True)],
        "permissions": permissions_of(user),
        "stored_answers": IdempotencyRecord.objects.filter(user_id=user.pk).count(),
        "records": count_records(user),
        "other": {name: found for part in ACCOUNT_PARTS for name, found in part.file_sections(user, MOST_ROWS).items()},
        "access_log": read_own_accesses(user, access_log_before),
        "shortened": shortened,
    }
    return AccountFileSerializer(document).data


def own_lists(user: User) -> dict[str, QuerySet[Any]]:
    """The rows of this app about the user, by the member of the document, the latest first."""
    sessions = LoginSession.objects.filter(user=user).order_by("-pk")
    delegations = Delegation.objects.with_names().order_by("-pk")
    invitations = Invitation.objects.order_by("-pk")
    about_user = Q(content_type=ContentType.objects.get_for_model(User), object_id=str(user.pk))
    entries = LogEntry.objects.filter(Q(user=user) | about_user).select_related("content_type")
    return {
        "sessions": sessions.exclude(kind=LoginSession.Kind.TOKEN),
        "tokens": sessions.tokens(),
        "login_addresses": user.login_addresses.order_by("-last_login_at"),
        "attempts": Attempts.objects.filter(key__in=attempts_of(user, own_address_of(user))).order_by("kind", "-until"),
        "delegations_given": delegations.filter(owner=user),
        "delegations_received": delegations.filter(delegate=user),
        "notices": Notice.objects.filter(user=user).annotate(by_named=NamedUser("by_id")).order_by("-pk"),
        "imports": Import.objects.filter(Q(created_by=user) | Q(caller=user.pk)).order_by("-pk"),
        "invitations_made": invitations.filter(created_by=user),
        "invitations_used": invitations.filter(used_by=user),
        "invitations_received": invitations.filter(email__lower__in=own_address_of(user)),
        "admin_log": entries.order_by("-pk"),
    }


def permissions_of(user: User) -> list[str]:
    """What the user was given by name, as "app.codename"; what the groups allow is theirs."""
    granted = Permission.objects.filter(user=user).order_by("content_type__app_label", "codename")
    return [".".join(names) for names in granted.values_list("content_type__app_label", "codename")]


def attach_previous_of_each(events: list[Any]) -> None:
    """Give each event, the latest first, the one before it of the same delegation, as `previous`."""
    following: dict[int, Any] = {}
    for event in events:
        event.previous = None
        if event.id in following:
            following[event.id].previous = event
        following[event.id] = event


def read_own_accesses(user: User, before: int | None) -> Mapping[str, Any]:
    """The entries of the access log by this user, and where the part before them begins: see the module. They name
    patients by the ids that the user had read, also patients of other owners, and say nothing else about them."""
    ids = AccessLog.objects.order_by("-id").values_list("id", flat=True)
    end = (ids.first() or 0) + 1
    if before is not None:
        end = min(before, end)
    start = end - MOST_ACCESSES_SCANNED
    part = AccessLog.objects.filter(actor=user.pk, id__lt=end, id__gte=start).order_by("-id")
    entries = list(part[:MOST_ROWS])
    if len(entries) == MOST_ROWS:
        return {"entries": entries, "before": entries[-1].pk}
    return {"entries": entries, "before": start if ids.filter(id__lt=start).exists() else None}
