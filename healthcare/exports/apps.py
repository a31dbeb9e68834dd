from django.apps import AppConfig


class ExportsConfig(AppConfig):
    name = "healthcare.exports"
    label = "exports"
