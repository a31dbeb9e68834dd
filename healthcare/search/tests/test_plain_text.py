"""What Python normalizes is what PostgreSQL makes of it, and PostgreSQL gets the rest."""

import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from healthcare.search.likeness import NameReader, read_asked, read_stored
from healthcare.search.plain_text import asked_words, name_words, phone_digits

SEVERAL = settings(
    max_examples=20, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
NAMES = st.lists(st.text("aBbIiZ  ", max_size=66) | st.text("aI -'é9:x#(", max_size=20), min_size=1, max_size=50)
PHONES = st.lists(st.text("0012 -+/.", max_size=20) | st.text("01 (x#X;٣e\n", max_size=12), min_size=1, max_size=50)


@pytest.mark.django_db
@SEVERAL
@given(names=NAMES)
def test_names_are_read_as_postgresql_reads_them(names: list[str]) -> None:
    reader = NameReader()
    assert reader.reads_plain_names
    assert reader.read_asked(names) == read_asked(names)
    for here, there in zip(reader.read_stored(names), read_stored(names), strict=True):
        assert (here.terms, sorted(here.words)) == (there.terms, sorted(there.words))


@pytest.mark.django_db
@SEVERAL
@given(phones=PHONES)
def test_the_digits_of_phones_are_those_of_postgresql(phones: list[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT search_digits(text) FROM unnest(%s::text[]) WITH ORDINALITY one(text, n) ORDER BY n", [phones]
        )
        for phone, (digits,) in zip(phones, cursor.fetchall(), strict=True):
            assert phone_digits(phone) in {digits, None}


def test_what_takes_more_is_left_to_postgresql() -> None:
    left = ["René", "O'Brien", "Smith-Jones", "R2", "a" * 65, " ".join("abcdefghijklm")]
    assert [name_words(name) for name in left] == [None] * len(left)
    assert (name_words("Bo Ann bo"), asked_words("Bo Ann bo"), asked_words("Ann Bob")) == (
        ["bo", "ann"], ["ann", "bo"], None
    )  # fmt: skip
    phones = ["+91 (0)80 5550", "5550 x12", "5550 #1", "٥٥٥٠", "+91 080-5550"]
    assert [phone_digits(phone) for phone in phones] == [None, None, None, None, "055508019"]


@pytest.mark.django_db
def test_no_name_is_read_here_where_capitals_become_other_letters() -> None:
    reader = NameReader()
    reader.reads_plain_names = False
    assert reader.read_asked(["Ann Smith"]) == read_asked(["Ann Smith"])
    assert reader.read_stored(["Ann Smith"])[0].terms == {"ann", "smith", "ann smith"}
