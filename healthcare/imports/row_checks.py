"""Turns what was read into the body of a POST, and validates it by the serializer of that POST."""

from collections.abc import Callable, Set
from types import SimpleNamespace
from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework import serializers
from rest_framework.exceptions import APIException, ErrorDetail, ParseError, ValidationError
from rest_framework.fields import SkipField, empty, get_error_detail
from rest_framework.serializers import Serializer, as_serializer_error

from healthcare.api.errors import SAFE_EXCEPTIONS, flatten
from healthcare.api.exceptions import LimitedErrors
from healthcare.api.fields import WholeNumberField
from healthcare.api.parsers import DECODER, check_storable
from healthcare.api.serializers import RecordSerializer
from healthcare.api.unknown_parameters import refuse_fields, unknown_fields
from healthcare.imports.dates import parse_date
from healthcare.imports.options import ImportOptions
from healthcare.imports.rows import Problem, Row
from healthcare.ownership import RecordOwner

SERVER_COLUMN = "server"  # the id of the server that a file comes from: see `healthcare.exports`
LIST_FIELDS = (serializers.ListField, serializers.BaseSerializer, serializers.JSONField)
OLD_ID = WholeNumberField(min_value=1, max_value=2**63 - 1)


class RowChecks:
    """Validates rows, each as a POST or a PATCH of its values would be, by one serializer for all of them."""

    def __init__(
        self,
        serializer_class: type[RecordSerializer],
        options: ImportOptions,
        owner: RecordOwner,
        *,
        extra_columns: Set[str] = frozenset(),
        is_text: bool = False,
        lenient: bool = False,
    ) -> None:
        """`is_text`: the values are the cells of a CSV file. `lenient`: unknown columns are ignored."""
        view = SimpleNamespace(handling="lenient" if lenient else "strict")
        request = SimpleNamespace(record_owner=owner, user=SimpleNamespace(pk=owner.pk))
        self.serializer: Any = serializer_class(data={}, context={"request": request, "view": view})
        fields = self.serializer.fields
        self.options, self.is_text, self.lenient = options, is_text, lenient
        self.known = {name for name, field in fields.items() if not field.read_only} | extra_columns
        self.ignored = {name for name, field in fields.items() if field.read_only} - extra_columns | {SERVER_COLUMN}
        self.all_columns = self.known | self.ignored
        self.lists = {name for name, field in fields.items() if isinstance(field, LIST_FIELDS)} & self.known
        self.is_ordinary = is_ordinary(self.serializer)
        self.steps = [
            (name, field, getattr(self.serializer, f"validate_{name}", None))
            for name, field in fields.items()
            if not field.read_only
        ]
        self.skipped = {name for name, field, _ in self.steps if is_skipped(field)}
        self.not_null = {name for name, field in fields.items() if not field.allow_null} - self.lists
        self.converters: dict[str, Callable[[str], Any]] = {}
        if is_text:
            self.converters |= dict.fromkeys(self.lists, parse_cell)
            booleans = {name for name, field in fields.items() if isinstance(field, serializers.BooleanField)}
            self.converters |= dict.fromkeys(booleans & self.known, str.lower)  # spreadsheets write TRUE
        if options.date_format:
            dates = {name for name, field in fields.items() if isinstance(field, serializers.DateField)}
            self.converters |= dict.fromkeys(dates & self.known, self.read_date)

    def row_of(self, line: int, values: dict[str, Any]) -> Row:
        """The row with the values that a POST would have: without the columns that the server sets, and without empty
        ones unless they clear the field."""
        body: dict[str, Any] = {}
        row = Row(line, body)
        for name, value in values.items():
            if name in self.ignored:
                self.read_origin(row, name, value)
            elif is_empty_cell(value, self.is_text):
                if self.options.empty == "clear":
                    body[name] = self.cleared(name)
            elif name in self.converters and isinstance(value, str):
                try:
                    body[name] = self.converters[name](value)
                except ValidationError as error:
                    row.fail(*problems_of(error, name))
            else:
                body[name] = value
        return row

    def read_origin(self, row: Row, name: str, value: Any) -> None:
        """Set the server that the record comes from, and its id there. Values of another form are ignored."""
        if name == SERVER_COLUMN and isinstance(value, str):
            row.server = value[:100]
        elif name == "id" and value not in (None, ""):
            try:
                row.old_id = OLD_ID.run_validation(value)
            except ValidationError:
                row.old_id = None

    def cleared(self, name: str) -> Any:
        """What a PATCH sends to empty this field."""
        return "" if name in self.not_null else None

    def read_date(self, text: str) -> str:
        day = parse_date(text.strip(), self.options.date_format)
        if day is None:
            raise ValidationError([ErrorDetail(f"Write a day as `{self.options.date_format}`.", "invalid")])
        return day.isoformat()

    def validate(self, row: Row, record: Any = None) -> dict[str, Any] | None:
        """The validated values of a new record, or of a change of a stored one; None for a row that is refused."""
        ahead = row.checked if record is None else None
        validated, problems = ahead or self.check(row.values, record)
        if problems:
            row.fail(*problems)
        return validated if row.status is None else None

    def check(self, values: dict[str, Any], record: Any = None) -> tuple[dict[str, Any] | None, list[Problem]]:
        """The validated values, or the problems."""
        serializer = self.serializer
        serializer.instance, serializer.partial, serializer.initial_data = record, record is not None, values
        try:
            if not self.lenient and (values.keys() - self.known or not self.lists.isdisjoint(values)):
                refuse_fields(list(unknown_fields(serializer, values)))
            return self.run_validation(values), []
        except (ValidationError, DjangoValidationError) as error:
            return None, problems_of(error)

    def run_validation(self, values: dict[str, Any]) -> dict[str, Any]:
        """What `Serializer.run_validation` does, but for the fields that the values lack and that it would skip: DRF
        raises and catches an exception for each. A serializer that overrides it is called itself."""
        serializer = self.serializer
        if not self.is_ordinary:
            overridden: dict[str, Any] = serializer.run_validation(values)
            return overridden
        found: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name, field, validate in self.steps:
            if name in values:
                value = values[name]
            elif serializer.partial or name in self.skipped:
                continue
            else:
                value = empty
            try:
                value = field.run_validation(value)
                if validate is not None:
                    value = validate(value)
            except ValidationError as error:
                errors[name] = error.detail
            except DjangoValidationError as error:
                errors[name] = get_error_detail(error)
            except SkipField:
                pass
            else:
                serializer.set_value(found, field.source_attrs, value)
        if errors:
            raise ValidationError(errors)
        try:
            validated: dict[str, Any] = serializer.validate(found)
        except (ValidationError, DjangoValidationError) as error:
            raise ValidationError(as_serializer_error(error)) from error
        return validated


