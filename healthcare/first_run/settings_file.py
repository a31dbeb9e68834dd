"""The .env that `manage.py serve` writes when there is none."""

import os
import re
import secrets
import tempfile
from pathlib import Path

from healthcare.first_run.failure import from_os_error, say

PROJECT = Path(__file__).resolve().parent.parent.parent
HOSTS = "localhost,127.0.0.1,[::1]"
HTTPS_COMMENT = "# False: this machine only, without TLS. Set it to True behind a proxy that ends TLS."


def write_settings(project: Path = PROJECT) -> None:
    """Write .env from .env.example with a fresh key, for this machine only and with DEBUG off.

    Not when there is one, nor when SECRET_KEY comes from the environment: then somebody configures the project there.
    """
    if (project / ".env").exists() or os.environ.get("SECRET_KEY"):
        return
    try:
        example = (project / ".env.example").read_text(encoding="utf-8")
        if place(project / ".env", fill_in(example)):
            say("Wrote .env with a fresh SECRET_KEY.")
    except OSError as error:
        raise from_os_error(error, project) from error


def fill_in(example: str) -> str:
    """The example with its comments, and the values under which it is safe to serve."""
    values = {"SECRET_KEY": secrets.token_urlsafe(50), "DEBUG": "False", "ALLOWED_HOSTS": HOSTS}
    for name, value in values.items():
        example = re.sub(rf"^{name}=.*$", f"{name}={value}", example, count=1, flags=re.MULTILINE)
    return re.sub(r"^# ?HTTPS=.*$", f"{HTTPS_COMMENT}\nHTTPS=False", example, count=1, flags=re.MULTILINE)


def place(path: Path, text: str) -> bool:
    """Make the file whole or not at all, readable by its owner only; False when somebody else was first."""
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
