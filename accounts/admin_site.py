"""The admin's front door."""

from django.contrib.admin import AdminSite


class BackOffAdminSite(AdminSite):
    site_header = "Healthcare"
    site_title = "Healthcare admin"
