"""Plants thousands of faults in a hospital's files and looks for every one afterwards: accounted for, and nobody hurt.

The same hospital is ingested and scored clean and faulty. Each fault must stand where the ledger says (a reject with
its reason, a counter of `ingests`, a reject of the night), no counter may say more, and no risk may differ by more than
1e-6.
"""

import json
import random
import shutil
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from tests.benchmarks.night import nights
from tests.benchmarks.night.command import REPOSITORY, Ran, Run, cold
from tests.benchmarks.night.data import AS_OF, source_files
from tests.benchmarks.night.planting import KINDS, Fault, Planter, copied_source

HOSPITAL_STUDY: Final = REPOSITORY / "configs" / "studies" / "hospital"
MOST_APART: Final = 1e-6


@dataclass(frozen=True)
class Clean:
    """The hospital without planted faults: its study, source, warehouse, bundle and scores, and what ingest counted."""

    study: Path
    source: Path
    warehouse: Path
    bundle: Path
    scores: Path
    counted: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came of the planted faults.

    planted, accounted: kind -> how many.   unexplained: what ingest counted beyond or short of the ledger, in words.
    other_reason: "variety: reason found" -> how many were refused, but not for the reason in the ledger.
    rows_alone, most_apart: over all subjects but those with a fault, the clean night against the faulty one.
    hurt: subjects with a fault whose risk is not within 1e-6 of what it was.   codes: exit codes of ingest and score.
    told: subject identifiers found on stderr (must be none).
    """

    planted: dict[str, int]
    accounted: dict[str, int]
    other_reason: dict[str, int]
    unexplained: tuple[str, ...]
    rows_alone: int
    most_apart: float
    hurt: int
    codes: tuple[int, int]
    told: int


def study(folder: Path, network: str | None = None) -> Path:
    """The packaged study of the hospital, but any share of pictures may be refused; `network`: another network.yaml."""
    made = folder / "hospital"
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(HOSPITAL_STUDY, made)
    ingest = (made / "ingest.yaml").read_text()
    mapping = "image_type_column: modality}"
    assert ingest.count(mapping) == 1, "the image mapping of the packaged study is written otherwise now"
    (made / "ingest.yaml").write_text(ingest.replace(mapping, "image_type_column: modality, allow_rejects: 1.0}"))
    if network is not None:
        (made / "network.yaml").write_text(network)
    return made


def clean(
    folder: Path, subjects: int, imaged: int, run: Run, network: str | None = None, bundle: Path | None = None
) -> Clean:
    """Simulate, ingest, fit (unless a bundle is given) and score the hospital without planted faults.

    What is in `folder` already is used again, but scored anew: by the code of today.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = study(folder, network)
    source = source_files(folder, subjects, imaged)
    warehouse, scores = folder / "clean.duckdb", folder / "clean_scores.duckdb"
    counts = folder / "counted.json"
    if not counts.is_file():
        ingested = run(["ingest", made, "--from", source, "--into", warehouse, "--json"]).expect(0).json
        counts.write_text(json.dumps(ingested))
    if bundle is None:
        bundle = folder / "bundle"
        if not bundle.is_dir():
            run(["fit", made, warehouse, "--into", bundle, "--seed", "1"]).expect(0)
    scores.unlink(missing_ok=True)
    night(run, warehouse, bundle, scores).expect(0, 14)
    return Clean(made, source, warehouse, bundle, scores, json.loads(counts.read_text()))


