"""PostgreSQL stops after the last process that uses it ends, and not before."""

import os
import signal

import psutil
import pytest

from healthcare.embedded.tests.harness import ServerUnderTest, eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def embedded_server(initialized_server: ServerUnderTest) -> ServerUnderTest:
    return initialized_server


def test_the_server_stops_after_the_last_process(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    program.connect()
    program.end()
    eventually(embedded_server.stopped)
    assert "database system is shut down" in (embedded_server.home / "server.log").read_text(encoding="utf-8")
    assert not (embedded_server.data / "postmaster.pid").exists()


def test_the_server_stays_while_another_process_uses_it(embedded_server: ServerUnderTest) -> None:
    first, second = embedded_server.program(), embedded_server.program()
    started = first.connect()
    assert second.connect() == started
    first.end()
    assert second.request("detach") == "detached"  # returns after the server has stopped
    assert embedded_server.stopped()


def test_detaching_does_not_stop_it_for_the_others(embedded_server: ServerUnderTest) -> None:
    first, second = embedded_server.program(), embedded_server.program()
    started = first.connect()
    second.connect()
    assert second.request("detach") == "detached"
    assert first.connect() == started


def test_a_process_that_detached_can_connect_again(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    started = program.connect()
    program.request("detach")
    assert program.connect() != started


def test_a_forked_child_keeps_the_server(embedded_server: ServerUnderTest) -> None:
    program = embedded_server.program()
    started = program.connect()
    child = psutil.Process(int(program.request("fork")))
    program.kill()
    other = embedded_server.program()
    other.connect()
    other.request("detach")
    assert embedded_server.program().connect() == started
    child.kill()


def test_ctrl_c_in_the_terminal_does_not_stop_the_server(embedded_server: ServerUnderTest) -> None:
    program, other = embedded_server.program(start_new_session=True), embedded_server.program()
    started = program.connect()
    other.connect()
    os.killpg(program.process.pid, signal.SIGINT)
    program.process.wait()
    assert other.connect() == started


def test_a_sequence_of_commands_uses_one_server(embedded_server: ServerUnderTest) -> None:
    first = embedded_server.program()
    started = first.connect()
    second = embedded_server.program()
    assert second.connect() == started
    first.end()
    assert second.connect() == started
