"""django-ninja on the same models: a bearer token, schemas of pydantic, numbered pages with an exact count."""
