from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        import accounts.schema  # noqa: F401  (registers the security scheme)
        from accounts.admin_second_factor import remember_passed  # noqa: PLC0415
        from accounts.admin_sessions import limit_session  # noqa: PLC0415
        from accounts.backup import DelegationsPart, InvitationsPart, LoginSessionsPart  # noqa: PLC0415
        from accounts.retention import EXPIRING  # noqa: PLC0415  (needs the models)
        from healthcare.operations.backup_parts import register_part  # noqa: PLC0415
        from healthcare.operations.tidying import register_expiring_rows  # noqa: PLC0415

        user_logged_in.connect(limit_session, dispatch_uid="accounts.admin_sessions.limit_session")
        user_logged_in.connect(remember_passed, dispatch_uid="accounts.admin_second_factor.remember_passed")
        register_part(LoginSessionsPart())
        register_part(DelegationsPart())
        register_part(InvitationsPart())
        register_expiring_rows(*EXPIRING)
