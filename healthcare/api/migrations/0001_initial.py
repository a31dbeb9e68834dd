import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from healthcare.rls.operations import RowSecurity

# Health data must not stay because its caller never comes back: every new answer and every login removes what has
# expired, whoever it belonged to. With the owner's rights, since the caller does not see it; a little at a time, and
# never waiting for somebody who removes the same.
FORGET = """
CREATE FUNCTION forget_expired_answers() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM api_idempotencyrecord WHERE digest IN (
        SELECT digest FROM api_idempotencyrecord WHERE expires_at <= now()
        ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED);
    RETURN NULL;
END $$;
CREATE TRIGGER forget_expired_answers AFTER INSERT ON api_idempotencyrecord
FOR EACH STATEMENT EXECUTE FUNCTION forget_expired_answers();
CREATE TRIGGER forget_expired_answers AFTER INSERT ON accounts_loginsession
FOR EACH STATEMENT EXECUTE FUNCTION forget_expired_answers();
"""
KEEP = """
DROP TRIGGER forget_expired_answers ON accounts_loginsession;
DROP TRIGGER forget_expired_answers ON api_idempotencyrecord;
DROP FUNCTION forget_expired_answers();
"""


class Migration(migrations.Migration):
    initial = True
    dependencies = [("accounts", "0002_wall"), ("rls", "0001_role")]
    operations = [
        migrations.CreateModel(
            name="IdempotencyRecord",
            fields=[
                (
                    "digest",
                    models.CharField(
                        help_text="Of the caller and the key.", max_length=64, primary_key=True, serialize=False
                    ),
                ),
                (
                    "fingerprint",
                    models.CharField(help_text="Of the request: method, path and body.", max_length=64),
                ),
                ("status", models.PositiveSmallIntegerField()),
                ("headers", models.JSONField(default=dict)),
                ("body", models.TextField(blank=True)),
                ("expires_at", models.DateTimeField(db_index=True)),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        RowSecurity("IdempotencyRecord", "user", grants=["SELECT", "INSERT", "DELETE"]),
        migrations.RunSQL(FORGET, KEEP),
    ]
