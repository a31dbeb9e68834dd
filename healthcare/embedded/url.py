"""The scheme `embedded` of DATABASE_URL."""

from pathlib import Path

import dj_database_url

from healthcare.project import PROJECT

DATABASE_NAME = "healthcare"


@dj_database_url.register("embedded", "healthcare.embedded")
def configure_embedded(config: dj_database_url.DBConfig) -> None:
    """Convert `embedded:` (.postgres in the project) or `embedded:///some/folder` to Django's settings.

    Raises ValueError if the URL names a host, a port or an account: an embedded server has none.
    """
    if config["HOST"] or config["PORT"] or config["USER"] or config["PASSWORD"]:
        raise ValueError("embedded: takes a folder only, as in embedded:///some/folder")
    folder = config["NAME"]
    # Django keeps unknown keys; the backend reads this one.
    config["EMBEDDED_HOME"] = str(Path("/", folder) if folder else PROJECT / ".postgres")  # type: ignore[typeddict-unknown-key]
    config["NAME"] = DATABASE_NAME
    config["OPTIONS"] = {}
