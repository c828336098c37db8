"""Faults of twelve kinds planted in a hospital of 600: each is accounted for, and nobody else's risk changes.

The same as tests/benchmarks/night does in 100,000 subjects. Also in the tables of a file that another tool wrote.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = str(Path(__file__).resolve().parents[2])
if REPOSITORY not in sys.path:
    sys.path.insert(0, REPOSITORY)

from tests.benchmarks.night import faults, foreign  # noqa: E402  (no part of the package)
from tests.benchmarks.night.warm import Warm  # noqa: E402

SUBJECTS, PLANTED = 600, 120


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm(tmp_path_factory.mktemp("said")) as process:
        yield process


@pytest.fixture(scope="module")
def clean(warm: Warm, tmp_path_factory: pytest.TempPathFactory, tiny_network: str) -> faults.Clean:
    """The hospital without planted faults, ingested, fitted and scored."""
    return faults.clean(tmp_path_factory.mktemp("clean"), SUBJECTS, SUBJECTS, warm.ran, tiny_network)


@pytest.fixture(scope="module")
def planted(warm: Warm, clean: faults.Clean, tmp_path_factory: pytest.TempPathFactory) -> faults.Outcome:
    """What came of the faults in the source files."""
    return faults.attack(clean, tmp_path_factory.mktemp("faulty") / "faulty", PLANTED, warm.ran)[0]


@pytest.fixture(scope="module")
def in_tables(warm: Warm, clean: faults.Clean, tmp_path_factory: pytest.TempPathFactory) -> foreign.Outcome:
    """What came of the faults in the tables of another tool."""
    return foreign.attack(clean, tmp_path_factory.mktemp("foreign") / "foreign", PLANTED, warm.ran)


def test_every_planted_fault_is_accounted_for(planted: faults.Outcome) -> None:
    assert planted.planted == dict.fromkeys(faults.KINDS, PLANTED // len(faults.KINDS))
    assert planted.accounted == planted.planted
    assert planted.unexplained == (), "the counters of ingests say exactly what the ledger says, no more and no less"
    assert planted.codes == (0, 0)


def test_each_fault_is_refused_for_the_reason_that_it_has(planted: faults.Outcome) -> None:
    assert planted.other_reason == {}


def test_a_fault_changes_nobodys_risk(planted: faults.Outcome) -> None:
    assert planted.rows_alone == 0
    assert planted.most_apart <= faults.MOST_APART
    assert planted.hurt == 0, "faults stand beside good rows: their own subjects keep their risks, too"


def test_no_identifier_of_a_patient_is_said(planted: faults.Outcome) -> None:
    assert planted.told == 0


@pytest.mark.parametrize("kind", [kind for kind in foreign.WHERE if kind != "wrong unit"])
def test_a_fault_in_a_table_of_another_tool_is_accounted_for(in_tables: foreign.Outcome, kind: str) -> None:
    assert in_tables.planted[kind] >= PLANTED // len(foreign.WHERE)
    assert in_tables.accounted[kind] == in_tables.planted[kind], foreign.WHERE[kind]


def test_a_fault_in_a_table_of_another_tool_costs_nobody_else(in_tables: foreign.Outcome) -> None:
    assert in_tables.rows_alone == 0
    assert in_tables.most_apart <= faults.MOST_APART
    assert set(in_tables.changed) <= {"absurd value"}, "a finite number that ingest did not judge is the value"
    assert in_tables.code == 0


def test_a_unit_that_the_bundle_does_not_know_refuses_the_file(in_tables: foreign.Outcome) -> None:
    code, said = in_tables.wrong_unit
    assert code == 12
    assert "LAB//LDL: mg/dL and mmol/L (trained on mmol/L)" in said
