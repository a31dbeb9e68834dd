"""The terms of `healthcare.search` as an index: which records may have a word, a number or an e-mail address."""

from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from fhir.search.sql import FEWEST_DIGITS

LAST = "\U0010ffff"  # after every character of a word
MOST_DIGITS = 40  # of a phone number on record


@dataclass(frozen=True)
class TermIndex:
    """The tables of a searchable model, such as `patients.Patient`: see `healthcare.search.index`."""

    label: str
    owned: bool

    def model(self, kind: str = "") -> type[Model]:
        return apps.get_model(f"{self.label}{kind}")

    def owner_id(self, owner: Any) -> int:
        return (owner.pk or 0) if self.owned else 0

    def terms(self, owner: Any) -> QuerySet:
        return self.model("Term")._default_manager.filter(owner=self.owner_id(owner), hidden=False)

    def with_term(self, term: str, owner: Any) -> Q:
        return Q(pk__in=self.terms(owner).filter(term=term).values("record"))

    def with_word(self, word: str, owner: Any, *, anywhere: bool) -> Q:
        """The records that have a word that begins with this one or, `anywhere`, contains it. It looks through the
        words of the owner, which are few beside the terms."""
        words = self.model("Word")._default_manager.filter(owner=self.owner_id(owner))
        words = words.filter(word__contains=word) if anywhere else words.filter(word__gte=word, word__lt=word + LAST)
        return Q(pk__in=self.terms(owner).filter(term__in=words.values("word")).values("record"))

    def with_phone(self, digits: str, owner: Any) -> Q:
        """The records with a number that ends in these digits, which come from the last one, or is their end."""
        ends = [digits[:length] for length in range(FEWEST_DIGITS, min(len(digits), MOST_DIGITS + 1))]
        wanted = Q(term__in=[f"tel:{end}" for end in (*ends, digits)])
        if len(digits) >= FEWEST_DIGITS:
            wanted |= Q(term__gt=f"tel:{digits}", term__lt=f"tel:{digits}:")  # the colon follows the digits
        return Q(pk__in=self.terms(owner).filter(wanted).values("record"))

    @property
    def replaces_others(self) -> Q:
        """Records that others were merged into, whose terms they have too."""
        if not self.owned:
            return Q(pk__in=())
        return Q(Exists(self.model()._default_manager.filter(merged_into=OuterRef("pk"))))
