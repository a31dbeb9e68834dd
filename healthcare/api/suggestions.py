"""The known name that a misspelt one most likely means."""

import re
from collections.abc import Iterable

WORD = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{3,}")  # of snake_case, kebab-case and camelCase; `is` and `id` say too little
LARGEST_DISTANCE = 2


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name within an edit distance of 2, else the one that shares most words; None if there is none."""
    words = words_of(name)
    ranked = []
    for candidate in known:
        distance = edit_distance(name.lower(), candidate)
        is_near = distance <= LARGEST_DISTANCE and distance < min(len(name), len(candidate)) - 1
        shared = len(words & words_of(candidate))
        if is_near or shared:
            ranked.append((not is_near, -shared, distance, candidate))
    return min(ranked)[-1] if ranked else None


def words_of(name: str) -> set[str]:
    return {word.lower() for word in WORD.findall(name)}


def edit_distance(one: str, other: str) -> int:
    """The Levenshtein distance: the least number of characters to insert, remove or replace."""
    row = list(range(len(other) + 1))
    for position, character in enumerate(one, start=1):
        diagonal, row[0] = row[0], position
        for index, compared in enumerate(other, start=1):
            cost = diagonal + (character != compared)
            diagonal = row[index]
            row[index] = min(row[index] + 1, row[index - 1] + 1, cost)
    return row[-1]
