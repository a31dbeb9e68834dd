"""Lets an app extend the API of an app that it depends on. Call these functions in `AppConfig.ready`."""

from django_filters import Filter, FilterSet

from healthcare.api.sparse_fieldsets import Inclusion
from healthcare.api.viewsets import RecordViewSet


def register_filter(filterset: type[FilterSet], name: str, new: Filter) -> None:
    """Add the filter `?<name>=` to the lists of this filter set. Raises ValueError if the name is in use."""
    if name in filterset.base_filters:
        raise ValueError(f"{filterset.__name__} already has a filter {name!r}.")
    filterset.base_filters[name] = new


def register_inclusion(viewset: type[RecordViewSet], name: str, new: Inclusion) -> None:
    """Add a name that `?include=` of this viewset accepts. Raises ValueError if the name is in use."""
    if name in viewset.inclusions:
        raise ValueError(f"{viewset.__name__} already has an inclusion {name!r}.")
    viewset.inclusions = {**viewset.inclusions, name: new}
    register_added_field(viewset, name)


def register_added_field(viewset: type[RecordViewSet], name: str) -> None:
    """Let the bodies of this viewset contain a field that answers of other paths add to its records."""
    viewset.added_fields = {*viewset.added_fields, name}
