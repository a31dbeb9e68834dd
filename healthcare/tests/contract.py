"""The contract of the project's own pages."""

from healthcare.tests.declarations import Contract, Row

PAGE = {"GET": 200, "OPTIONS": 405}

CONTRACT = Contract(
    rows=[
        Row("", "PAGE", PAGE),
        Row("api/", "PAGE", PAGE),
        Row("healthz", "PAGE", PAGE),
        Row("readyz", "PAGE", PAGE),
        Row("api/docs/", "PAGE", PAGE),
        Row("api/schema/", "PAGE", {"GET": 200}),
    ]
)
