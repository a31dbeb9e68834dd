"""The names of the users whom the history and the access log name by id.

Row-level security shows a caller no other user, so a function of the database with the rights of its owner gives the
name, in the statement that finds the id. It gives NULL for a user who does not exist any more.
"""

from django.db import models

ACTOR_NAME_SQL = "named_user({actor})->>'name'"


class ActorName(models.Func):
    """The name of the user whose id an expression gives."""

    template = ACTOR_NAME_SQL.format(actor="%(expressions)s")
    output_field = models.CharField()
