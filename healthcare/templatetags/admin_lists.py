"""The table of an admin list, whose cells carry the name of their column: narrow screens show each row as a block."""

from collections.abc import Iterator
from typing import Any

from django.contrib.admin.templatetags.admin_list import ResultList, result_list
from django.contrib.admin.templatetags.base import InclusionAdminNode
from django.template import Library
from django.utils.html import conditional_escape, format_html, strip_tags
from django.utils.safestring import SafeString, mark_safe

from healthcare.admin.labels import field_label

register = Library()


@register.tag
def labelled_results(parser: Any, token: Any) -> InclusionAdminNode:
    template = "change_list_results.html"
    node: Any = InclusionAdminNode
    tag: InclusionAdminNode = node(parser, token, func=label_cells, template_name=template, takes_context=False)
    return tag


def label_cells(changelist: Any) -> dict[str, Any]:
    """The context of Django's template, in which a column has the label of the form, each cell has `data-label`, and
    the one that names its row `scope`."""
    context: dict[str, Any] = result_list(changelist)
    columns = {field.name: field for field in changelist.opts.concrete_fields}
    for name, header in zip(changelist.list_display, context["result_headers"], strict=True):
        if name in columns:
            header["text"] = field_label(columns[name])
    labels = ["" if "<input" in header["text"] else column_name(header["text"]) for header in context["result_headers"]]
    context["results"] = [ResultList(row.form, labelled(row, labels)) for row in context["results"]]
    return context


def column_name(text: Any) -> str:
    name = strip_tags(str(text))
    return name[:1].upper() + name[1:]


def labelled(cells: Any, labels: list[str]) -> Iterator[SafeString]:
    for cell, label in zip(cells, labels, strict=True):
        tag, html = cell[:3], conditional_escape(cell)[3:]  # <td or <th
        scope = ' scope="row"' if tag == "<th" else ""
        attribute = format_html(' data-label="{}"', label) if label else ""
        yield mark_safe(f"{tag}{scope}{attribute}{html}")  # noqa: S308  (parts that are HTML already)
