"""An admin page that shows patients and records no read is a gap in the audit: the start fails."""

from typing import Any

from django.contrib.admin.sites import all_sites
from django.core.checks import CheckMessage, Error, register

from audit.admin import ReadsRecordedAdmin

READS = {"patients.Patient", "mappings.Mapping"}


@register()
def admin_pages_record_reads(**_: Any) -> list[CheckMessage]:
    return [
        Error(
            f"The admin of {model._meta.label} shows patients and records no reads.",
            hint="Derive it from audit.admin.ReadsRecordedAdmin.",
            obj=type(page),
            id="audit.E001",
        )
        for site in all_sites
        for model, page in site._registry.items()
        if model._meta.label.removesuffix("Event") in READS and not isinstance(page, ReadsRecordedAdmin)
    ]
