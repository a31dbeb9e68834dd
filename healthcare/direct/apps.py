from django.apps import AppConfig


class DirectConfig(AppConfig):
    name = "healthcare.direct"
    label = "direct"
