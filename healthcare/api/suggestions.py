"""The known name that a misspelt one most likely means."""

import re
from collections.abc import Iterable, Set

WORD_OF_NAME = re.compile(
    r"[A-Z]?[a-z]{3,}|[A-Z]{3,}"
)  # of snake_case, kebab-case and camelCase; `is` and `id` say too little
# Words of many names: alone they say nothing. `death_date` must not become `birth_date`.
GENERIC_WORDS = {"date", "number", "year", "medical"}
LARGEST_DISTANCE = 2


def nearest_name(name: str, known: Iterable[str], sent: Set[str] = frozenset()) -> str | None:
    """The known name that is misspelt as `name`, else the one that shares the largest part of its words.

    None if there is none. A name that was `sent` beside this one is not what another word for it means.
    """
    words = words_of(name)
    ranked = []
    for candidate in known:
        distance, candidate_words = edit_distance(name.lower(), candidate), words_of(candidate)
        shared = words & candidate_words
        if is_misspelling(name, candidate, distance):
            ranked.append((0, 0.0, 0, distance, candidate))
        elif shared - GENERIC_WORDS and candidate not in sent:
            place = min(words_in_order(name).index(word) for word in shared)
            ranked.append((1, -len(shared) / len(candidate_words), place, distance, candidate))
    return min(ranked)[-1] if ranked else None


def is_misspelling(name: str, candidate: str, distance: int) -> bool:
    """Whether few characters differ. In a short name one, or two that are swapped: `note` is not `name`."""
    if len(candidate) <= 4 and distance == 2:
        return sorted(name.lower()) == sorted(candidate)
    return distance <= LARGEST_DISTANCE and distance < min(len(name), len(candidate)) - 1


def words_of(name: str) -> set[str]:
    return set(words_in_order(name))


def words_in_order(name: str) -> list[str]:
    """The words of a name in lower case and in the singular."""
    return [word.lower().removesuffix("s") for word in WORD_OF_NAME.findall(name)]


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
