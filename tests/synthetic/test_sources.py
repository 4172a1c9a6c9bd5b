"""Pools of Faker's values."""

import os
import subprocess
import sys
from pathlib import Path

from pii.synthetic import sources

ROOT = Path(__file__).parents[2]
METHODS = ["city", "street_name", "last_name", "first_name_female", "company", "postcode", "phone_number", "job"]


def test_pools_of_many_countries_are_the_same_in_another_process():
    pools = [sources.faker_pool(method, "en_WORLD", 0) for method in METHODS]
    program = f"""
from pii.synthetic import sources
for method in {METHODS}:
    print(ascii(sources.faker_pool(method, "en_WORLD", 0)))
"""
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines() == [ascii(pool) for pool in pools]
    assert min(map(len, pools)) > 300
