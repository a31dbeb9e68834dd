"""The generic part of the mapping, with a type of two groups, and JSON whose decimals keep their digits."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from rest_framework.exceptions import ParseError

from fhir.elements import ElementGroup, Elements, Incoming, Reading, ResourceMapping, expression_of
from fhir.exceptions import Invalid
from fhir.json import decode, decode_own, encode, pretty


def read_colours(elements: Elements) -> Reading:
    """The first colour alone has a column."""
    reading = Reading({"colour": ""})
    for place, colour in enumerate(elements.get("colour", [])):
        reading.use("colour", place)
        reading.values["colour"], reading.sources["/colour"] = colour["text"], f"Thing.colour[{place}].text"
        break
    return reading


def read_weight(elements: Elements) -> Reading:
    reading = Reading({"heavy": elements.get("weight") == "heavy"}, {"/heavy": "Thing.weight"})
    reading.use("weight")
    return reading


THING = ResourceMapping(
    "Thing",
    groups=[
        ElementGroup(
            "colour",
            ("colour",),
            lambda row: row.colour,
            read_colours,
            lambda row: {"colour": [{"text": row.colour}]} if row.colour else {},
        ),
        ElementGroup(
            "weight",
            ("weight",),
            lambda row: row.heavy,
            read_weight,
            lambda row: {"weight": "heavy"} if row.heavy else {},
        ),
    ],
    order=["id", "meta", "language", "colour", "weight", "shape"],
)


def thing(**fields: Any) -> Any:
    return SimpleNamespace(**{"colour": "", "heavy": False, **fields})


def test_a_resource_gives_a_value_of_every_field_and_its_source():
    incoming = THING.read({"resourceType": "Thing", "colour": [{"text": "red"}, {"text": "blue"}], "shape": "round"})
    assert incoming == Incoming(
        "Thing",
        {"colour": "red", "heavy": False},
        {"/colour": "Thing.colour[0].text", "/heavy": "Thing.weight"},
    )
    assert [expression_of(incoming, pointer) for pointer in ("/colour", "/colour/0/x", "/other", "")] == [
        "Thing.colour[0].text", "Thing.colour[0].text", "Thing", "Thing",
    ]  # fmt: skip


def test_what_the_columns_give_back_is_not_kept():
    sent = {"resourceType": "Thing", "id": "1", "meta": {"versionId": "1"}, "colour": [{"text": "red"}]}
    assert THING.keep(sent, thing(colour="red")) == ""


def test_what_they_do_not_give_back_is_kept_with_a_digest_of_the_columns():
    sent = {"colour": [{"text": "red"}, {"text": "blue"}], "weight": "heavy", "shape": "round"}
    kept = decode(THING.keep(sent, thing(colour="red", heavy=True)))
    assert kept["elements"] == {"shape": "round", "colour": sent["colour"]}
    assert kept["basis"].keys() == {"colour"}
    assert "red" not in kept["basis"]["colour"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"colour": "red", "heavy": False}, {"colour": ["red", "blue"], "weight": "light", "_weight": {"id": "w"}}),
        ({"colour": "green", "heavy": False}, {"colour": ["green", "blue"], "weight": "light", "_weight": {"id": "w"}}),
        ({"colour": "", "heavy": True}, {"colour": ["blue"], "weight": "heavy"}),
    ],
)
def test_kept_elements_are_given_back_until_their_columns_change(row: Any, expected: Any):
    sent = {
        "colour": [{"text": "red"}, {"text": "blue"}],
        "weight": "light",
        "_weight": {"id": "w"},
        "shape": "round",
    }
    kept = THING.keep(sent, thing(colour="red"))
    found = THING.write(thing(**row), kept)
    found["colour"] = [colour["text"] for colour in found["colour"]]
    assert found == {"shape": "round", **expected}


def test_a_resource_is_in_the_order_of_its_type():
    elements = {
        "unknown": 1,
        "shape": "round",
        "_language": {"id": "l"},
        "language": "en",
        "meta": {"tag": [], "id": "m"},
    }
    assert encode(THING.resource(elements, 5, {"versionId": "2"})) == (
        '{"resourceType":"Thing","id":"5","meta":{"id":"m","versionId":"2","tag":[]},"language":"en",'
        '"_language":{"id":"l"},"shape":"round","unknown":1}'
    )  # fmt: skip


def test_what_is_kept_has_at_most_64_kib_of_utf_8():
    room = 64 * 1024 - len(encode({"elements": {"shape": ""}, "basis": {}}))
    assert len(THING.keep({"shape": "x" * room}, thing()).encode()) == 64 * 1024
    for text in ("x" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(Invalid) as refused:
            THING.keep({"shape": text}, thing())
        assert [(issue.code, issue.expression) for issue in refused.value.issues] == [("too-long", "Thing")]


def test_what_is_nested_as_deeply_as_a_body_may_be_is_kept_and_read():
    nested: Any = "x"
    for _ in range(15):
        nested = [{"extension": nested}]
    body = encode({"shape": nested})
    kept = THING.keep(decode(body), thing())
    assert THING.write(thing(), kept) == {"shape": nested}


@pytest.mark.parametrize("digits", ["1.10", "0.00", "-0.0", "72.50", "1E+400", "1.0E-7", "12345678901234567890.5", "7"])
def test_numbers_keep_their_digits(digits: str):
    text = f'{{"a":{digits}}}'
    assert encode(decode(text)) == text
    assert pretty(text) == f'{{\n  "a": {digits}\n}}'
    assert isinstance(decode(text)["a"], int if digits == "7" else Decimal)


@pytest.mark.parametrize(
    "text",
    [
        "[]", "", "{", '{"a":1,"a":2}', '{"a":NaN}', '{"a":-Infinity}', '{"a":"\\ud800"}', '{"a":"\\u0000"}',
        '{"a":01}', '{"a":1.}', '{"a":"\n"}', '{"a":1e99999999999999999999}', '{"a":' * 33 + "1" + "}" * 33,
        '{"a":' * 100_000, '{"a":1}x', f'{{"a":{"9" * 5_000}}}',
    ],
    ids=range(16),
)  # fmt: skip
def test_json_that_two_parsers_could_read_differently_is_refused(text: str):
    with pytest.raises(ParseError):
        decode(text)


def test_text_is_written_as_it_is():
    value: dict[str, Any] = {"a": 'José 李 "\\/ \u2028', "b": [True, None, {}]}
    assert decode_own(encode(value)) == value
    assert "José 李" in encode(value)


def test_a_decimal_changes_nothing_else_of_the_text() -> None:
    text = "".join(map(chr, [*range(1, 0xD800), *range(0xE000, 0x11000)]))
    of_number = encode({text: [text, None, True], "value": 7})
    assert encode({text: [text, None, True], "value": Decimal("1.10")}) == of_number.replace(":7}", ":1.10}")
