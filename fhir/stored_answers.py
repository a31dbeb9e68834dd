"""Which stored answers to requests with an Idempotency-Key name a doctor or a user, whom an erasure removes from them.

The body of such an answer is the text of a resource as a string of JSON, so its quotation marks are escaped.
"""

from django.db.models import Q

from fhir.audit_event import USERS


def answers_naming_practitioner(key: int) -> Q:
    """Those with the resource, or with a reference to it, whose `display` may be the name."""
    return Q(body__regex=rf'Practitioner(/|\\",\\"id\\":\\"){key}[^0-9]')


def answers_naming_user(key: int) -> Q:
    """Those with an `identifier` of the user, which the name follows."""
    return Q(body__contains=rf"{USERS}\",\"value\":\"{key}\"")
