"""The widgets of foreign keys whose records are found by typing."""

import re
from collections.abc import Sequence
from typing import Any

from django.contrib.admin.widgets import AutocompleteMixin, AutocompleteSelect, AutocompleteSelectMultiple

ID = re.compile(r"\A[0-9]{1,18}\Z")


class IdChoicesMixin(AutocompleteMixin):
    """Ignores a choice that is not an id, which a URL typed by hand can hold: Django's widget raises on it."""

    def optgroups(self, name: str, value: Sequence[str], attr: Any = None) -> Any:
        return super().optgroups(name, [choice for choice in value if ID.match(str(choice))], attr)


class IdSelect(IdChoicesMixin, AutocompleteSelect):
    pass


class IdSelectMultiple(IdChoicesMixin, AutocompleteSelectMultiple):
    pass
