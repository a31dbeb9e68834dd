"""The readable page of a person's file, opened from a disk."""

import io
import zipfile
from pathlib import Path

import pytest

from accounts.models import User
from doctors.tests.factories import make_doctor
from healthcare.tests.browser.harness import AdminPages, check_everywhere
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.person_file.writer import write_person_file
from patients.tests.factories import make_patient

pytestmark = pytest.mark.slow

LONG = "Supercalifragilistic" * 10


def test_the_page_of_a_file_is_accessible_and_loads_nothing(admin_page: AdminPages, alice: User, tmp_path: Path):
    patient = make_patient(
        alice, name=LONG[:150], address=LONG, medical_history=f"2019 asthma\n{LONG}",
        identifiers=[{"system": "https://uidai.gov.in", "value": "2345 6789 0124"}],
    )  # fmt: skip
    make_mapping(patient, make_doctor(alice), notes=LONG, role=LONG[:100])
    Patient.objects.filter(pk=patient.pk).update(address="Mysuru")
    content = io.BytesIO()
    write_person_file(content, Patient.objects.get(pk=patient.pk), names=True)
    zipfile.ZipFile(content).extract("index.html", tmp_path)
    page = admin_page(None)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto((tmp_path / "index.html").as_uri())
    check_everywhere(page)
    assert requests == [(tmp_path / "index.html").as_uri()]
    assert page.get_by_role("heading", level=1).inner_text() == f"File of patient {patient.pk}"
    assert page.get_by_role("table").count() == 4
    page.get_by_role("link", name="Changes of the record").click()
    assert page.url.endswith("#8")
