"""Sends e-mails, of notices, of links and of what has happened to an account, where e-mail is configured (EMAIL_URL). A
thread sends them, so that no request waits.

An e-mail that fails is logged and not tried again. Neither its address nor its text is ever logged.
"""

import atexit
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from queue import Full, Queue

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import transaction

logger = logging.getLogger("healthcare.mail")

LONGEST_QUEUE = 1000  # e-mails; further ones are dropped, and the log says so
PAUSE = 0.1  # seconds in which the request is answered: its time must not tell that there was something to send
_queue: Queue[tuple[float, EmailMessage]] = Queue(LONGEST_QUEUE)
_start_lock = threading.Lock()
_sender: threading.Thread | None = None


@dataclass(frozen=True)
class Message:
    """An e-mail that tells what has happened to an account. It names no person: see `accounts.email_links.messages`."""

    subject: str
    body: str

    def send_to(self, *addresses: str) -> None:
        send_later(addresses, self.subject, self.body)


def is_configured() -> bool:
    """Whether this server sends e-mails."""
    return bool(settings.EMAIL_CONFIGURED)


def send_later(addresses: Iterable[str], subject: str, body: str) -> None:
    """Queue an e-mail to each address, if e-mail is configured. Call it when the transaction has committed.

    Without an address one is queued that is not sent, which takes the request the same time.
    """
    if not is_configured():
        return
    for recipients in [[address] for address in addresses] or [[]]:
        try:
            _queue.put_nowait((time.monotonic() + PAUSE, EmailMessage(subject, body, to=recipients)))
        except Full:
            logger.error("e-mail dropped: %d are waiting to be sent", LONGEST_QUEUE)
    start_sender()


def send_on_commit(message: Message, address: str | None) -> None:
    """Send the message once the transaction has committed. `address` is None for a clinic, which gets none."""
    if address:
        transaction.on_commit(partial(message.send_to, address), robust=True)


def start_sender() -> None:
    global _sender  # noqa: PLW0603  (one thread a process)
    with _start_lock:
        if _sender is None or not _sender.is_alive():  # a forked process has none
            _sender = threading.Thread(target=send_queued, name="mail", daemon=True)
            _sender.start()
            atexit.unregister(send_remaining)
            atexit.register(send_remaining)


def send_queued() -> None:
    while True:
        send_at, message = _queue.get()
        try:
            time.sleep(max(0, send_at - time.monotonic()))
            if message.recipients():
                get_connection().send_messages([message])
        except Exception as error:  # noqa: BLE001  (whatever the server or the network does)
            logger.error("e-mail not sent: %s", type(error).__name__)  # noqa: TRY400  (its text may name an address)
        finally:
            _queue.task_done()


def send_remaining() -> None:
    """Wait for the e-mails that are queued when the process ends, such as that of a command, for a limited time."""
    with _queue.all_tasks_done:
        _queue.all_tasks_done.wait_for(lambda: not _queue.unfinished_tasks, timeout=settings.EMAIL_TIMEOUT)
    if _queue.unfinished_tasks:
        logger.error("e-mails not sent before the process ended: %d", _queue.unfinished_tasks)