def is_ordinary(serializer: Any) -> bool:
    """Whether the serializer validates as DRF's own does, without validators of the whole."""
    names = ("run_validation", "to_internal_value", "run_validators", "validate_empty_values", "set_value")
    overridden = [name for name in names if getattr(type(serializer), name) is not getattr(Serializer, name)]
    return not overridden and not serializer.validators


def is_skipped(field: serializers.Field) -> bool:
    """Whether a POST without this field leaves it out."""
    try:
        field.run_validation(empty)
    except SkipField:
        return True
    except (ValidationError, DjangoValidationError):
        return False
    return False


def is_empty_cell(value: Any, is_text: bool) -> bool:
    return value is None or value == "" or (is_text and isinstance(value, str) and not value.strip())


def parse_cell(text: str) -> Any:
    """The list in a cell, in JSON. Text of any other kind is left for the serializer to refuse."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        value = DECODER.decode(text)
        check_storable(value, depth=2)
    except (ValueError, RecursionError, ParseError) as error:
        raise ValidationError([ErrorDetail("Write a list in JSON.", "invalid")]) from error
    return value


def problems_of(error: Exception, field: str = "") -> list[Problem]:
    """The errors of an exception as the `errors` of a problem, at most as many as an answer of one POST has."""
    if isinstance(error, ValidationError | DjangoValidationError):
        detail: Any = get_error_detail(error) if isinstance(error, DjangoValidationError) else error.detail
        return list(flatten({field: detail} if field else detail))[: LimitedErrors.LIMIT]
    if isinstance(error, APIException) and isinstance(error, SAFE_EXCEPTIONS):
        code = getattr(error, "members", {}).get("code") or error.default_code
        return [{"pointer": "", "code": str(code), "detail": str(error.detail)}]
    raise error
