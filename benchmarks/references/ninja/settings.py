from benchmarks.references.stock.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.references.ninja.urls"
