"""Counts that are exact up to 10,000 rows, and the planner's estimate above."""

import datetime

import pytest
from django.utils import timezone

from audit.models import AccessLog
from healthcare.admin.counts import Count, about, count_rows, total
from healthcare.admin.tests.access_rows import add_accesses
from healthcare.tests.admin_pages import named_queries
from healthcare.tests.planner import rewrite_and_analyze

NOW = timezone.make_aware(datetime.datetime(2026, 11, 26, 12))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "about 0"), (-3, "about 0"), (7.4, "about 7"), (99, "about 99"), (10_049, "about 10,000"),
        (1_003_412, "about 1,000,000"), (1_260_000, "about 1,300,000"), (10**18 + 1, f"about {10**18:,}"),
    ],
)  # fmt: skip
def test_an_estimate_is_rounded_to_two_digits(number: float, text: str):
    assert str(about(number)) == text
    assert abs(about(number).number - max(number, 0)) <= max(abs(number) / 20, 0.5) or number < 0


def test_a_total_is_exact_if_its_parts_are():
    assert total([Count(7_000), Count(7_001)]) == Count(14_001)
    assert total([Count(7_000), about(7_100)]) == Count(14_000, "about")
    assert total([]) == Count(0)


@pytest.mark.django_db
def test_up_to_ten_thousand_rows_are_counted_exactly():
    assert str(count_rows(AccessLog.objects.order_by("id"))) == "0"
    add_accesses(NOW, copies=10_000)
    assert str(count_rows(AccessLog.objects.order_by("id"))) == "10,000"
    assert str(count_rows(AccessLog.objects.filter(outcome=404).order_by("id"))) == "0"


@pytest.mark.django_db
def test_above_the_planner_estimates():
    add_accesses(NOW, copies=30_000)
    add_accesses(NOW, copies=3_000, outcome=404)
    rewrite_and_analyze("audit_accesslog")
    with named_queries() as names:
        assert str(count_rows(AccessLog.objects.order_by("id"))) == "about 33,000"
    assert names == ["select count audit_accesslog"]
    refused = AccessLog.objects.filter(outcome=404).order_by("id")
    with named_queries() as names:
        assert str(count_rows(refused)) == "3,000"
    assert names == ["select count audit_accesslog"]


@pytest.mark.django_db
def test_rows_of_a_table_that_was_never_analyzed_are_more_than_ten_thousand():
    add_accesses(NOW, copies=11_000, outcome=404)
    assert str(count_rows(AccessLog.objects.filter(outcome=404).order_by("id"))) == "more than 10,000"
