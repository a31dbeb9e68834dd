"""The values of R4's primitive types."""

from decimal import Decimal
from typing import Any

import pytest

from fhir.structure import check_structure
from fhir.tests.structures import issues_of, with_extension

VALID: dict[str, list[Any]] = {
    "Base64Binary": ["QQ==", "QUJD", " QU\nJD "],
    "Boolean": [True, False],
    "Canonical": ["http://example.org/a|1", "#a"],
    "Code": ["a", "a b", "é-1"],
    "Date": ["0001", "2020", "2020-12", "2020-02-29", "9999-12-31"],
    "DateTime": [
        "2020",
        "2020-12",
        "2020-02-29",
        "2016-12-31T23:59:60Z",
        "2020-01-01T00:00:00.123456789+14:00",
        "2020-01-01T23:59:59-00:30",
    ],
    "Decimal": [0, -7, Decimal("0.10"), Decimal("1E-7"), Decimal("-0.0"), 10**40],
    "Id": ["a", "A-1.b", "a" * 64],
    "Instant": ["2020-02-29T10:00:00Z", "2020-02-29T10:00:00.5-05:00"],
    "Integer": [0, -(2**31), 2**31 - 1],
    "Markdown": ["# a\n\n* b", " a "],
    "Oid": ["urn:oid:1.2.840.0"],
    "PositiveInt": [1, 2**31 - 1],
    "String": ["a", " a ", "a\tb\r\n", "\u00a0a", "न"],
    "Time": ["00:00:00", "23:59:60.5"],
    "UnsignedInt": [0, 2**31 - 1],
    "Uri": ["urn:oid:1.2", "http://example.org/a b".replace(" ", "%20"), "a", "http://example.org/é"],
    "Url": ["http://example.org", "mailto:a@example.org"],
    "Uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
}
INVALID: dict[str, list[Any]] = {
    "Base64Binary": ["QQ", "QQ=", "Q===", "QQ==QQ==", "Q_==", " ", 1],
    "Boolean": ["true", 1, 0],
    "Canonical": ["a b", 1],
    "Code": [" a", "a ", "a  b", "a\tb", "a\nb", 1],
    "Date": [
        "0000",
        "20",
        "2020-13",
        "2020-00",
        "2020-1",
        "2021-02-29",
        "2020-02-30",
        "2020-04-31",
        "2020-02-29T10:00:00Z",
        "2020-01-01\n",
        "２０２０",
        2020,
    ],
    "DateTime": [
        "2020-02-29T10:00:00",
        "2020-02-29T10:00Z",
        "2020-02-29T24:00:00Z",
        "2020-02-29T10:00:61Z",
        "2020-02-30T10:00:00Z",
        "2020-02-29T10:00:00+14:01",
        "2020-02-29T10:00:00+0530",
        "2020-02-29 10:00:00Z",
        "2020-02-29T10:00:00.Z",
        2020,
    ],
    "Decimal": ["1.0", True, 1.5],
    "Id": ["a_b", "a" * 65, "a b", "a\n", 1],
    "Instant": ["2020", "2020-02-29", "2020-02-29T10:00:00", "2021-02-29T10:00:00Z", 1],
    "Integer": [Decimal("1.0"), 2**31, -(2**31) - 1, True, "1"],
    "Markdown": [" \n ", 1],
    "Oid": ["1.2.3", "urn:oid:3.1", "urn:oid:1", "urn:oid:1.02", 1],
    "PositiveInt": [0, -1, 2**31, Decimal("1E+1"), True],
    "String": [" ", "\n\t", "\u00a0", "a\x0b", "a\f", 1, True],
    "Time": ["24:00:00", "10:00", "10:00:00Z", 10],
    "UnsignedInt": [-1, 2**31, False],
    "Uri": ["a b", " a", "a\n", 1],
    "Url": ["http://example.org/a b", 1],
    "Uuid": ["urn:uuid:C757873D-EC9A-4326-A141-556F43239520", "c757873d-ec9a-4326-a141-556f43239520", 1],
}
VALUES = [(type_name, value) for type_name, values in VALID.items() for value in values]
WRONG_VALUES = [(type_name, value) for type_name, values in INVALID.items() for value in values]


@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_values_of_primitive_types_are_valid(type_name: str, value: Any):
    assert check_structure("Patient", with_extension(**{f"value{type_name}": value})) == []


@pytest.mark.parametrize(("type_name", "value"), WRONG_VALUES)
def test_other_values_of_primitive_types_are_not(type_name: str, value: Any):
    [issue] = check_structure("Patient", with_extension(**{f"value{type_name}": value}))
    assert issue.expression == "Patient.extension[0].value"
    assert issue.code in ("structure", "value")


def test_a_value_of_another_json_type_is_a_fault_of_structure():
    assert issues_of(active="yes", birthDate=1990) == [
        "structure Patient.active",
        "structure Patient.birthDate",
    ]
    assert issues_of(birthDate="1990-02-30") == ["value Patient.birthDate"]
