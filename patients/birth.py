"""Birth, death and age: what the API, the admin form and the filters accept and how they count.

An age goes stale, so the birth is stored: the date when it is known, else the year that a stated age gives (a FHIR
partial date). With a date, the year repeats the date's year, so that one column finds people by age.

An age stops at death: it is the age on the date of death, and unknown without that date.
"""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import F, FloatField, Func, Q
from django.db.models.functions import Coalesce, ExtractYear
from django.db.models.lookups import GreaterThanOrEqual
from django.utils import timezone

MAXIMUM_AGE = 150  # years
FIRST_TIME_ZONE = datetime.timezone(datetime.timedelta(hours=14))
# The same as `age_of`, as SQL over a patient's columns; `{today}` stands for the day.
AGE_SQL = """(CASE
    WHEN deceased AND deceased_on IS NULL THEN NULL
    WHEN birth_date IS NOT NULL THEN greatest(0, date_part('year', age(coalesce(deceased_on, {today}), birth_date)))
    WHEN birth_year IS NOT NULL THEN greatest(0, date_part('year', coalesce(deceased_on, {today})) - birth_year)
END)::int"""
YEARS_LIVED = Coalesce(
    Func("deceased_on", "birth_date", template="date_part('year', age(%(expressions)s))", output_field=FloatField()),
    ExtractYear("deceased_on") - F("birth_year"),
    output_field=FloatField(),
)


@dataclass
class Life:
    """What is known of a birth and a death, by the names of a patient's fields."""

    birth_date: datetime.date | None = None
    birth_year: int | None = None
    deceased: bool | None = None
    deceased_on: datetime.date | None = None


LIFE_FIELDS = frozenset(field.name for field in fields(Life))


def age_of(life: Any, today: datetime.date) -> int | None:
    """Whole years today or, of the dead, on the date of death; None where that is not known. Takes a patient too."""
    if life.deceased and life.deceased_on is None:
        return None
    return age_on(life.deceased_on or today, life.birth_date, life.birth_year)


def age_on(day: datetime.date, birth_date: datetime.date | None, birth_year: int | None) -> int | None:
    """Whole years lived on that day, never below 0: exact with a date of birth, within one year with a year alone."""
    if birth_date:
        before_birthday = (day.month, day.day) < (birth_date.month, birth_date.day)
        return max(0, day.year - birth_date.year - before_birthday)
    return None if birth_year is None else max(0, day.year - birth_year)


# The dead of whom no date of death is known have no age.
HAS_AGE = Q(birth_year__isnull=False) & ~Q(deceased=True, deceased_on=None)


def at_least_this_old(age: int, today: datetime.date) -> Q:
    """Patients whose age, as `age_of` counts it, is this or higher on that day."""
    year = today.year - age
    try:
        day = today.replace(year=year)
    except ValueError:  # the 29th of February
        day = datetime.date(year, 2, 28)
    old_enough = Q(birth_date__lte=day) | Q(birth_date=None, birth_year__lte=year)
    return (HAS_AGE & Q(deceased_on=None) & old_enough) | (
        Q(deceased_on__isnull=False) & Q(GreaterThanOrEqual(YEARS_LIVED, age))
    )


def latest_local_date() -> datetime.date:
    """Today where the day begins first, in UTC+14: a child may be born there, and it is reported from elsewhere."""
    return timezone.localdate(None, FIRST_TIME_ZONE)


def born_on_or_after(day: datetime.date) -> Q:
    """Patients born then or later. One of whom only the year is known counts if a day of that year would."""
    return Q(birth_date__gte=day) | Q(birth_date=None, birth_year__gte=day.year)


def born_on_or_before(day: datetime.date) -> Q:
    """Patients born then or earlier. One of whom only the year is known counts if a day of that year would."""
    return Q(birth_date__lte=day) | Q(birth_date=None, birth_year__lte=day.year)


def validate_birth_date(date: datetime.date | None) -> None:
    """Raises ValidationError for a day in the future, or too long ago."""
    today = latest_local_date()
    if date and not datetime.date(today.year - MAXIMUM_AGE, 1, 1) <= date <= today:
        raise ValidationError(f"Enter a day of the last {MAXIMUM_AGE} years.", "invalid")


def validate_birth_year(year: int | None) -> None:
    """Raises ValidationError for a year in the future, or too long ago."""
    this_year = latest_local_date().year
    if year is not None and not this_year - MAXIMUM_AGE <= year <= this_year:
        raise ValidationError(f"Enter a year of the last {MAXIMUM_AGE} years.", "invalid")


def validate_death_date(date: datetime.date | None) -> None:
    """Raises ValidationError for a day in the future, or too long ago."""
    validate_birth_date(date)


def resolve_life(stated: Mapping[str, Any], stored: Callable[[], Any]) -> dict[str, Any]:
    """The fields of `Life` to store for what is stated: any of them, and `age`.

    `stored` reads what is on record and is called only when what is stated does not decide. Raises ValidationError
    with the code `contradiction` for statements that contradict each other. A contradiction between what is stated and
    what is stored of the other date violates a constraint of the table.
    """
    life = {name: value for name, value in stated.items() if name in LIFE_FIELDS}
    death = stated.get("deceased_on")
    if death:
        if stated.get("deceased") is False:
            raise contradiction("deceased", "This contradicts the date of death.")
        life["deceased"] = True
    if not stated.keys().isdisjoint({"age", "birth_date", "birth_year"}):
        life["birth_year"] = resolve_birth_year(stated, stored)
    if death and dies_before_birth(death, stated.get("birth_date"), life.get("birth_year")):
        raise contradiction("deceased_on", "This contradicts the birth.")
    return life


def dies_before_birth(death: datetime.date, birth_date: datetime.date | None, birth_year: int | None) -> bool:
    return (birth_date is not None and death < birth_date) or (birth_year is not None and death.year < birth_year)


def resolve_birth_year(stated: Mapping[str, Any], stored: Callable[[], Any]) -> int | None:
    year: int | None
    date = stated["birth_date"] if "birth_date" in stated else stored().birth_date
    if date:
        year = date.year
    elif "birth_year" in stated:
        year = stated["birth_year"]
    elif "age" in stated:
        year = None if stated["age"] is None else day_of_age(stated, stored).year - stated["age"]
    else:  # a date that is taken back takes its year with it
        before = stored()
        year = None if before.birth_date else before.birth_year
    if stated.get("birth_year", year) != year:
        raise contradiction("birth_year")
    if "age" in stated and stated["age"] not in accepted_ages(stated, stored, date, year):
        raise contradiction("age")
    return year


def accepted_ages(
    stated: Mapping[str, Any], stored: Callable[[], Any], date: datetime.date | None, year: int | None
) -> set[int | None]:
    """The age, and of the dead without a date of death None too: then the age is not known."""
    ages = {age_on(day_of_age(stated, stored), date, year)}
    deceased = stated["deceased"] if "deceased" in stated else stored().deceased
    return ages | ({None} if deceased and not death_date(stated, stored) else set())


def day_of_age(stated: Mapping[str, Any], stored: Callable[[], Any]) -> datetime.date:
    """The day on which a stated age is counted."""
    return death_date(stated, stored) or timezone.localdate()


def death_date(stated: Mapping[str, Any], stored: Callable[[], Any]) -> datetime.date | None:
    date: datetime.date | None = stated["deceased_on"] if "deceased_on" in stated else stored().deceased_on
    return date


def contradiction(field: str, detail: str = "This contradicts the date or the year of birth.") -> ValidationError:
    return ValidationError({field: ValidationError(detail, "contradiction")})
