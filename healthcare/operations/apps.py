from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "healthcare.operations"
    label = "operations"
