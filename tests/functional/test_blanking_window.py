"""A blanking window in outcomes.yaml, from the fit to the evaluation, on the tiny study."""

from dataclasses import replace

import numpy as np

from riskpred.evaluate.gather import gather
from riskpred.evaluate.metrics import metrics
from riskpred.fit.data import training_rows
from riskpred.model.bundle import load_bundle
from riskpred.records.warehouse import Warehouse

DAYS = 120


def with_outcomes(config):
    return config.model_copy(update={"outcomes": config.outcomes.model_copy(update={"blanking_days": DAYS})})


def test_nobody_whose_follow_up_ends_within_it_is_learned_from(tiny):
    bundle = load_bundle(tiny.bundle)
    with Warehouse.open(tiny.warehouse, tiny.source) as warehouse:
        plain = training_rows(bundle.config, warehouse)[1]
        windowed = training_rows(with_outcomes(bundle.config), warehouse)[1]
    assert np.array_equal(plain.subject_id, windowed.subject_id)
    for group in bundle.config.outcomes.groups:
        before, after = plain.cause[group.name], windowed.cause[group.name]
        if group.known_at_once:
            assert np.array_equal(before, after)
            continue
        early = (before >= 0) & (plain.duration_days[group.name] <= DAYS)
        assert early.any()
        assert np.all(after[early] == -1)
        assert np.array_equal(after[~early], before[~early])
        assert np.array_equal(windowed.duration_days[group.name][~early], plain.duration_days[group.name][~early], True)


def test_evaluation_leaves_them_out_says_so_and_still_shows_everyone(tiny):
    bundle = load_bundle(tiny.bundle)
    with Warehouse.open(tiny.warehouse, tiny.source) as warehouse:
        plain = gather(bundle, warehouse, "held_out")
        windowed = gather(replace(bundle, config=with_outcomes(bundle.config)), warehouse, "held_out")
    assert windowed.blanking_days == {"stroke": DAYS, "tumour": DAYS}
    for name in ("stroke", "tumour"):
        assert np.array_equal(plain.status[name], windowed.status[name])
        early = int(np.sum((plain.status[name] >= 0) & (plain.time_days[name] <= DAYS)))
        said = windowed.left_out[name].get(f"outcome, death or leaving within {DAYS} days (blanking window)", 0)
        assert said == early
        rows = [row for row in metrics(windowed, resamples=3) if row["outcome"] == name and row["subgroup"] is None]
        counts = {row["blanking_days"]: row["n"] for row in rows}
        assert set(counts) == {0, 90, DAYS, 365}
        assert counts[0] == int(np.sum(plain.status[name] >= 0)) == counts[DAYS] + early


def test_age_and_sex_of_those_evaluated_are_theirs(tiny):
    bundle = load_bundle(tiny.bundle)
    with Warehouse.open(tiny.warehouse, tiny.source) as warehouse:
        found = gather(bundle, warehouse, "held_out")
        place = {subject: row for row, subject in enumerate(found.subject_id.tolist())}
        for chunk in warehouse.chunks(subjects=np.unique(found.subject_id)):
            for s, subject in enumerate(chunk.subject_id.tolist()):
                codes = [chunk.codes[code] for code in chunk.code[chunk.start[s] : chunk.start[s + 1]]]
                sex = {"GENDER//F": "female", "GENDER//M": "male"}
                assert found.sex[place[subject]] == next((sex[code] for code in codes if code in sex), "unknown")
    assert set(found.sex.tolist()) <= {"female", "male", "unknown"}
    known = found.age_years[np.isfinite(found.age_years)]
    assert len(known) > 10
    assert known.min() > 30
    assert known.max() < 95
