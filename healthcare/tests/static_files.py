"""One list of the static files for all test clients of a process: each client lists them anew, which takes 27 ms."""

from typing import Any

from whitenoise.middleware import WhiteNoiseMiddleware


def install() -> None:
    """Let every further client take the list of the first."""
    list_files = WhiteNoiseMiddleware.add_files_from_finders
    found: dict[str, Any] = {}

    def add_files(middleware: WhiteNoiseMiddleware) -> None:
        if not found:
            list_files(middleware)
            found.update(middleware.files)
        middleware.files = found

    WhiteNoiseMiddleware.add_files_from_finders = add_files
