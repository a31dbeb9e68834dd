"""Concurrent registrations of one account, over real connections."""

from functools import partial

import pytest

from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import Answer, LiveServer


def refused_as(answers: list[Answer]) -> set[tuple[str, str]]:
    return {(error["pointer"], error["code"]) for answer in answers if answer.status == 400 for error in errors(answer)}


def errors(answer: Answer) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = answer.json["errors"]
    return listed


@pytest.mark.slow
def test_of_sixteen_concurrent_registrations_of_one_account_one_succeeds(live: LiveServer):
    for turn in range(50):
        account = {"name": "Eve", "email": f"eve{turn}@example.org", "username": f"eve{turn}", "password": "Kf7-twelve"}
        answers = call_concurrently(*[partial(live.call, "POST", "/api/auth/register/", account)] * 16)
        assert sorted_statuses(answers) == [201] + [400] * 15
        assert refused_as(answers) == {("/email", "unique")}


def test_of_concurrent_registrations_of_one_username_in_any_case_one_succeeds(live: LiveServer):
    for turn in range(5):
        spellings = [f"{name}{turn}" for name in ("mallory", "Mallory", "MALLORY", "mALLORY")]
        accounts = [
            {
                "name": "Mallory",
                "email": f"m{number}-{turn}@example.org",
                "username": spelling,
                "password": "Kf7-twelve",
            }
            for number, spelling in enumerate(spellings)
        ]
        answers = call_concurrently(
            *[partial(live.call, "POST", "/api/auth/register/", account) for account in accounts]
        )
        assert sorted_statuses(answers) == [201, 400, 400, 400]
        assert refused_as(answers) == {("/username", "unique")}
