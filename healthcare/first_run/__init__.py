"""From a bare Python to a running project: the packages in .venv and the settings in .env.

Runs before any package is installed, so it uses the standard library alone.
"""

from healthcare.first_run.failure import CannotRunError as CannotRunError
from healthcare.first_run.settings_file import write_settings as write_settings
from healthcare.first_run.virtualenv import enter_environment as enter_environment
