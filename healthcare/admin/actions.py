"""Actions of an admin's list that show a preview, and do nothing before its form is sent."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_permission_codename
from django.contrib.auth.models import Group
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import IntegrityError, models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from rest_framework.exceptions import ValidationError

from healthcare.api.errors import flatten
from healthcare.api.exceptions import Conflict
from healthcare.api.integrity_errors import broken_rule
from healthcare.model_fields import ID_TEXT

CONFIRMED = "post"  # the field that the form of a preview adds, as Django's own confirmation pages do
FILTERS = "_changelist_filters"  # Django's name for the query string of the list that a page was opened from
NAMED_REFUSALS = 10  # in a message

# Why an action leaves a record as it is, by the record's key. The text completes the sentence that begins with the
# record: "is already active".
Refusals = dict[int, str]


class PreviewedAction:
    """An action on selected records, in the list's menu and at a path of its own.

    The first POST, or a GET of the path with `?id=`, shows what will happen to which record. The form of that page
    does it, in one transaction. The action leaves the records that it refuses as they are, says why, and does the
    others; with `all_or_nothing` it does none if it refuses one.

    name: its value in the menu, and the last part of its path.
    permission: the first part of the permission's codename, such as "restore" of `patients.restore_patient`.
    label: its text in the menu, with the placeholders of Django's actions.
    verb, done: "restore" and "restored".
    explanation: what will happen, in sentences.
    undone_by: the name of the action that undoes it; empty if nothing does.
    maximum: how many records may be selected.
    on_change_page: whether the page of a record offers it, if `is_offered_for` says so.
    """

    name: ClassVar[str]
    permission: ClassVar[str]
    label: ClassVar[str]
    verb: ClassVar[str]
    done: ClassVar[str]
    explanation: ClassVar[str]
    undone_by: ClassVar[str] = ""
    all_or_nothing: ClassVar[bool] = False
    maximum: ClassVar[int] = 100
    on_change_page: ClassVar[bool] = False
    log_flag: ClassVar[int] = CHANGE
    template: ClassVar[str] = "admin/action_preview.html"
    do_not_call_in_templates = True

    def __init__(self) -> None:
        self.__name__ = self.name  # Django takes the name of a callable action from here
        self.short_description = self.label

    def __call__(self, model_admin: "ActionsAdmin", request: HttpRequest, queryset: models.QuerySet) -> HttpResponse:
        """The answer to a POST of the list. Selected records are looked up without its filters, so that the page can
        say that one of them is in another state by now."""
        return self.respond(model_admin, request, selected_ids(request))

    @property
    def access_action(self) -> str:
        """What the access log calls a read of the preview."""
        return f"{self.name}_preview"

    def urls(self, model_admin: "ActionsAdmin") -> list[Any]:
        """The paths of its pages."""
        name = f"{model_admin.opts.app_label}_{model_admin.opts.model_name}_{self.name}"
        return [path(f"{self.name}/", model_admin.admin_site.admin_view(partial(self.view, model_admin)), name=name)]

    def view(self, model_admin: "ActionsAdmin", request: HttpRequest) -> HttpResponseBase:
        """GET shows the preview of the records that `?id=` names, and POST does it."""
        return self.respond(model_admin, request, selected_ids(request))

    def is_allowed(self, model_admin: "ActionsAdmin", request: HttpRequest) -> bool:
        return model_admin.has_view_or_change_permission(request) and request.user.has_perm(
            f"{model_admin.opts.app_label}.{self.codename(model_admin)}"
        )

    def codename(self, model_admin: "ActionsAdmin") -> str:
        return get_permission_codename(self.permission, model_admin.opts)

    def is_offered_for(self, record: Any) -> bool:
        """Whether the record's page offers the action."""
        return self.on_change_page

    def links(self, model_admin: "ActionsAdmin", record: Any) -> list[tuple[str, str]]:
        """The address and the text of each link on the record's page."""
        text = f"{self.verb.capitalize()} {model_admin.nouns()[0]}"
        return [(action_url(model_admin, self.name, [record.pk]), text)] if self.is_offered_for(record) else []

    def list_links(self, model_admin: "ActionsAdmin", request: HttpRequest) -> list[tuple[str, str]]:
        """The address and the text of each link above the list."""
        return []

    def rows(self, model_admin: "ActionsAdmin", request: HttpRequest, ids: Sequence[int]) -> models.QuerySet:
        rows: models.QuerySet = model_admin.get_queryset(request).filter(pk__in=ids).order_by("pk")
        return rows

    def lock(self, model_admin: "ActionsAdmin", request: HttpRequest, ids: Sequence[int]) -> list[Any]:
        """The records, locked in the order of their ids, so that two concurrent actions cannot deadlock."""
        return list(self.rows(model_admin, request, ids).select_for_update(of=("self",), no_key=True))

    def refusals(self, model_admin: "ActionsAdmin", request: HttpRequest, records: Sequence[Any]) -> Refusals:
        """The records among these that the action leaves as they are. Called for the preview, and again for the locked
        records."""
        return {}

    def perform(self, model_admin: "ActionsAdmin", request: HttpRequest, records: Sequence[Any]) -> str:
        """Do it to these locked records, in a fixed number of statements. Returns more sentences for the message."""
        raise NotImplementedError

    def respond(self, model_admin: "ActionsAdmin", request: HttpRequest, ids: Sequence[int]) -> HttpResponse:
        if not self.is_allowed(model_admin, request):
            raise PermissionDenied
        problem = self.selection_problem(model_admin, ids)
        if problem:
            model_admin.message_user(request, problem, messages.WARNING)
            return HttpResponseRedirect(list_url(model_admin, request))
        if request.method == "POST" and CONFIRMED in request.POST:
            return self.confirm(model_admin, request, ids)
        return self.preview(model_admin, request, ids)

    def selection_problem(self, model_admin: "ActionsAdmin", ids: Sequence[int]) -> str:
        """Why the action cannot begin with these records; empty if it can."""
        plural = model_admin.nouns()[1]
        if not ids:
            return f"Select the {plural} to {self.verb}. Nothing was changed."
        if len(ids) > self.maximum:
            return f"Select at most {self.maximum} {plural} at a time. Nothing was changed."
        return ""

    def preview(self, model_admin: "ActionsAdmin", request: HttpRequest, ids: Sequence[int]) -> HttpResponse:
        records = list(self.rows(model_admin, request, ids))
        if not records:
            model_admin.message_user(request, f"There is no such {model_admin.nouns()[0]}.", messages.WARNING)
            return HttpResponseRedirect(list_url(model_admin, request))
        model_admin.record_read(request, self.access_action, records)
        refused = self.refusals(model_admin, request, records)
        possible = [record for record in records if record.pk not in refused]
        if self.all_or_nothing and refused:
            possible = []
        context = {
            "title": f"{self.verb.capitalize()} {count(model_admin, possible or records)}",
            "possible": [model_admin.link_to_record(record) for record in possible],
            "possible_records": possible,
            "refused": [
                model_admin.link_to_record(record, f"{refused[record.pk]}.")
                for record in records
                if record.pk in refused
            ],
            "selected": records,
            "button": f"{self.verb.capitalize()} {count(model_admin, possible)}",
            "undo": self.describe_undo(model_admin, request),
        }
        return self.page(model_admin, request, context)

    def page(self, model_admin: "ActionsAdmin", request: HttpRequest, context: dict[str, Any]) -> TemplateResponse:
        request.current_app = model_admin.admin_site.name
        shared = {
            "opts": model_admin.opts,
            "action": self,
            "action_url": action_url(model_admin, self.name),
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "list_url": list_url(model_admin, request),
            "filters": list_filters(request),
        }
        return TemplateResponse(
            request, self.template, {**model_admin.admin_site.each_context(request), **shared, **context}
        )

    def confirm(self, model_admin: "ActionsAdmin", request: HttpRequest, ids: Sequence[int]) -> HttpResponse:
        with transaction.atomic():
            records = self.lock(model_admin, request, ids)
            refused = changed_since_preview(request, records) | self.refusals(model_admin, request, records)
            if self.all_or_nothing and refused:
                return self.preview_again(model_admin, request, ids)
            possible = [record for record in records if record.pk not in refused]
            done, more = self.perform_possible(model_admin, request, possible, refused) if possible else ([], "")
            if done:
                model_admin.log_changes(request, done, self.log_flag, self.log_message(request))
        message = self.describe_result(model_admin, request, done, more, refused, len(ids) - len(records))
        model_admin.message_user(request, message, messages.SUCCESS if len(done) == len(ids) else messages.WARNING)
        return HttpResponseRedirect(list_url(model_admin, request))

    def preview_again(self, model_admin: "ActionsAdmin", request: HttpRequest, ids: Sequence[int]) -> HttpResponse:
        text = "Nothing was changed, because the records were changed after the page was shown. Check them again."
        model_admin.message_user(request, text, messages.WARNING)
        return self.preview(model_admin, request, ids)

    def perform_possible(
        self, model_admin: "ActionsAdmin", request: HttpRequest, records: list[Any], refused: Refusals
    ) -> tuple[list[Any], str]:
        """Do it to all of these, or to one after the other where a concurrent change violates a constraint for some.
        Returns those that it was done to, and the sentences of `perform`."""
        try:
            with transaction.atomic():
                return records, self.perform(model_admin, request, records)
        except (IntegrityError, Conflict, ValidationError) as error:
            reason = describe_violation(error)
        if len(records) == 1 or self.all_or_nothing:
            refused |= {record.pk: f"could not be {self.done}: {reason}" for record in records}
            return [], ""
        parts = [self.perform_possible(model_admin, request, [record], refused) for record in records]
        return [record for done, _ in parts for record in done], " ".join(more for _, more in parts if more)

    def log_message(self, request: HttpRequest) -> str:
        """What the admin's log says of each record."""
        return f"{self.done.capitalize()}."

    def describe_result(
        self,
        model_admin: "ActionsAdmin",
        request: HttpRequest,
        done: Sequence[Any],
        more: str,
        refused: Refusals,
        missing: int,
    ) -> SafeString:
        """What the action did, with ids instead of names: a message may appear on a page of any model."""
        sentences = [format_html("{} {}.", count(model_admin, done) if done else "Nothing was", self.done)]
        if refused:
            singular = model_admin.nouns()[0]
            named = format_html_join(
                "; ", "{} {} {}", ((singular, key, text) for key, text in [*refused.items()][:NAMED_REFUSALS])
            )
            others = len(refused) - NAMED_REFUSALS
            sentences.append(format_html("Not {}: {}{}.", self.done, named, f"; {others} more" if others > 0 else ""))
        if missing:
            sentences.append(format_html("{} no longer there.", f"{missing} {'is' if missing == 1 else 'are'}"))
        if more:
            sentences.append(conditional_escape(more))
        if done:
            sentences.append(self.describe_undo(model_admin, request, done))
        return format_html_join(" ", "{}", ((sentence,) for sentence in sentences))

    def describe_undo(
        self, model_admin: "ActionsAdmin", request: HttpRequest, done: Sequence[Any] | None = None
    ) -> SafeString:
        """How to undo it, with a link once it is done."""
        opposite = model_admin.previewed_actions().get(self.undone_by)
        if opposite is None:
            return mark_safe("It cannot be undone.")
        if opposite.is_allowed(model_admin, request):
            if done is None:
                return format_html("To undo it, choose {}.", opposite.verb.capitalize())
            url = action_url(model_admin, opposite.name, [record.pk for record in done])
            return format_html('<a href="{}">Undo</a>', url)
        return format_html("To undo it, ask {}.", describe_who_may(opposite, model_admin))


