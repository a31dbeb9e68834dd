from django.contrib.postgres.operations import NotInTransactionMixin
from django.db import migrations


class RunSQLOutsideTransaction(NotInTransactionMixin, migrations.RunSQL):
    pass


class Migration(migrations.Migration):
    """The history page of a record reads its entries of the admin's log, for which Django has no index."""

    atomic = False
    sql_exceptions = {"not-restartable": "It begins with dropping the index of an interrupted attempt."}
    dependencies = [("audit", "0008_roles"), ("admin", "0003_logentry_add_action_flag_choices")]
    operations = [
        RunSQLOutsideTransaction(
            [
                # The invalid index of an interrupted attempt.
                "DROP INDEX CONCURRENTLY IF EXISTS admin_log_of_record",
                "CREATE INDEX CONCURRENTLY admin_log_of_record ON django_admin_log (content_type_id, object_id, id)",
            ],
            "DROP INDEX CONCURRENTLY IF EXISTS admin_log_of_record",
        )
    ]
