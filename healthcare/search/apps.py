from django.apps import AppConfig


class SearchConfig(AppConfig):
    name = "healthcare.search"
    label = "search"

    def ready(self) -> None:
        from healthcare.search import normalization  # noqa: F401, PLC0415  (declares its functions)
