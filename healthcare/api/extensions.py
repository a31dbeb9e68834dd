"""How an app adds to the API of an app below it, which does not know of it: call these in `AppConfig.ready`."""

from django_filters import Filter, FilterSet

from healthcare.api.sparse_fieldsets import Inclusion
from healthcare.api.viewsets import RecordViewSet


def register_filter(filterset: type[FilterSet], name: str, new: Filter) -> None:
    """Let the lists that this filter set filters take `?<name>=` too. Raises ValueError for a name that is taken."""
    if name in filterset.base_filters:
        raise ValueError(f"{filterset.__name__} already has a filter {name!r}.")
    filterset.base_filters[name] = new


def register_inclusion(viewset: type[RecordViewSet], name: str, new: Inclusion) -> None:
    """Let `?include=` of this viewset take the name too. Raises ValueError for a name that is taken."""
    if name in viewset.inclusions:
        raise ValueError(f"{viewset.__name__} already has an inclusion {name!r}.")
    viewset.inclusions = {**viewset.inclusions, name: new}
