"""PostgreSQL stops with the last process that used it, and not before."""

import os
import signal

import psutil

from healthcare.embedded.tests.place import Place, eventually


def test_the_server_stops_after_the_last_process(place: Place) -> None:
    program = place.program()
    program.connect()
    program.end()
    eventually(place.stopped)
    assert "database system is shut down" in (place.home / "server.log").read_text(encoding="utf-8")
    assert not (place.data / "postmaster.pid").exists()


def test_the_server_stays_while_another_process_uses_it(place: Place) -> None:
    first, second = place.program(), place.program()
    started = first.connect()
    assert second.connect() == started
    first.end()
    assert second.ask("leave") == "left"  # returns when the last one has stopped the server
    assert place.stopped()


def test_leaving_does_not_stop_it_for_the_others(place: Place) -> None:
    first, second = place.program(), place.program()
    started = first.connect()
    second.connect()
    assert second.ask("leave") == "left"
    assert first.connect() == started


def test_a_process_that_left_can_come_back(place: Place) -> None:
    program = place.program()
    started = program.connect()
    program.ask("leave")
    assert program.connect() != started


def test_a_forked_child_keeps_the_server(place: Place) -> None:
    program = place.program()
    started = program.connect()
    child = psutil.Process(int(program.ask("fork")))
    program.kill()
    other = place.program()
    other.connect()
    other.ask("leave")
    assert place.program().connect() == started
    child.kill()


def test_the_terminals_ctrl_c_does_not_reach_the_server(place: Place) -> None:
    program, other = place.program(start_new_session=True), place.program()
    started = program.connect()
    other.connect()
    os.killpg(program.process.pid, signal.SIGINT)
    program.process.wait()
    assert other.connect() == started


def test_a_sequence_of_commands_finds_the_server_still_there(place: Place) -> None:
    first = place.program()
    started = first.connect()
    second = place.program()
    assert second.connect() == started
    first.end()
    assert second.connect() == started
