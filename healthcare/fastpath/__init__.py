"""The fast path: an action of a viewset answered by one SQL statement, within Django's request handling.

A viewset opts in with `FastPathMixin` and names the actions in `fast_actions`. When its URL is built, `eligibility`
compares every member that takes part in such an action, by identity, with the ones this package reproduces. An action
with any other member uses Django REST framework, and `manage.py check` names that member.

The statement enters the database as the caller, reads or writes behind row-level security, records the access and
returns the body as JSON, or rows that Python represents, in one round trip. Whatever it does not know (another query
parameter, a body that does not validate, a record that is not there for a write) goes to Django REST framework, which
answers as if this package did not exist. `FAST_PATH=off` sends every request there; `FAST_PATH=verify` compares both
answers of each read.
"""
