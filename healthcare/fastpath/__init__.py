"""The direct way: an ordinary request of a record is one round trip to PostgreSQL, and no more than that.

It stands in front of Django. What a viewset declares (scope, permissions, serializer, paging) is compiled into a
statement that enters the database as the caller, reads or writes behind row-level security, records the access and
gives the answer as JSON. Django and Django REST framework stay the truth: whatever does not end as an ordinary 200 or
201 (a header or a parameter that asks for more, a token or a body that is not good, nothing found) is left to them,
and they answer as if this were not there.
"""
