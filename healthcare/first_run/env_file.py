"""The .env that `manage.py serve` writes when there is none."""

import os
import re
import secrets
import tempfile
from pathlib import Path

from healthcare.first_run.errors import print_progress, setup_error_from_os_error
from healthcare.first_run.virtualenv import PROJECT

LOCAL_HOSTS = "localhost,127.0.0.1,[::1]"
HTTPS_COMMENT = "# False: this machine only, without TLS. Set it to True behind a proxy that terminates TLS."


def write_env_file(project: Path = PROJECT) -> None:
    """Write .env from .env.example with a new SECRET_KEY, DEBUG off and local hosts only.

    Do nothing if .env exists, or if the environment has SECRET_KEY: then the project is configured there.
    """
    if (project / ".env").exists() or os.environ.get("SECRET_KEY"):
        return
    try:
        example = (project / ".env.example").read_text(encoding="utf-8")
        if create_private_file(project / ".env", render_env_file(example)):
            print_progress("Wrote .env with a fresh SECRET_KEY.")
    except OSError as error:
        raise setup_error_from_os_error(error, project) from error


def render_env_file(example: str) -> str:
    """Return the example with its comments, and with values that are safe to serve with."""
    values = {"SECRET_KEY": secrets.token_urlsafe(50), "DEBUG": "False", "ALLOWED_HOSTS": LOCAL_HOSTS}
    for name, value in values.items():
        example = re.sub(rf"^{name}=.*$", f"{name}={value}", example, count=1, flags=re.MULTILINE)
    return re.sub(r"^# ?HTTPS=.*$", f"{HTTPS_COMMENT}\nHTTPS=False", example, count=1, flags=re.MULTILINE)


def create_private_file(path: Path, text: str) -> bool:
    """Create the file atomically, readable by its owner only. Return False if another process created it first."""
    descriptor, temporary = tempfile.mkstemp(prefix=".env.new-", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True
