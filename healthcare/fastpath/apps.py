from django.apps import AppConfig


class FastPathConfig(AppConfig):
    name = "healthcare.fastpath"
    label = "fastpath"