def attack(given: Clean, folder: Path, faults: int, run: Run, seed: int = 1) -> tuple[Outcome, list[Fault]]:
    """Plant, ingest, score, and account for every fault. `folder`: scratch, emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    planter = Planter(copied_source(given.source, folder / "source"))
    planter.plant(*chosen(given, faults, seed))
    planter.write()
    warehouse, scores = folder / "faulty.duckdb", folder / "faulty_scores.duckdb"
    ingest = ["ingest", given.study, "--from", folder / "source", "--into", warehouse, "--json"]
    ingested = run(ingest).expect(0)
    scored = night(run, warehouse, given.bundle, scores).expect(0, 14)
    ids = subject_ids(warehouse)
    touched = [ids[fault.subject] for fault in planter.faults if fault.subject in ids]
    alone, most = nights.apart(given.scores, scores, touched)
    names = {fault.subject for fault in planter.faults}
    accounted, other_reason = _accounted(planter.faults, ids, warehouse, scores)
    outcome = Outcome(
        planted=dict(Counter(fault.kind for fault in planter.faults)),
        accounted=accounted,
        other_reason=other_reason,
        unexplained=tuple(_unexplained(planter.faults, given.counted, ingested.json)),
        rows_alone=alone,
        most_apart=most,
        hurt=hurt(given.scores, scores, touched),
        codes=(ingested.code, scored.code),
        told=sum(name in text for name in names for text in (ingested.err, scored.err)),
    )
    return outcome, planter.faults


def night(run: Run, warehouse: Path, bundle: Path, scores: Path, *more: str | Path) -> Ran:
    """One night at AS_OF, whatever becomes of it."""
    words = ["score", warehouse, "--model", bundle, "--into", scores, "--as-of", AS_OF, "--explain", "0", "--force"]
    return run([*words, *more])


def subject_ids(warehouse: Path) -> dict[str, int]:
    """The hospital's identifier -> subject_id of everyone in the warehouse."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        return dict(connection.execute("SELECT source_id, subject_id FROM subject_map").fetchall())


