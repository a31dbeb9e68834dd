"""The home page of the admin: figures and charts that the apps declare, and their lists grouped by task.

An app declares on a model's admin:

    task = "Records"                              the group of its list on the home page
    home_panels = [Panel("Patients", read_...)]   figures, for users who may view the model

Nothing is cached: each visit reads the figures, each panel in a savepoint of its own, and undoes whatever they set. A
panel that fails or exceeds PANEL_TIMEOUT is shown as not available.
"""

import datetime
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import AdminSite, ModelAdmin
from django.db import connection, transaction
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from healthcare.admin.charts import BarTable, ColumnChart

logger = logging.getLogger("healthcare.admin")

TASKS = ("Records", "People and access", "Audit")  # in the order of the page; a model of another task comes after them
OTHER_TASK = "Other"
PANEL_TIMEOUT = "2s"  # of each statement: PostgreSQL ends it, so that the page is there before its reader gives up

# Each statement of a panel reads a part of an index in its order. What the planner may take instead reads all of the
# table, or all of one doctor's rows, and it does so where the statistics are old or where it expects average numbers.
# Before PostgreSQL 18 a plan that has to sort nevertheless counts as so expensive that it would be compiled (JIT). That
# takes longer than all figures together.
INDEX_SCANS_ONLY = """
SELECT set_config('statement_timeout', %s, true), set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true),
    set_config('enable_incremental_sort', 'off', true),
    set_config('jit', 'off', true)
"""


@dataclass(frozen=True)
class Figure:
    """A number with the list behind it. `value` is the number as text, `unit` says what exactly it counts."""

    title: str
    value: str
    unit: str
    url: str


@dataclass(frozen=True)
class Panel:
    """Figures and charts that one function reads together. `title` names them if they are not available."""

    title: str
    read: Callable[[], Sequence[Figure | ColumnChart | BarTable]]


@dataclass(frozen=True)
class MissingFigure:
    """A panel that could not be read."""

    title: str


@dataclass
class Group:
    """The models of one task: their lists, and those of them that the user may add to."""

    title: str
    models: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class HomePage:
    figures: Sequence[Figure | MissingFigure]
    charts: Sequence[ColumnChart | BarTable]
    groups: Sequence[Group]
    quick_links: Sequence[dict[str, Any]]
    search_url: str
    as_of: datetime.datetime


def filtered_list_url(model: type[Model], **query: Any) -> str:
    """The path of the model's list in the admin, with these parameters."""
    path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{path}?{urlencode(query)}" if query else path


def task_of(model_admin: ModelAdmin) -> str:
    return getattr(model_admin, "task", OTHER_TASK)


def order_of(task: str) -> int:
    return TASKS.index(task) if task in TASKS else len(TASKS)


def build_home(site: AdminSite, request: HttpRequest, app_list: Sequence[Any]) -> HomePage:
    """What the home page shows to this user. `app_list` is the site's, which has what the user may view."""
    parts = list(read_panels(panels_for(site, request)))
    groups = group_by_task(site, app_list)
    return HomePage(
        figures=[part for part in parts if isinstance(part, Figure | MissingFigure)],
        charts=[part for part in parts if isinstance(part, ColumnChart | BarTable)],
        groups=groups,
        quick_links=[
            {**listed, "singular": listed["model"]._meta.verbose_name}
            for group in groups
            if group.title == TASKS[0]
            for listed in group.models
            if listed["add_url"]
        ],
        search_url=next(search_urls(site, request), ""),
        as_of=timezone.localtime(),
    )


def panels_for(site: AdminSite, request: HttpRequest) -> list[Panel]:
    """The panels of the models that the user may view, in the order of the tasks."""
    admins = sorted(site._registry.values(), key=lambda model_admin: order_of(task_of(model_admin)))
    return [
        panel
        for model_admin in admins
        for panel in getattr(model_admin, "home_panels", ())
        if model_admin.has_view_permission(request)
    ]


def read_panels(panels: Sequence[Panel]) -> Iterator[Figure | ColumnChart | BarTable | MissingFigure]:
    if not panels:
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(INDEX_SCANS_ONLY, [PANEL_TIMEOUT])
        for panel in panels:
            yield from read_panel(panel)
        transaction.set_rollback(True)  # to the savepoint: the settings are the request's again


def read_panel(panel: Panel) -> Sequence[Figure | ColumnChart | BarTable | MissingFigure]:
    try:
        with transaction.atomic():
            return panel.read()
    except Exception as error:
        if connection.connection is None or connection.connection.closed:
            raise  # the database is away, and the page with it
        logger.warning("no figures for %s: %s", panel.title, type(error).__name__)
        return [MissingFigure(panel.title)]


def group_by_task(site: AdminSite, app_list: Sequence[Any]) -> list[Group]:
    """The lists of `app_list`, within a task in the order of INSTALLED_APPS, from which the models were registered."""
    listed = {entry["model"]: entry for app in app_list for entry in app["models"]}
    groups: dict[str, Group] = {}
    for model, model_admin in site._registry.items():
        if model in listed:
            task = task_of(model_admin)
            groups.setdefault(task, Group(task)).models.append(listed[model])
    return sorted(groups.values(), key=lambda group: order_of(group.title))


def search_urls(site: AdminSite, request: HttpRequest) -> Iterator[str]:
    """The lists that the search box of the home page may search: of models whose admin has `home_search`."""
    for model, model_admin in site._registry.items():
        if getattr(model_admin, "home_search", False) and model_admin.has_view_permission(request):
            yield filtered_list_url(model)
