"""The references that have the product's guarantees."""

import json

import pytest
from django.db import connection

from benchmarks import servers
from benchmarks.references import statements


@pytest.mark.django_db
@pytest.mark.parametrize("name", statements.CALLS)
def test_postgresql_accepts_the_statements_of_a_call(name):
    call = statements.CALLS[name]
    with connection.cursor() as cursor:
        for statement in (call.entry, call.answer.replace(statements.LIMIT, "20")):
            text, _ = statements.numbered(statement)
            cursor.execute(f"PREPARE reference AS {text.replace('%', '%%')}")
            cursor.execute("DEALLOCATE reference")


def test_a_parameter_that_is_used_twice_has_one_number():
    assert statements.numbered("SELECT %(b)s, %(a)s, %(b)s") == ("SELECT $1, $2, $1", ["b", "a"])


def test_the_calls_are_written_as_json_for_the_other_languages(tmp_path):
    path = tmp_path / "statements.json"
    statements.write_json(path)
    calls = json.loads(path.read_text(encoding="utf-8"))["calls"]
    assert calls.keys() == statements.CALLS.keys()
    assert calls["get_patient"]["entry"][1] == ["request", "session", "user"]
    assert calls["get_patient"]["answer"][1] == ["id", "request"]


def test_a_reference_whose_toolchain_is_missing_is_left_out_with_a_message(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert [one.name for one in servers.choose_servers(["floor", "fastify", "go"])] == ["floor"]
    assert capsys.readouterr().err == (
        "Without fastify: install Node.js 20 or newer, with npm.\n"
        "Without go: apt-get install golang-go golang-github-jackc-pgx-v4-dev.\n"
    )
