"""The likeness of names in Python, for many pairs of names at once: the same ranks as a search for one name among the
terms of the other gives (`vocabulary`, `statements`), without the limits on how many words a search looks up.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from heapq import nlargest
from itertools import combinations, starmap, takewhile
from typing import TypeVar

from django.db import connection

from healthcare.characters import FULL_WIDTH
from healthcare.phones import as_search_text
from healthcare.search import plain_text
from healthcare.search.vocabulary import MOST_BEGINNINGS

EQUAL, BEGINS_SO, SIMILAR = 0, 1, 2  # the ranks
MOST_READ, MOST_SIMILAR = 2000, 12  # words: that begin so, of which the shortest count; that are similar
SHORTEST_SIMILAR = 3  # letters of a word that others may resemble
SCHEMA_OF_SIMILARITY = """
SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
WHERE extname = 'pg_trgm' AND EXISTS (SELECT FROM pg_extension WHERE extname = 'btree_gin')
"""
READS_PLAIN_NAMES = 'SELECT search_fold(upper(%(letters)s COLLATE "C")) = %(letters)s'
READ_ASKED = """
SELECT words, CASE WHEN cardinality(words) BETWEEN 2 AND 3 THEN search_key(text) ELSE '' END
FROM unnest(%s::text[]) WITH ORDINALITY AS asked(text, place), search_asked(text) words ORDER BY place
"""

Read = TypeVar("Read")


@dataclass(frozen=True)
class AskedName:
    """The words of a name that is searched for, and all of it as one word where that is searched for too."""

    words: list[str]
    key: str


class NameReader:
    """Reads names as a search for them does, and as the terms of a record with them do. Remembers whether names of
    ASCII letters need PostgreSQL: where its lower() follows a Turkish locale, all names do."""

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(READS_PLAIN_NAMES, {"letters": plain_text.LETTERS})
            self.reads_plain_names: bool = cursor.fetchone()[0]

    def read_asked(self, names: Sequence[str]) -> list[AskedName]:
        return self.read(names, plain_asked, read_asked)

    def read_stored(self, names: Sequence[str]) -> list["StoredName"]:
        """What a record with each of these names would be found by."""
        return self.read(names, plain_stored, read_stored)

    def read(
        self,
        names: Sequence[str],
        plain: Callable[[str], Read | None],
        read_others: Callable[[list[str]], list[Read]],
    ) -> list[Read]:
        found = [plain(name) if self.reads_plain_names else None for name in names]
        others = [name for name, one in zip(names, found, strict=True) if one is None]
        read = iter(read_others(others) if others else [])
        return [next(read) if one is None else one for one in found]


def plain_asked(name: str) -> AskedName | None:
    words = plain_text.asked_words(name)
    if words is None:
        return None
    return AskedName(words, name.lower().replace(" ", "") if 2 <= len(words) <= 3 else "")


def read_asked(names: Iterable[str]) -> list[AskedName]:
    with connection.cursor() as cursor:
        cursor.execute(READ_ASKED, [[as_search_text(name.translate(FULL_WIDTH)) for name in names]])
        return [AskedName(words, key) for words, key in cursor.fetchall()]


@dataclass(frozen=True)
class StoredName:
    """The terms that a record is found by, and which of them are single words."""

    terms: frozenset[str]
    words: list[str]

    @classmethod
    def of(cls, terms: Iterable[str]) -> "StoredName":
        return cls(frozenset(terms), [term for term in terms if " " not in term and ":" not in term])


def plain_stored(name: str) -> StoredName | None:
    words = plain_text.name_words(name)
    if words is None:
        return None
    return StoredName(frozenset(words).union(starmap(pair_of, combinations(words, 2))), words)


def read_stored(names: Iterable[str]) -> list[StoredName]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT search_terms(name, '', '', '') FROM unnest(%s::text[]) WITH ORDINALITY AS one(name, place) "
            "ORDER BY place",
            [list(names)],
        )
        return [StoredName.of(terms) for (terms,) in cursor.fetchall()]


def pair_of(word: str, other: str) -> str:
    """The term of a name with both words."""
    return f"{word} {other}" if word < other else f"{other} {word}"


MOST_PAIRS_REMEMBERED = 20_000  # of words; a batch of long names has many millions
MOST_WORDS_REMEMBERED = 10_000


class WordLikeness:
    """Ranks words by their likeness, as the function `<words>_near` does. Remembers what it has ranked."""

    def __init__(self) -> None:
        self.rank = lru_cache(MOST_PAIRS_REMEMBERED)(self._rank)
        self.trigrams = lru_cache(MOST_WORDS_REMEMBERED)(self._trigrams)
        self.one_edit_away = lru_cache(MOST_WORDS_REMEMBERED)(one_edit_away)
        self.letters: dict[str, bool] = {}  # which characters, other than ASCII's, are letters to pg_trgm
        with connection.cursor() as cursor:
            cursor.execute(SCHEMA_OF_SIMILARITY)
            row = cursor.fetchone()
        self.schema = row[0] if row else None

    def learn(self, words: Iterable[str]) -> None:
        """Prepare to rank these words: the locale of the database decides which characters are letters to pg_trgm."""
        characters = {character for word in words if not word.isascii() for character in word if character > "\x7f"}
        unknown = sorted(characters - self.letters.keys())
        if self.schema and unknown:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT one, cardinality({self.schema}.show_trgm(one)) > 0 FROM unnest(%s::text[]) one",  # noqa: S608
                    [unknown],
                )
                self.letters.update(cursor.fetchall())

    def _rank(self, asked: str, word: str) -> int | None:
        if asked == word:
            return EQUAL
        if word.startswith(asked):
            return BEGINS_SO
        if not self.schema or len(asked) < SHORTEST_SIMILAR:
            return None
        if abs(len(asked) - len(word)) <= 1 and word in self.one_edit_away(asked):
            return SIMILAR
        trigrams, others = self.trigrams(asked), self.trigrams(word)
        shared = len(trigrams & others)
        similar = shared and are_similar(asked, word, shared, len(trigrams) + len(others) - shared)
        return SIMILAR if similar else None

    def closeness(self, asked: str, word: str) -> tuple[bool, float]:
        """The more, the closer. Words one edit away are closer than all others."""
        trigrams, others = self.trigrams(asked), self.trigrams(word)
        one_edit = word in self.one_edit_away(asked) or is_one_letter_more_or_replaced(asked, word)
        return one_edit, len(trigrams & others) / (len(trigrams | others) or 1)

    def _trigrams(self, word: str) -> frozenset[str]:
        """The trigrams of pg_trgm: of each part of letters and digits, with two spaces before it and one behind it."""
        parts = [word]
        if not word.isascii():
            letters = "".join(one if one <= "\x7f" or self.letters.get(one) else " " for one in word)
            parts = letters.split()
        padded = [f"  {part} " for part in parts]
        return frozenset(part[at : at + 3] for part in padded for at in range(len(part) - 2))


class Vocabulary:
    """Words, and which of them are like a word that is asked for. At most as many as a search looks up.

    It remembers what is like a word, and looks only at words that were added since.
    """

    def __init__(self, likeness: WordLikeness) -> None:
        self.likeness = likeness
        self.names = NameReader()
        self.forget()

    def forget(self) -> None:
        self.places: dict[str, int] = {}
        self.words: list[str] = []  # by place
        self.sorted: list[str] = []
        self.with_trigram: defaultdict[str, list[int]] = defaultdict(list)  # the places, in order
        self.trigrams: list[int] = []  # the number of trigrams of each word
        self.found: dict[str, tuple[int, list[str]]] = {}  # what is similar among so many words

    def replace(self, words: Set[str]) -> None:
        """Have these words instead."""
        if not self.places.keys() <= words:
            self.forget()
        new = sorted(words - self.places.keys())
        self.likeness.learn(new)
        for place, word in enumerate(new, start=len(self.words)):
            self.places[word] = place
            trigrams = self.likeness.trigrams(word)
            self.trigrams.append(len(trigrams))
            for trigram in trigrams:
                self.with_trigram[trigram].append(place)
        self.words += new
        self.sorted = sorted(self.words)

    def near(self, asked: str) -> list[str]:
        start = bisect_left(self.sorted, asked)
        places = range(start, min(start + MOST_READ, len(self.sorted)))
        begun = list(takewhile(lambda word: word.startswith(asked), map(self.sorted.__getitem__, places)))
        begun.sort(key=len)
        return [*{*begun[: MOST_BEGINNINGS["most_of_several"]], *self.similar(asked)}]

    def similar(self, asked: str) -> list[str]:
        if not self.likeness.schema or len(asked) < SHORTEST_SIMILAR:
            return []
        first, similar = self.found.get(asked, (0, []))
        if first < len(self.words):
            similar = [*similar, *self.similar_from(asked, first)]
            if len(similar) > MOST_SIMILAR:
                similar = nlargest(MOST_SIMILAR, sorted(similar), key=lambda word: self.likeness.closeness(asked, word))
            if len(self.found) >= MOST_WORDS_REMEMBERED:
                self.found.clear()
            self.found[asked] = len(self.words), similar
        return similar

    def similar_from(self, asked: str, first: int) -> set[str]:
        """The similar words from this place on."""
        trigrams = self.likeness.trigrams(asked)
        shared: Counter[int] = Counter()
        for trigram in trigrams:
            places = self.with_trigram.get(trigram, [])
            shared.update(places[bisect_left(places, first) :] if first else places)
        mine, least = len(trigrams), len(trigrams) / 4
        found = set()
        for place, count in shared.items():
            if count < least or 4 * count < (union := mine + self.trigrams[place] - count):
                continue
            word = self.words[place]
            # Spares most calls of `are_similar`, which tells about a letter more or replaced.
            if 20 * count > 7 * union or (0 <= len(word) - len(asked) <= 1 and are_similar(asked, word, count, union)):
                found.add(word)
        found.update(word for word in self.likeness.one_edit_away(asked) if self.places.get(word, -1) >= first)
        return found

    def has(self, word: str) -> bool:
        return word in self.places


def one_edit_away(asked: str) -> frozenset[str]:
    """The word with one letter removed, or with two letters that are side by side swapped."""
    removed = (asked[:at] + asked[at + 1 :] for at in range(len(asked)))
    swapped = (asked[:at] + asked[at + 1] + asked[at] + asked[at + 2 :] for at in range(len(asked) - 1))
    return frozenset({*removed, *swapped})


def are_similar(asked: str, word: str, shared: int, union: int) -> bool:
    """Whether their trigrams differ little, or not too much and the word has one letter more or one replaced.

    The similarity of pg_trgm has single precision, in which 0.35 and 0.26 are a little less than that.
    """
    if 4 * shared < union:
        return False
    if 20 * shared > 7 * union:
        return True
    return (len(asked) > SHORTEST_SIMILAR or 50 * shared > 13 * union) and is_one_letter_more_or_replaced(asked, word)


def is_one_letter_more_or_replaced(asked: str, word: str) -> bool:
    if len(word) - len(asked) not in {0, 1}:
        return False
    same = next((at for at, (one, other) in enumerate(zip(asked, word, strict=False)) if one != other), len(asked))
    return asked[same + len(asked) + 1 - len(word) :] == word[same + 1 :]


def rank_name(asked: AskedName, stored: StoredName, rank: Callable[[str, str], int | None]) -> int | None:
    """The rank at which a search for the name finds the record, or None.

    Two words of the name must be like two different words of one name of the record; further ones like any word.
    """
    terms = stored.terms
    by_key = BEGINS_SO if asked.key and asked.key in terms else None
    near: list[dict[str, int]] = []
    for one in asked.words:
        near.append({word: likeness for word in stored.words if (likeness := rank(one, word)) is not None})
        if not near[-1]:
            return by_key
    if not near:
        return None
    best = [min(ranks.values()) for ranks in near]
    found = [by_key] if by_key is not None else []
    if len(near) == 1:
        found += best
    else:
        found += [
            max(one, two, *best[2:])
            for word, one in near[0].items()
            for other, two in near[1].items()
            if word != other and pair_of(word, other) in terms
        ]
        found += [max(one, *best[1:]) for word, one in near[0].items() if f"long:{word}" in terms]
    return min(found, default=None)
