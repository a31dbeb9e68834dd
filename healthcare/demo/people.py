"""People who do not exist, with names in many scripts from Faker.

Nobody can be reached: phones are in ranges that regulators reserve for fiction, or begin with 00 after the country
code, where no number does; e-mails are under the domains of RFC 2606.
"""

import datetime
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from faker import Factory

PROVIDERS = ["faker.providers.person", "faker.providers.address"]
PLAUSIBLE_NAME = re.compile(r"[^\W\d_][^\d_(){}\[\]:;,/|.]*")
ROMAN_NUMERAL = re.compile(r"\b[IVX]{2,}\b")
# RFC 2606.
MAIL_DOMAINS = ("example.org", "example.com", "example.net")
HANDLES = ("lotus", "maple", "harbour", "cedar", "lantern", "meadow", "falcon", "amber", "willow", "comet")
NOWHERE = "+{code} 00 5550 ####"
AREAS = ("202", "212", "303", "312", "415", "503", "602", "617", "713", "808")


@dataclass(frozen=True)
class Culture:
    """Where somebody comes from. In a phone, # stands for a digit."""

    locale: str  # of Faker
    language: str  # BCP 47
    phones: Sequence[str]
    family_first: bool = False
    joined: bool = False  # names are written without a space
    gendered: bool = False  # family names differ by gender
    cities: Sequence[str] = ()  # where Faker has no addresses


def nowhere(code: int) -> list[str]:
    return [NOWHERE.format(code=code)]


CULTURES = (
    # Ofcom's numbers for drama, and those of the 555-01 range of the North American Numbering Plan
    Culture("en_GB", "en-GB", ["+44 20 7946 0###", "+44 161 496 0###", "+44 7700 900###"]),
    Culture("en_US", "en-US", [f"+1 {area} 555 01##" for area in AREAS]),
    Culture("de_DE", "de", ["+49 30 23125 ###", "+49 89 99998 ###", "+49 40 66969 ###"]),  # Bundesnetzagentur
    Culture("fr_FR", "fr", ["+33 1 99 00 ## ##", "+33 6 39 98 ## ##"]),  # Arcep
    Culture("sv_SE", "sv", ["+46 8 465 004 ##", "+46 31 390 06 ##"]),  # PTS
    Culture("en_IN", "en-IN", nowhere(91)),
    Culture("hi_IN", "hi", nowhere(91)),
    Culture("ta_IN", "ta", nowhere(91)),
    Culture("bn_BD", "bn", nowhere(880)),
    Culture("ar_AA", "ar", nowhere(962), cities=("عمّان", "إربد", "الزرقاء", "العقبة")),
    Culture("he_IL", "he", nowhere(972)),
    Culture("ru_RU", "ru", nowhere(7), gendered=True),
    Culture("uk_UA", "uk", nowhere(380), gendered=True),
    Culture("el_GR", "el", nowhere(30), gendered=True),
    Culture("hy_AM", "hy", nowhere(374)),
    Culture("ka_GE", "ka", nowhere(995)),
    Culture("zh_CN", "zh-Hans", nowhere(86), family_first=True, joined=True),
    Culture("ja_JP", "ja", nowhere(81), family_first=True),
    Culture("ko_KR", "ko", nowhere(82), family_first=True, joined=True),
    Culture("th_TH", "th", nowhere(66)),
    Culture("vi_VN", "vi", nowhere(84), family_first=True),
    Culture("pt_BR", "pt-BR", nowhere(55)),
    Culture("es_MX", "es-MX", nowhere(52)),
    Culture("pl_PL", "pl", nowhere(48), gendered=True),
)


@dataclass(frozen=True)
class Person:
    name: str
    given: str
    family: str
    gender: str  # M or F
    culture: Culture


@cache
def names_of(locale: str) -> Any:
    return Factory.create(locale, providers=PROVIDERS)


class People:
    """The same people for the same random numbers."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def person(self, gender: str = "", culture: Culture | None = None, family: str = "") -> Person:
        culture = culture or self.random.choice(CULTURES)
        gender = gender or self.random.choice("MF")
        kind = "male" if gender == "M" else "female"
        given = self.plausible(self.source(culture, f"first_name_{kind}", "first_name"))
        family = family or self.plausible(self.source(culture, f"last_name_{kind}", "last_name"))
        parts = [family, given] if culture.family_first else [given, family]
        return Person(("" if culture.joined else " ").join(parts), given, family, gender, culture)

    def source(self, culture: Culture, *kinds: str) -> Callable[[], str]:
        """What makes names of the first of these kinds that the locale has."""
        names = names_of(culture.locale)
        names.random = self.random
        found: Callable[[], str] = next(getattr(names, kind) for kind in kinds if hasattr(names, kind))
        return found

    def plausible(self, make: Callable[[], str]) -> str:
        """Some of Faker's names have a title, a number or a stray sign."""
        while True:
            name = unicodedata.normalize("NFC", make().strip())
            if PLAUSIBLE_NAME.fullmatch(name) and not ROMAN_NUMERAL.search(name):
                return name

    def address(self, person: Person) -> str:
        if cities := person.culture.cities:
            street = self.plausible(self.source(person.culture, "last_name"))
            return f"شارع {street} {self.random.randint(1, 120)}، {self.random.choice(cities)}"
        make = self.source(person.culture, "address")
        lines = next(address for address in iter(make, "") if "台湾" not in address).split("\n")
        return "\n".join(line.strip(" ,") for line in lines)

    def phone(self, culture: Culture) -> str:
        template = self.random.choice(culture.phones)
        return re.sub("#", lambda _: str(self.random.randrange(10)), template)

    def email(self, person: Person) -> str:
        name = unicodedata.normalize("NFKD", f"{person.given}.{person.family}".lower())
        ascii_name = re.sub(r"[^a-z.]", "", name)
        local = ascii_name if len(ascii_name) > 0.7 * len(name) else self.random.choice(HANDLES)
        return f"{local.strip('.')}{self.random.randint(1, 9999)}@{self.random.choice(MAIL_DOMAINS)}"

    def birth_date(self) -> datetime.date:
        """Of somebody of 1 to 95 years, as many old as young. The last is of the year in which this was written."""
        first, last = datetime.date(1931, 1, 1).toordinal(), datetime.date(2025, 12, 31).toordinal()
        return datetime.date.fromordinal(round(self.random.triangular(first, last, last - 12_000)))
