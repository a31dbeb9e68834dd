"""The widgets of foreign keys whose records are found by typing."""

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.options import BaseModelAdmin
from django.contrib.admin.widgets import AutocompleteMixin, AutocompleteSelect, AutocompleteSelectMultiple
from django.http import HttpRequest

from healthcare.model_fields import ID_TEXT


class IdChoicesMixin(AutocompleteMixin):
    """Ignores a choice that is not an id, which a URL typed by hand can hold: Django's widget raises on it."""

    def optgroups(self, name: str, value: Sequence[str], attr: Any = None) -> Any:
        return super().optgroups(name, [choice for choice in value if ID_TEXT.match(str(choice))], attr)


class IdSelect(IdChoicesMixin, AutocompleteSelect):
    pass


class IdSelectMultiple(IdChoicesMixin, AutocompleteSelectMultiple):
    pass


class AutocompleteAdmin(BaseModelAdmin):
    """The fields in `autocomplete_fields`."""

    def choices(self, field: Any) -> Any:
        """The records that this field can refer to."""
        return field.related_model._default_manager.all()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A choice shows the name of the related record, so users who may not view those records can choose none."""
        if db_field.name in self.get_autocomplete_fields(request):
            may_view = self.admin_site.get_model_admin(db_field.related_model).has_view_permission(request)
            choices = self.choices(db_field)
            kwargs |= {
                "widget": IdSelect(db_field, self.admin_site),
                "queryset": choices if may_view else choices.none(),
            }
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = IdSelectMultiple(db_field, self.admin_site)
        return super().formfield_for_manytomany(db_field, request, **kwargs)
