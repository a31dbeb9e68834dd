"""What the admin's home page shows of assignments: how many are active, and the doctors with most of them.

Grouping a million assignments takes longer than a page may. Up to EXACT_UP_TO are grouped. Of more, the candidates are
the most common doctors in PostgreSQL's statistics of the table, or in a sample where it has none, and the assignments
of each are read up to READ_OF_EACH. So among doctors with about as many patients as each other the order, and who comes
in at the end of the list, is uncertain.
"""

from typing import Any

from django.db import connection

from doctors.models import Doctor
from healthcare.admin.charts import BarTable
from healthcare.admin.counts import EXACT_UP_TO, Count, about, count_rows, estimate_rows
from healthcare.admin.home import Figure, Panel, list_url
from mappings.models import Mapping

SHOWN, CANDIDATES = 5, 8
READ_OF_EACH = 1_000
ACTIVE_BY_DOCTOR = f"""
SELECT doctor_id, count(*), sum(count(*)) OVER () FROM (
    SELECT doctor_id FROM mappings_mapping WHERE ended_at IS NULL ORDER BY patient_id, doctor_id
    LIMIT {EXACT_UP_TO + 1}
) AS active GROUP BY doctor_id ORDER BY 2 DESC, 1 LIMIT {SHOWN}
"""  # noqa: S608  (constants alone); in the order of the index `mapping_once`
COMMON_DOCTORS = f"""
SELECT common.doctor, common.share FROM pg_stats AS stats JOIN pg_class AS class ON class.relname = stats.tablename
    AND class.relnamespace::regnamespace::text = quote_ident(stats.schemaname),
    unnest(stats.most_common_vals::text::bigint[], stats.most_common_freqs) AS common(doctor, share)
WHERE class.oid = 'mappings_mapping'::regclass AND stats.attname = 'doctor_id'
ORDER BY common.share DESC, common.doctor LIMIT {CANDIDATES}
"""  # noqa: S608  (constants alone)
# In 50 evenly spaced ranges of 100 ids.
SAMPLED_DOCTORS = f"""
SELECT sampled.doctor_id, count(*)::float / sum(count(*)) OVER () AS share
FROM (SELECT min(id) AS low, max(id) AS high FROM mappings_mapping) AS ids, generate_series(0, 49) AS step,
LATERAL (
    SELECT doctor_id FROM mappings_mapping
    WHERE id >= low + ((high - low)::numeric * step / 50)::bigint
    ORDER BY id LIMIT 100
) AS sampled
GROUP BY sampled.doctor_id ORDER BY share DESC, sampled.doctor_id LIMIT {CANDIDATES}
"""  # noqa: S608  (constants alone)
# In the order of the index `mapping_of_doctor`.
ACTIVE_OF_EACH = f"""
SELECT doctor, count(*), count(*) FILTER (WHERE ended_at IS NULL) FROM unnest(%s::bigint[]) AS doctor, LATERAL (
    SELECT ended_at FROM mappings_mapping WHERE doctor_id = doctor
    ORDER BY doctor_id, created_by_id, id DESC LIMIT {READ_OF_EACH + 1}
) AS assignment GROUP BY doctor
"""  # noqa: S608  (constants alone)


def read_assignments() -> list[Figure]:
    # In the order of the index `mapping_list`, which holds the active mappings alone.
    count = count_rows(Mapping.objects.active().order_by("created_by_id", "-id"))
    return [Figure("Active assignments", str(count), "of doctors to patients", list_url(Mapping))]


def read_busiest_doctors() -> list[BarTable]:
    counts = busiest_doctors()
    names = dict(Doctor.objects.filter(pk__in=counts).values_list("pk", "name"))
    rows = [(names[key], count, list_url(Mapping, doctor=key)) for key, count in counts.items()]
    return [BarTable.of("Doctors with most patients", "by active assignments", "Doctor", rows)]


def busiest_doctors() -> dict[int, Count]:
    """The ids of the doctors with most active assignments, and how many these are; most first."""
    exact = run(ACTIVE_BY_DOCTOR)
    if not exact or exact[0][2] <= EXACT_UP_TO:
        return {doctor: Count(number) for doctor, number, _ in exact}
    shares = dict(run(COMMON_DOCTORS) or run(SAMPLED_DOCTORS))
    rows = estimate_rows(Mapping.objects.all())
    counts = {
        doctor: Count(active) if read <= READ_OF_EACH else about(max(active, shares[doctor] * rows * active / read))
        for doctor, read, active in run(ACTIVE_OF_EACH, list(shares))
    }
    ranked = sorted(counts.items(), key=lambda item: (-item[1].number, item[0]))
    return dict(item for item in ranked[:SHOWN] if item[1].number)


def run(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


HOME_PANELS = [
    Panel("Active assignments", read_assignments),
    Panel("Doctors with most patients", read_busiest_doctors),
]
