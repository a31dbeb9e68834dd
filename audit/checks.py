"""System checks of the audit: every admin page that shows patients' data records who reads it."""

from typing import Any

from django.contrib.admin.sites import all_sites
from django.core.checks import CheckMessage, Error, register

from audit.admin.reads import ReadsRecordedAdmin
from audit.patient_data import patient_id_field_of


@register()
def admin_pages_record_reads(**_: Any) -> list[CheckMessage]:
    return [
        Error(
            f"The admin page of {model._meta.label} shows patients' data and does not record who reads it.",
            hint="Derive it from audit.admin.reads.ReadsRecordedAdmin.",
            obj=type(page),
            id="audit.E001",
        )
        for site in all_sites
        for model, page in site._registry.items()
        if patient_id_field_of(model) is not None and not isinstance(page, ReadsRecordedAdmin)
    ]
