"""Which groups are roles."""

from django.contrib.auth.models import Group
from django.db import models


class StaffRole(models.Model):
    """A role and its group, which migrations created.

    Migrations find the group here and not by its name, so they never grant anything to a group that somebody else
    created. The group may be renamed. If it is deleted, the role stays without one.
    """

    name = models.CharField(max_length=150, unique=True)
    group = models.OneToOneField(Group, models.SET_NULL, null=True, related_name="+")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
