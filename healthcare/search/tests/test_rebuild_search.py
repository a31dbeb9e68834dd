"""rebuild_search repairs every term and word while the API writes."""

import os
import subprocess
import sys
import threading
from contextlib import closing

import psycopg2
import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.search.index import INDEXES
from healthcare.search.tests.test_search import names
from healthcare.search.triggers import fragments
from healthcare.tests.live import own_database, serving, url_of
from patients.models import Patient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.slow

TERMS, WORDS = apps.get_model("patients.PatientTerm"), apps.get_model("patients.PatientWord")
SIMILARITY = "Search finds names by similarity."


@pytest.mark.django_db(transaction=True)
def test_missing_terms_are_added_and_stale_ones_removed(
    as_alice: LoggedInClient, alice: User, capsys: pytest.CaptureFixture[str]
) -> None:
    patient = make_patient(alice, name="Asha Nair")
    make_doctor(alice, name="Meera Rao")
    TERMS.objects.all().delete()
    TERMS.objects.create(owner=alice.pk, hidden=False, term="stale", record=patient.pk)
    TERMS.objects.create(owner=alice.pk, hidden=False, term="orphan", record=patient.pk + 1)
    WORDS.objects.create(owner=alice.pk, word="stale")
    assert names(as_alice, "asha") == []
    call_command("rebuild_search")
    assert capsys.readouterr().out.splitlines() == [
        "patients_patient: 1 records.",
        "patients_patientword: 1 words removed.",
        "doctors_doctor: 1 records.",
        SIMILARITY,
    ]
    assert names(as_alice, "ashha") == ["Asha Nair"]
    assert names(as_alice, "meera", "/api/doctors/") == ["Meera Rao"]
    assert set(TERMS.objects.values_list("term", flat=True)) == {"asha", "nair", "asha nair"}
    assert set(WORDS.objects.values_list("word", flat=True)) == {"asha", "nair"}


@pytest.mark.django_db(transaction=True)
def test_merged_records_keep_their_terms(as_alice: LoggedInClient, alice: User) -> None:
    survivor, duplicate = make_patient(alice, name="Asha"), make_patient(alice, name="Zebulon")
    as_alice.post(f"/api/patients/{survivor.pk}/merge/", {"duplicate": duplicate.pk})
    before = set(TERMS.objects.values_list("record", "term"))
    call_command("rebuild_search")
    assert (
        set(TERMS.objects.values_list("record", "term"))
        == before
        == {(survivor.pk, term) for term in ("asha", "zebulon")}
    )


@pytest.mark.django_db(transaction=True)
def test_the_index_on_similarity_is_created_where_it_is_missing(alice: User) -> None:
    make_patient(alice, name="Asha Nair")
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX patients_patientword_similar")
        call_command("rebuild_search")
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'patients_patientword_similar'::regclass")
        assert cursor.fetchone() == (True,)


def test_it_refuses_to_run_in_a_transaction(alice: User) -> None:
    with pytest.raises(CommandError, match="cannot run inside a transaction"):
        call_command("rebuild_search")


FILL = """
INSERT INTO patients_patient (created_by_id, name, gender, identifier, identifiers, phone, alternate_phone, email,
    address, language, contacts, medical_history, version, created_at, updated_at)
SELECT (SELECT min(id) FROM accounts_user), 'Person ' || i || ' Filled', 'U', '', '[]', '', '', '', '', '', '[]', '', 1,
    now(), now()
FROM generate_series(1, 4000) i;
"""


@pytest.mark.django_db(transaction=True)
def test_the_api_writes_while_search_is_rebuilt() -> None:
    """Two writers create, change, merge and delete patients all the time; none of them is refused or loses a term."""
    template = str(connection.settings_dict["TEST"]["TEMPLATE"] or "")
    with own_database(template=template) as database, serving(url_of(database), migrated=bool(template)) as server:
        tokens = [server.register()[1]["access"] for _ in range(2)]
        with closing(psycopg2.connect(url_of(database))) as opened, opened, opened.cursor() as cursor:
            cursor.execute(FILL)
            cursor.execute("DELETE FROM patients_patientterm WHERE record % 2 = 0")
        finished, statuses = threading.Event(), set()

        def write(writer: int) -> None:
            turn = 0
            while not finished.is_set():
                turn += 1
                name = f"Writer{writer} Turn{turn}"
                keys = []
                for body in ({"name": name}, {"name": f"{name} again"}):
                    created = server.call("POST", "/api/patients/", body, tokens[writer])
                    statuses.add(("POST", created.status))
                    keys.append(created.json["id"])
                survivor, duplicate = (f"/api/patients/{key}/" for key in keys)
                for method, path, change in (
                    ("PATCH", survivor, {"name": f"{name} Changed", "phone": f"080 {turn}"}),
                    ("POST", f"{survivor}merge/", {"duplicate": keys[1]}),
                    *([("DELETE", survivor, None)] if turn % 3 == 0 else []),
                ):
                    statuses.add((method, server.call(method, path, change, tokens[writer]).status))

        writers = [threading.Thread(target=write, args=[writer]) for writer in range(2)]
        for writer in writers:
            writer.start()
        rebuilt = subprocess.run(
            [sys.executable, "manage.py", "rebuild_search"],
            cwd=settings.BASE_DIR,
            env={**os.environ, "DATABASE_URL": url_of(database)},
            capture_output=True,
            text=True,
        )
        finished.set()
        for writer in writers:
            writer.join()
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert rebuilt.stdout.splitlines()[-1] == SIMILARITY
        assert statuses <= {("POST", 201), ("PATCH", 200), ("POST", 200), ("DELETE", 204)}
        assert ("PATCH", 200) in statuses
        (index,) = (index for index in INDEXES if index.table == Patient._meta.db_table)
        wanted = WANTED.format(**fragments(index))
        with closing(psycopg2.connect(url_of(database))) as opened, opened.cursor() as cursor:
            stored = f"SELECT owner, hidden, term, record FROM {index.terms}"  # noqa: S608
            cursor.execute(f"({wanted} EXCEPT {stored}) UNION ALL ({stored} EXCEPT {wanted})")
            assert cursor.fetchall() == []
            cursor.execute(
                f"SELECT DISTINCT owner, term FROM {index.terms} WHERE term !~ '[ :]' EXCEPT "  # noqa: S608
                f"SELECT owner, word FROM {index.words}"
            )
            assert cursor.fetchall() == []


# The terms that there should be. Nobody merges a merged record here, so one step leads to the survivor.
WANTED = """
SELECT member.created_by_id, survivor.deleted_at IS NOT NULL, term, survivor.id
FROM patients_patient member JOIN patients_patient survivor ON survivor.id = coalesce(member.merged_into_id, member.id),
    unnest({member_terms}) term
"""
