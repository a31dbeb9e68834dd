import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from healthcare.rls.operations import RowSecurity

# Logins before this table existed: an IPv4 address is its own network, an IPv6 address belongs to a /64.
COPY_ADDRESSES_OF_SESSIONS = """
INSERT INTO accounts_loginaddress (user_id, network, last_login_at)
SELECT user_id,
    CASE family(address) WHEN 6 THEN network(set_masklen(address, 64))::text ELSE host(address) END AS network,
    max(created_at)
FROM accounts_loginsession WHERE address IS NOT NULL
GROUP BY 1, 2
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_row_level_security")]

    operations = [
        migrations.CreateModel(
            name="LoginAddress",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("network", models.CharField(max_length=50)),
                ("last_login_at", models.DateTimeField(db_index=True)),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="login_addresses",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="loginaddress",
            constraint=models.UniqueConstraint(fields=("user", "network"), name="login_address_unique"),
        ),
        # Nothing is granted to the API's role: only the login itself reads and writes these rows.
        RowSecurity("LoginAddress", "ALTER TABLE accounts_loginaddress ENABLE ROW LEVEL SECURITY;"),
        migrations.RunSQL(COPY_ADDRESSES_OF_SESSIONS, migrations.RunSQL.noop),
    ]
