from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        import accounts.schema  # noqa: F401  (registers the security scheme)
        from accounts.backup import LoginSessionsPart  # noqa: PLC0415
        from accounts.retention import EXPIRING  # noqa: PLC0415  (needs the models)
        from healthcare.operations.backup_parts import register_part  # noqa: PLC0415
        from healthcare.operations.tidying import register_expiring_rows  # noqa: PLC0415

        register_part(LoginSessionsPart())
        register_expiring_rows(*EXPIRING)
