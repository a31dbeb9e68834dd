"""The admin of the audit: the access log of pages, the history of records, access log and seals."""

from audit.admin.history import EventHistoryPages
from healthcare.admin.history import HistoryAdmin

HistoryAdmin.register_history_pages(EventHistoryPages())

from audit.admin import logs  # noqa: E402, F401  (registers itself)
