"""What other apps add to the end of an account and to its file. An app registers an `AccountPart` when it is ready."""

from collections.abc import Mapping
from typing import Any

from accounts.models import User


class AccountPart:
    """Override what the app needs. The methods run with the rights of the tables' owner: `settle` and `count_records`
    in the transaction in which an account ends, `count_records` and `file_sections` when its file is written."""

    # What a user does with the records before the account can end, as a sentence.
    advice = ""

    def settle(self, user: User) -> None:
        """End what is open between this user and others, and is no record: an offer to the user, say. Runs before the
        user's row is locked, since others lock theirs first, and is undone if records are left."""

    def count_records(self, user: User) -> Mapping[str, int]:
        """How many records belong to the user and would belong to nobody who can log in, by kind."""
        return {}

    def file_sections(self, user: User, most: int) -> Mapping[str, list[dict[str, Any]]]:
        """What the app stores about the user, for the document of the account: lists of rows in JSON, by name, each the
        latest first and with at most `most` rows. Without data of patients."""
        return {}


ACCOUNT_PARTS: list[AccountPart] = []


def register_account_part(part: AccountPart) -> None:
    ACCOUNT_PARTS.append(part)


def count_records(user: User) -> dict[str, Any]:
    """How many records belong to the user, by kind; kinds of which there are none are left out."""
    counted = {kind: number for part in ACCOUNT_PARTS for kind, number in part.count_records(user).items()}
    return {kind: number for kind, number in counted.items() if number}


def advice() -> str:
    return " ".join(part.advice for part in ACCOUNT_PARTS if part.advice)