class ActionsAdmin(admin.ModelAdmin):
    """Gives each `PreviewedAction` among the actions a path, and refuses (403) users who may not perform it."""

    def nouns(self) -> tuple[str, str]:
        """What staff call one record and several."""
        return str(self.opts.verbose_name), str(self.opts.verbose_name_plural)

    def previewed_actions(self) -> dict[str, PreviewedAction]:
        return {action.name: action for action in self.actions or () if isinstance(action, PreviewedAction)}

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        refused = {name for name, action in self.previewed_actions().items() if not action.is_allowed(self, request)}
        return {name: entry for name, entry in super().get_actions(request).items() if name not in refused}

    def get_urls(self) -> list[Any]:
        own = [url for action in self.previewed_actions().values() for url in action.urls(self)]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        chosen = self.previewed_actions().keys() & set(request.POST.getlist("action"))
        if any(not self.previewed_actions()[name].is_allowed(self, request) for name in chosen):
            raise PermissionDenied
        links = [
            link
            for action in self.previewed_actions().values()
            if action.is_allowed(self, request)
            for link in action.list_links(self, request)
        ]
        return super().changelist_view(request, {"list_links": links, **(extra_context or {})})

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> Any:
        offered = [
            link
            for action in self.previewed_actions().values()
            if obj is not None and action.is_allowed(self, request)
            for link in action.links(self, obj)
        ]
        return super().render_change_form(request, context | {"action_links": offered}, add, change, form_url, obj)

    def describe_record(self, record: Any) -> str:
        """One line that distinguishes the record from others of the same name."""
        return str(record)

    def link_to_record(self, record: Any, more: str = "") -> SafeString:
        """A link to the record's page, whose text describes the record and goes on with `more`."""
        text = f"{self.describe_record(record)} {more}".rstrip()
        route = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return format_html('<a href="{}">{}</a>', reverse(route, args=[record.pk]), text)

    def record_read(self, request: HttpRequest, action: str, records: Iterable[Any]) -> None:
        """Called before a page shows these records. The admin of patients' data writes the access log."""

    def log_changes(self, request: HttpRequest, records: Sequence[Any], flag: int, message: str) -> None:
        LogEntry.objects.log_actions(request.user.pk or 0, records, flag, message)


