"""Where values come from: patterns, and pools of Faker's values."""

import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from pii.synthetic.sources import DOCUMENT_LOCALES, Sources
from pii.synthetic.values import Values

ROOT = Path(__file__).parents[2]
LOCALES = sorted({locale for locales in DOCUMENT_LOCALES.values() for locale in locales})


def test_what_is_drawn_from_is_the_same_in_another_process():
    """Faker has sets of words, in another order in each process."""
    program = f"""
from pii.synthetic.sources import Sources
sources = Sources(0)
for locale in {LOCALES}:
    print(ascii(sources[locale]))
"""
    outputs = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1 and all("Source(" in line for line in outputs.pop().splitlines())


@pytest.mark.parametrize("locale", LOCALES)
def test_every_pattern_is_filled(locale):
    values = Values(Random(0), 0)
    values.start_row(locale)
    values.make("EMAIL")
    fields = values.fields
    values.make("DATE")
    for key, source in Sources(0)[locale].items():
        for pattern in source.patterns:
            values.fields = values.fields | fields
            if not pattern.startswith("@") and key != "CARD":
                assert not re.search(r"[{}]|\s$|^\s", values.expand(pattern)), (key, pattern)


def test_births_have_a_year_and_neither_a_day_of_the_week_nor_a_time():
    sources = Sources(0)
    for locale in ("fr_CLINIC", "en_WORLD"):
        patterns = sources[locale]["DOB"].patterns
        assert all("{y" in pattern or "YEARWORD" in pattern for pattern in patterns)
        assert not [pattern for pattern in patterns if re.search(r"\{weekday|\{WEEKDAY| \{h", pattern)]
        assert len(patterns) < len(sources[locale]["DATE"].patterns)