def chosen(given: Clean, faults: int, seed: int) -> tuple[list[str], list[str]]:
    """Subjects to soil: all of them scored in the clean night, none twice; and as many more who have vital signs."""
    with duckdb.connect(str(given.scores), read_only=True) as connection:
        scored = {
            subject for (subject,) in connection.execute("SELECT DISTINCT subject_id FROM risk_scores").fetchall()
        }
    with duckdb.connect(str(given.warehouse), read_only=True) as connection:
        vital = "SELECT DISTINCT subject_id FROM events WHERE code = 'VITAL//SYSTOLIC'"
        measured = {subject for (subject,) in connection.execute(vital).fetchall()}
    names = sorted((name, subject) for name, subject in subject_ids(given.warehouse).items() if subject in scored)
    random.Random(seed).shuffle(names)
    duplicates = -(-faults // len(KINDS))
    twice = [name for name, subject in names if subject in measured][:duplicates]
    others = [name for name, _ in names if name not in set(twice)][:faults]
    assert len(others) == faults, f"{len(names)} subjects are too few for {faults} faults"
    return others, twice


def _accounted(
    faults: list[Fault], ids: dict[str, int], warehouse: Path, scores: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """Kind -> faults found where the ledger says; and those refused for another reason than it says.

    A repeat leaves no row: its subject has each of its events but once, and `_unexplained` has counted it.
    """
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        refused = _reasons(connection, "SELECT source, subject_id, reason FROM rejects")
        future = "SELECT DISTINCT subject_id FROM events WHERE time >= TIMESTAMP '2094-05-01'"
        coming = {subject for (subject,) in connection.execute(future).fetchall()}
        twice = "SELECT DISTINCT subject_id FROM (SELECT * FROM events GROUP BY ALL HAVING count(*) > 1)"
        repeated = {subject for (subject,) in connection.execute(twice).fetchall()}
    with duckdb.connect(str(scores), read_only=True) as connection:
        at_night = _reasons(connection, "SELECT row_key, subject_id, reason FROM rejects")
        judged = connection.execute("SELECT DISTINCT subject_id FROM eligibility").fetchall()
    known = {subject for (subject,) in judged}
    found, other = Counter[str](), Counter[str]()
    for fault in faults:
        subject = ids.get(fault.subject)
        if fault.account == "missing":
            there = subject is None
        elif fault.account == "events":
            there = subject in coming
        elif fault.account == "repeats":
            there = subject not in repeated and subject in known
        else:
            reasons = at_night[fault.image_id, subject] if fault.at_score else refused[fault.file, subject]
            there = bool(reasons)
            if there and fault.reason not in reasons:
                other[f"{fault.how}: {', '.join(sorted(reasons))} for {fault.reason}"] += 1
        found[fault.kind] += there
    return dict(found), dict(other)


def _reasons(connection: duckdb.DuckDBPyConnection, rejects: str) -> defaultdict[tuple[Any, Any], set[str]]:
    """(source or key, subject) -> reasons."""
    found: defaultdict[tuple[Any, Any], set[str]] = defaultdict(set)
    for key, subject, reason in connection.execute(rejects).fetchall():
        found[key, subject].add(reason)
    return found


def _unexplained(faults: list[Fault], before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Where the difference between two ingests is not exactly the ledger."""
    wanted: Counter[tuple[str, str]] = Counter()
    for fault in faults:
        wanted[(fault.file, fault.account)] += fault.facts
        wanted[(fault.file, "facts")] += fault.facts
        wanted[(fault.file, "rows")] += 1
        if fault.account == "rejects":
            wanted[(fault.file, f"reason {fault.reason}")] += 1
    got: Counter[tuple[str, str]] = Counter()
    for sign, summary in ((-1, before), (1, after)):
        for source in summary["sources"]:
            for name, count in source.items():
                if isinstance(count, int):
                    got[(source["source"], name)] += sign * count
            for reason, count in source["reasons"].items():
                got[(source["source"], f"reason {reason}")] += sign * count
    return [
        f"{file}, {name}: {got[file, name]:,} for {wanted[file, name]:,}"
        for file, name in sorted({*wanted, *got})
        if got[file, name] != wanted[file, name]
    ]


def hurt(before: Path, after: Path, touched: list[int]) -> int:
    """Subjects among `touched` with another risk than before, or none."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{before}' AS before (READ_ONLY)")
        connection.execute(f"ATTACH '{after}' AS after (READ_ONLY)")
        return int(
            connection.execute(
                "SELECT count(DISTINCT subject_id) FROM before.risk_scores a"
                " FULL JOIN after.risk_scores b USING (subject_id, outcome, horizon_years)"
                f" WHERE (a.risk IS NULL OR b.risk IS NULL OR abs(a.risk - b.risk) > {MOST_APART})"
                " AND subject_id IN (SELECT unnest($ids::BIGINT[]))",
                {"ids": touched},
            ).fetchall()[0][0]
        )


def summary(outcome: Outcome) -> dict[str, object]:
    """Figures for the report."""
    return {
        "planted": outcome.planted,
        "accounted": outcome.accounted,
        "planted_in_all": sum(outcome.planted.values()),
        "accounted_in_all": sum(outcome.accounted.values()),
        "refused_for_another_reason": outcome.other_reason,
        "counted_otherwise": list(outcome.unexplained),
        "rows_of_others_in_one_night_only": outcome.rows_alone,
        "others_most_apart": outcome.most_apart,
        "risks_changed_of_subjects_with_a_fault": outcome.hurt,
        "exit_codes": list(outcome.codes),
        "identifiers_on_stderr": outcome.told,
    }


def measure(given: Clean, work: Path, faults: int = 10_000) -> dict[str, object]:
    """The part `faults` of the benchmark."""
    began = time.monotonic()
    folder = work / "faulty"
    outcome, ledger = attack(given, folder, faults, cold(work))
    (work / "results" / "planted.json").parent.mkdir(exist_ok=True)
    (work / "results" / "planted.json").write_text(json.dumps([vars(fault) for fault in ledger]))
    shutil.rmtree(folder)
    return {**summary(outcome), "seconds": round(time.monotonic() - began, 1)}
