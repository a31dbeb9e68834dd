from django.apps import AppConfig


class ImportsConfig(AppConfig):
    name = "healthcare.imports"
    label = "imports"
