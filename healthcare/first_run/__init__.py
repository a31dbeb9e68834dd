"""From a bare Python to a running project: install the packages into .venv and write the settings into .env.

This package runs before any package is installed, so it imports the standard library alone.
"""

from healthcare.first_run.env_file import write_env_file as write_env_file
from healthcare.first_run.errors import SetupError as SetupError
from healthcare.first_run.virtualenv import PROJECT as PROJECT
from healthcare.first_run.virtualenv import enter_virtualenv as enter_virtualenv
