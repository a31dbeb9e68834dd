from django.db import migrations

from healthcare.rls.operations import RowSecurity
from healthcare.search.operations import KeepTerms


class Migration(migrations.Migration):
    dependencies = [("doctors", "0001_initial"), ("rls", "0001_role"), ("search", "0001_initial")]
    operations = [
        RowSecurity(
            "Doctor",
            """
            ALTER TABLE doctors_doctor ENABLE ROW LEVEL SECURITY;
            CREATE POLICY read ON doctors_doctor FOR SELECT TO healthcare_api USING (true);
            CREATE POLICY add ON doctors_doctor FOR INSERT TO healthcare_api
                WITH CHECK (created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            CREATE POLICY change ON doctors_doctor FOR UPDATE TO healthcare_api
                USING ((SELECT nullif(current_setting('app.user_id', true), '')::bigint) IS NOT NULL);
            GRANT SELECT, INSERT, UPDATE ON doctors_doctor TO healthcare_api;
            """,
        ),
        RowSecurity(
            "DoctorEvent",
            """
            ALTER TABLE doctors_doctorevent ENABLE ROW LEVEL SECURITY;
            CREATE POLICY read ON doctors_doctorevent FOR SELECT TO healthcare_api USING (true);
            GRANT SELECT ON doctors_doctorevent TO healthcare_api;
            """,
        ),
        RowSecurity(
            "DoctorTerm",
            """
            ALTER TABLE doctors_doctorterm ENABLE ROW LEVEL SECURITY;
            CREATE POLICY read ON doctors_doctorterm FOR SELECT TO healthcare_api USING (true);
            GRANT SELECT ON doctors_doctorterm TO healthcare_api;
            """,
        ),
        RowSecurity(
            "DoctorWord",
            """
            ALTER TABLE doctors_doctorword ENABLE ROW LEVEL SECURITY;
            CREATE POLICY read ON doctors_doctorword FOR SELECT TO healthcare_api USING (true);
            GRANT SELECT ON doctors_doctorword TO healthcare_api;
            """,
        ),
        KeepTerms(
            table="doctors_doctor", terms="doctors_doctorterm", words="doctors_doctorword",
            name="name", identifier="license_number", phone="phone", email="email",
        ),
    ]
