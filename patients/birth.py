"""Birth and age: what the API, the admin form and the filters accept and how they count.

An age goes stale, so the birth is stored: the date when it is known, else the year that a stated age gives (a FHIR
partial date). With a date, the year repeats the date's year, so that one column finds people by age.
"""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone

MAXIMUM_AGE = 150  # years
# The same as `age_on`, as SQL over a patient's columns; `{today}` stands for the day.
AGE_SQL = """(CASE
    WHEN birth_date IS NOT NULL THEN greatest(0, date_part('year', age({today}, birth_date)))
    WHEN birth_year IS NOT NULL THEN greatest(0, date_part('year', {today}) - birth_year)
END)::int"""


class Birth(NamedTuple):
    date: datetime.date | None = None
    year: int | None = None


def age_on(day: datetime.date, birth_date: datetime.date | None, birth_year: int | None) -> int | None:
    """Whole years lived on that day, never below 0: exact with a date of birth, within one year with a year alone."""
    if birth_date:
        before_birthday = (day.month, day.day) < (birth_date.month, birth_date.day)
        return max(0, day.year - birth_date.year - before_birthday)
    return None if birth_year is None else max(0, day.year - birth_year)


def at_least_this_old(age: int) -> Q:
    """Patients whose age today, as `age_on` counts it, is this or higher."""
    today = timezone.localdate()
    year = today.year - age
    try:
        day = today.replace(year=year)
    except ValueError:  # the 29th of February
        day = datetime.date(year, 2, 28)
    return Q(birth_date__lte=day) | Q(birth_date=None, birth_year__lte=year)


def validate_birth_date(date: datetime.date | None) -> None:
    """Raises ValidationError for a day in the future, or too long ago."""
    today = timezone.localdate()
    if date and not datetime.date(today.year - MAXIMUM_AGE, 1, 1) <= date <= today:
        raise ValidationError(f"Enter a day of the last {MAXIMUM_AGE} years.", "invalid")


def validate_birth_year(year: int | None) -> None:
    """Raises ValidationError for a year in the future, or too long ago."""
    this_year = timezone.localdate().year
    if year is not None and not this_year - MAXIMUM_AGE <= year <= this_year:
        raise ValidationError(f"Enter a year of the last {MAXIMUM_AGE} years.", "invalid")


def resolve_birth_year(stated: Mapping[str, Any], stored: Callable[[], Birth]) -> int | None:
    """The year of birth to store for what is stated: any of `age`, `birth_date` and `birth_year`.

    `stored` reads the birth on record and is called only when what is stated does not decide. Raises ValidationError
    with the code `contradiction` for an age or a year that disagrees with the date or the year of birth.
    """
    today = timezone.localdate()
    date = stated["birth_date"] if "birth_date" in stated else stored().date
    if date:
        year = date.year
    elif "birth_year" in stated:
        year = stated["birth_year"]
    elif "age" in stated:
        year = None if stated["age"] is None else today.year - stated["age"]
    else:  # a date that is taken back takes its year with it
        before = stored()
        year = None if before.date else before.year
    if stated.get("birth_year", year) != year:
        raise contradiction("birth_year")
    if "age" in stated and stated["age"] != age_on(today, date, year):
        raise contradiction("age")
    return year


def contradiction(field: str) -> ValidationError:
    return ValidationError({field: ValidationError("This contradicts the date or the year of birth.", "contradiction")})
