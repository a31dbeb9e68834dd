from django.apps import AppConfig


class APIConfig(AppConfig):
    name = "healthcare.api"
    label = "api"