def selected_ids(request: HttpRequest) -> list[int]:
    """The ids that the list or the preview sends, or `?id=` of a link, each once. Refuses (400) what is not an id."""
    selected = request.POST.getlist(ACTION_CHECKBOX_NAME) if request.method == "POST" else request.GET.getlist("id")
    if not all(ID_TEXT.match(text) for text in selected):
        raise BadRequest
    return sorted({int(text) for text in selected})


def changed_since_preview(request: HttpRequest, records: Sequence[Any]) -> Refusals:
    """The records whose version is not the one that the preview showed. A form without versions checks none."""
    seen = {*request.POST.getlist("seen")}
    shown = {text.partition(":")[0] for text in seen}
    return {
        record.pk: "was changed after the page was shown; select it again"
        for record in records
        if str(record.pk) in shown and f"{record.pk}:{getattr(record, 'version', '')}" not in seen
    }


def describe_violation(error: IntegrityError | Conflict | ValidationError) -> str:
    """The sentence of the violated constraint, of the trigger or of the rule that refused."""
    rule = broken_rule(error) if isinstance(error, IntegrityError) else error
    if rule is None:
        raise error
    return " ".join(str(one["detail"]) for one in flatten(rule.detail)).removesuffix(".")


def describe_who_may(action: PreviewedAction, model_admin: ActionsAdmin) -> str:
    """The groups whose members may perform an action: "a member of Records"."""
    groups = Group.objects.filter(
        permissions__codename=action.codename(model_admin),
        permissions__content_type__app_label=model_admin.opts.app_label,
    ).order_by("name")
    names = list(groups.values_list("name", flat=True))
    return f"a member of {' or '.join(names)}" if names else "an administrator"


def count(model_admin: ActionsAdmin, records: Sequence[Any]) -> str:
    """ "1 patient", "3 patients"."""
    singular, plural = model_admin.nouns()
    return f"{len(records):,} {singular if len(records) == 1 else plural}"


def action_url(model_admin: ActionsAdmin, name: str, ids: Sequence[int] = ()) -> str:
    url = reverse(f"admin:{model_admin.opts.app_label}_{model_admin.opts.model_name}_{name}")
    return f"{url}?{urlencode([('id', key) for key in ids])}" if ids else url


def list_filters(request: HttpRequest) -> str:
    """The query string of the list that the action was chosen in."""
    if request.resolver_match and str(request.resolver_match.url_name).endswith("_changelist"):
        return request.GET.urlencode()
    return request.POST.get(FILTERS, "")


def list_url(model_admin: ActionsAdmin, request: HttpRequest) -> str:
    """The list, with the filters that the action was chosen with."""
    url = reverse(f"admin:{model_admin.opts.app_label}_{model_admin.opts.model_name}_changelist")
    filters = list_filters(request)
    return f"{url}?{filters}" if filters else url
