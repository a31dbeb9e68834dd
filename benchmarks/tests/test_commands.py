"""The option --operations."""

from argparse import ArgumentTypeError

import pytest

from benchmarks.commands import split_names

KNOWN = ["get one", "list 20", "list 20, ?gender=", "list at 9,980"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("get one", ["get one"]),
        ("get one,list 20", ["get one", "list 20"]),
        ("list at 9,980, get one", ["list at 9,980", "get one"]),
        ("list 20,?gender=,list 20", ["list 20, ?gender=", "list 20"]),
    ],
)
def test_a_name_may_hold_a_comma(text, names):
    assert split_names(text, KNOWN) == names


def test_an_unknown_name_is_refused():
    with pytest.raises(ArgumentTypeError, match="no operation is named 'list at 9'"):
        split_names("get one,list at 9", KNOWN)
