"""People whom `manage.py demo` always adds, last and for one owner, as requests would send them: likely duplicates that
show what search, `duplicates/` and a merge do."""

from typing import Any

# The first one is found by a misspelt name.
MISSPELT = "katharina+johanson"
MERGED = (6, 7)  # positions in CAST: the survivor and the duplicate
CAST: tuple[dict[str, Any], ...] = (
    {
        "name": "Katarina Johansson", "gender": "F", "birth_date": "1984-03-14", "identifier": "MRN-7001",
        "phone": "+46 8 465 004 17", "email": "katarina.johansson@example.org", "language": "sv",
        "address": "Storgatan 12\n111 22 Stockholm",
        "contacts": [{"name": "Erik Johansson", "relationship": "husband", "phone": "+46 8 465 004 18"}],
        "medical_history": "2009 hay fever\n2019 fracture of the left wrist",
    },
    {
        "name": "Katarina Johanson", "gender": "F", "birth_date": "1984-03-14", "identifier": "MRN-7002",
        "phone": "08-46500417", "alternate_phone": "+46 31 390 06 40", "address": "Storg. 12, Stockholm",
        "medical_history": "2021 migraine",
        "identifiers": [{"system": "https://insurance.example.com/member", "value": "004 417 229"}],
    },
    {
        "name": "Priya Raghavan", "gender": "F", "birth_date": "1991-11-02", "identifier": "MRN-7003",
        "phone": "+91 00 5550 2291", "language": "ta", "address": "14, Temple Street\nMadurai",
        "medical_history": "2015 asthma",
    },
    {
        "name": "Raghavan, Priya", "gender": "F", "birth_year": 1991, "identifier": "MRN-7004",
        "phone": "+91 00 55502291", "email": "priya.raghavan@example.net",
        "contacts": [{"name": "Lakshmi Raghavan", "relationship": "mother", "phone": "+91 00 5550 2292"}],
    },
    {
        "name": "Николай Петров", "gender": "M", "birth_date": "1958-07-21", "identifier": "MRN-7005",
        "phone": "+7 00 5550 1180", "language": "ru", "medical_history": "2012 high blood pressure",
        "identifiers": [{"system": "https://lakeside.example.org/mrn", "value": "77-1180"}],
    },
    {
        "name": "Петров Николай", "gender": "M", "birth_date": "1958-07-21", "phone": "+7 00 5550 1180",
        "address": "ул. Садовая, д. 3, кв. 14", "email": "n.petrov@example.com",
        "identifiers": [{"system": "https://lakeside.example.org/mrn", "value": "77 1180"}],
    },
    {
        "name": "José Álvarez Luna", "gender": "M", "birth_date": "1973-01-30", "identifier": "MRN-7007",
        "phone": "+52 00 5550 0719", "language": "es-MX", "medical_history": "2018 gallstones",
    },
    {
        "name": "Jose Alvarez Luna", "gender": "M", "birth_date": "1973-01-30", "identifier": "MRN-7008",
        "email": "jose.alvarez@example.com", "address": "Calle Olmo 8\nPuebla",
        "identifiers": [{"system": "https://insurance.example.com/member", "value": "118 300 552"}],
        "contacts": [{"name": "Carmen Luna", "relationship": "wife", "phone": "+52 00 5550 0720"}],
    },
)  # fmt: skip
