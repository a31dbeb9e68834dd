from django.apps import AppConfig


class StaffRolesConfig(AppConfig):
    name = "healthcare.staff_roles"
    label = "staff_roles"
