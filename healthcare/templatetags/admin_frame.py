"""What every page of the admin shows around its content."""

from collections.abc import Sequence
from typing import Any

from django import template
from django.contrib import admin
from django.template.context import Context

from healthcare.admin.home import Group, group_by_task

register = template.Library()


@register.simple_tag(takes_context=True)
def page_title(context: Context) -> str:
    """The text of `<title>`, which stays in the browser's history: it names a record by its id.

    "Change patient 17 | Healthcare admin", "History of patient 17 | Healthcare admin"
    """
    title, subtitle = str(context.get("title") or ""), str(context.get("subtitle") or "")
    record = context.get("original") or context.get("object")
    if record and (options := getattr(record, "_meta", None)):
        kind, names = str(options.verbose_name), texts_naming(record)
        subtitle = "" if any(name in subtitle for name in names) else subtitle
        for name in names:
            title = title.replace(f"{kind} {name}", name).replace(name, "")
        title = f"{title.removesuffix(kind).strip()} {kind} {record.pk}"
    return " | ".join(part for part in (subtitle, title, str(context.get("site_title") or "")) if part)


def texts_naming(record: Any) -> list[str]:
    """The texts by which pages name the record, the longest first."""
    model_admin = admin.site.get_model_admin(record._meta.concrete_model)
    describe = getattr(model_admin, "describe_record", str)
    return sorted({str(record), describe(record)} - {""}, key=len, reverse=True)


@register.simple_tag
def lists_by_task(available_apps: Sequence[Any]) -> list[Group]:
    """The lists of the sidebar, grouped as on the home page."""
    return group_by_task(admin.site, available_apps or ())
