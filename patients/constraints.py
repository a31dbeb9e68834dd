"""Check constraints on the lists of objects in a patient's row, which hold for every writer."""

from django.db.models import BooleanField, CharField, F, Func, Q, Value
from django.db.models.lookups import Exact


def well_formed(column: str, **patterns: str) -> Q:
    """A list of objects with exactly these members, each a text that matches its pattern."""
    texts = " && ".join(f'@.{member} like_regex "{pattern}" flag "s"' for member, pattern in patterns.items())
    others = " && ".join(f'@.key != "{member}"' for member in patterns)
    is_formed = f'(@.type() == "object" && {texts} && !exists(@.keyvalue() ? ({others})))'
    malformed = f"strict $[*] ? (!{is_formed} || ({is_formed} is unknown))"
    kind = Func(F(column), function="jsonb_typeof", output_field=CharField())
    exists = Func(F(column), Value(malformed), function="jsonb_path_exists", output_field=BooleanField())
    return Q(Exact(kind, Value("array"))) & ~Q(exists)


IDENTIFIERS_WELL_FORMED = well_formed("identifiers", system="^[^|]{1,200}$", value="^.{1,200}$")
CONTACTS_WELL_FORMED = well_formed("contacts", name="^.{1,200}$", relationship="^.{0,100}$", phone="^.{0,40}$")
