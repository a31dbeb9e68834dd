from django.apps import AppConfig


class SearchConfig(AppConfig):
    name = "healthcare.search"
    label = "search"
