from rest_framework.exceptions import ParseError


class FileRefused(ParseError):  # noqa: N818  (named like the exceptions of healthcare.api)
    """A fault of a whole file: 400 for what the file contains, 413 for its size. `detail` never repeats its content."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail, code)
        self.status_code = status
