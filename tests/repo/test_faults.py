"""The planted faults stand where they can be planted: `python -m tests.faults` plants them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tests.faults import ALL
from tests.faults.__main__ import RECORD

TREE = Path(__file__).parents[2]


def test_every_fault_can_be_planted(subtests):
    """Its right text is in its file exactly once, the wrong one is another, and its tests are there."""
    for fault in ALL:
        with subtests.test(fault.name):
            assert (TREE / fault.path).read_text().count(fault.right) == 1
            assert fault.wrong != fault.right
            assert fault.tests
            assert all((TREE / test.partition("::")[0]).exists() for test in fault.tests)


def test_names_are_unique_and_the_record_has_no_others():
    """A fault that was renamed or removed takes its line of the record along."""
    assert max(Counter(fault.name for fault in ALL).values()) == 1
    assert set(json.loads(RECORD.read_text())) <= {fault.name for fault in ALL}
