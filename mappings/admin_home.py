"""What the admin's home page shows of assignments: how many are active, and the doctors with most of them.

Grouping a million assignments takes longer than a page may. Up to EXACT_UP_TO are grouped. Of more, the candidates are
the most common doctors in a sample: the active assignments of the patients in SAMPLED_RANGES ranges of ids, one in each
of as many equal parts, which have SAMPLED_ROWS together if the ids are evenly taken. The assignments of a candidate are
counted if there are no more than READ_OF_EACH. Otherwise the number is the share in the sample: of a doctor with a
hundredth of all assignments it is a tenth off, of one with a tenth 3 %, if patients of one doctor do not follow each
other. Among doctors with about as many patients as each other, who comes in at the end of the list is uncertain.
"""

from dataclasses import replace
from typing import Any

from django.db import connection

from doctors.models import Doctor
from healthcare.admin.charts import BarTable
from healthcare.admin.counts import EXACT_UP_TO, Count, about, count_rows, estimate_rows
from healthcare.admin.home import Figure, filtered_list_url
from mappings.models import Mapping

SHOWN, CANDIDATES = 5, 8
SAMPLED_RANGES, SAMPLED_ROWS = 500, 10_000
MOST_SAMPLED = 10 * SAMPLED_ROWS // SAMPLED_RANGES  # in one range
READ_OF_EACH = 1_000
ACTIVE_BY_DOCTOR = f"""
SELECT doctor_id, count(*), sum(count(*)) OVER () FROM (
    SELECT doctor_id FROM mappings_mapping WHERE ended_at IS NULL ORDER BY patient_id, doctor_id
    LIMIT {EXACT_UP_TO + 1}
) AS active GROUP BY doctor_id ORDER BY 2 DESC, 1 LIMIT {SHOWN}
"""  # noqa: S608  (constants alone); in the order of the index `mapping_once`
# In the order of the same index. The parameter is the share of the patients whose assignments are read. Where in its
# part a range begins follows the golden ratio, so that the ranges keep step with nothing in the data.
SAMPLED_DOCTORS = f"""
SELECT sampled.doctor_id, count(*)::float / sum(count(*)) OVER () AS share
FROM (
    SELECT min(patient_id) AS low, (max(patient_id) - min(patient_id) + 1)::numeric / {SAMPLED_RANGES} AS width
    FROM mappings_mapping WHERE ended_at IS NULL
) AS part, (SELECT %s::numeric AS share) AS chosen, generate_series(0, {SAMPLED_RANGES - 1}) AS step,
LATERAL (SELECT width * (step + mod(step * 0.618034, 1)) AS start) AS range, LATERAL (
    SELECT doctor_id FROM mappings_mapping
    WHERE ended_at IS NULL AND patient_id >= low + start::bigint AND patient_id < low + (start + width * share)::bigint
    ORDER BY patient_id, doctor_id LIMIT {MOST_SAMPLED}
) AS sampled
GROUP BY sampled.doctor_id ORDER BY share DESC, sampled.doctor_id LIMIT {CANDIDATES}
"""  # noqa: S608  (constants alone)
# Of each doctor the active ones, if there are no more than READ_OF_EACH with the ended ones. In the order of the index
# `mapping_of_doctor`, which alone counts all of them.
ACTIVE_OF_EACH = f"""
SELECT doctor, (
    SELECT count(*) FILTER (WHERE ended_at IS NULL) FROM (
        SELECT ended_at FROM mappings_mapping WHERE doctor_id = doctor
        ORDER BY doctor_id, created_by_id, id DESC LIMIT {READ_OF_EACH}
    ) AS assignment
) FROM unnest(%s::bigint[]) AS doctor, LATERAL (
    SELECT count(*) AS rows FROM (
        SELECT FROM mappings_mapping WHERE doctor_id = doctor
        ORDER BY doctor_id, created_by_id, id DESC LIMIT {READ_OF_EACH + 1}
    ) AS assignment
) AS every WHERE every.rows <= {READ_OF_EACH}
"""  # noqa: S608  (constants alone)


def read_assignments() -> list[Figure]:
    # In the order of the index `mapping_list`, which holds the active mappings alone.
    count = count_rows(Mapping.objects.active().order_by("created_by_id", "-id"))
    return [Figure("Active assignments", str(count), "of doctors to patients", filtered_list_url(Mapping))]


def read_busiest_doctors() -> list[BarTable]:
    counts = busiest_doctors()
    names = dict(Doctor.objects.filter(pk__in=counts).values_list("pk", "name"))
    rows = [(names[key], count, filtered_list_url(Mapping, doctor=key)) for key, count in counts.items()]
    return [BarTable.of("Doctors with most patients", "by active assignments", "Doctor", rows)]


def busiest_doctors() -> dict[int, Count]:
    """The ids of the doctors with most active assignments, and how many these are; most first."""
    exact = fetch_all(ACTIVE_BY_DOCTOR)
    if not exact or exact[0][2] <= EXACT_UP_TO:
        return {doctor: Count(number) for doctor, number, _ in exact}
    estimate = estimate_rows(Mapping.objects.active())
    active = max(estimate, EXACT_UP_TO)
    expected = {doctor: share * active for doctor, share in fetch_all(SAMPLED_DOCTORS, SAMPLED_ROWS / active)}
    counts = {doctor: about(number) for doctor, number in expected.items()}
    if estimate < active:  # a table that was never analyzed: see `counts`
        counts = {doctor: replace(count, precision="more than") for doctor, count in counts.items()}
    counts |= {doctor: Count(number) for doctor, number in fetch_all(ACTIVE_OF_EACH, list(counts))}
    ranked = sorted(counts.items(), key=lambda item: (-item[1].number, item[0]))
    return dict(ranked[:SHOWN])


def fetch_all(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
