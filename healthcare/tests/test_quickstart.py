"""scripts/quickstart.sh does what it says, against a live server."""

import socket
import threading

import pytest

from healthcare.tests.curl_commands import (
    SHOWN_IN_ACCOUNTS_PAGE,
    SHOWN_IN_PAGES_ABOUT_FILES,
    calls_in,
    contract_calls,
    run_bash,
)
from healthcare.tests.live import LiveServer, free_port

QUICKSTART = 'exec scripts/quickstart.sh "$1"'


def answer_once(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 418 Teapot\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")


def test_the_script_makes_every_call_of_the_contract(live: LiveServer):
    done = run_bash(QUICKSTART, live.url)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    shown = "\n".join(line for line in done.stdout.splitlines() if line.startswith("$ curl"))
    assert calls_in(shown) == contract_calls() - SHOWN_IN_ACCOUNTS_PAGE - SHOWN_IN_PAGES_ABOUT_FILES


@pytest.mark.slow
def test_the_script_can_be_run_again_on_the_same_server(live: LiveServer):
    assert [run_bash(QUICKSTART, live.url + "/").returncode for _ in range(2)] == [0, 0]


def test_the_script_stops_at_the_first_unexpected_answer():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        answering = threading.Thread(target=answer_once, args=[listener])
        answering.start()
        done = run_bash(QUICKSTART, f"http://127.0.0.1:{listener.getsockname()[1]}")
        answering.join()
    assert done.returncode == 1
    assert done.stdout.count("$ curl") == 1
    assert "Expected 201 instead of 418." in done.stderr


def test_the_script_says_that_the_server_does_not_run():
    done = run_bash(QUICKSTART, f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "does not answer. Is the server running?" in done.stderr
