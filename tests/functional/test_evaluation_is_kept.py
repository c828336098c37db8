"""`riskpred evaluate` leaves its figures in the bundle, which stays the same; its own predictions it does not."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest

from riskpred.cli import main
from riskpred.config.night import PromotionRules
from riskpred.errors import BundleError
from riskpred.model.bundle import load_bundle
from riskpred.score.promotion import judge_promotion

pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture
def bundle(tiny, tmp_path: Path) -> Path:
    """A copy of the bundle that nobody has evaluated."""
    copy = tmp_path / "bundle"
    shutil.copytree(tiny.bundle, copy)
    (copy / "evaluation.json").unlink(missing_ok=True)
    return copy


def test_held_out_people_are_kept_and_judged(tiny, bundle: Path, capsys) -> None:
    before = load_bundle(bundle)
    with pytest.raises(BundleError, match="not evaluated"):
        judge_promotion(before, PromotionRules(), site="tiny")
    assert main(["evaluate", str(bundle), str(tiny.warehouse), "--json"]) == 0
    out, err = capsys.readouterr()
    assert set(json.loads(out)) == {"metrics", "reasons"}
    assert "evaluation.json: kept; for publishing risks the bundle does not pass the default rules" in err
    after = load_bundle(bundle)
    assert after.sha256 == before.sha256
    (kept,) = json.loads((bundle / "evaluation.json").read_text())["evaluations"]
    assert (kept["bundle_sha256"], kept["site"], kept["split"]) == (before.sha256, "tiny", "held_out")
    # 45 held-out people have too few events: the ledger would say so.
    with pytest.raises(BundleError, match="people with the outcome, at least 20 wanted"):
        judge_promotion(after, PromotionRules(), site="tiny")


def test_another_sites_people_are_kept_beside(tiny, bundle: Path, tmp_path: Path, capsys) -> None:
    elsewhere = tmp_path / "w.duckdb"
    shutil.copy(tiny.warehouse, elsewhere)
    with duckdb.connect(str(elsewhere)) as connection:
        connection.execute("UPDATE ingests SET site = 'elsewhere'")
    for warehouse, more in ((tiny.warehouse, ()), (elsewhere, ("--split", "everyone"))):
        assert main(["evaluate", str(bundle), str(warehouse), "--json", *more]) == 0
    capsys.readouterr()
    kept = json.loads((bundle / "evaluation.json").read_text())["evaluations"]
    assert [(one["site"], one["split"]) for one in kept] == [("tiny", "held_out"), ("elsewhere", "everyone")]


def test_a_bundles_own_predictions_are_not(tiny, bundle: Path, capsys) -> None:
    assert main(["evaluate", str(bundle), str(tiny.warehouse), "--split", "out_of_fold", "--json"]) == 0
    assert "evaluation not kept with the bundle" in capsys.readouterr().err
    assert not (bundle / "evaluation.json").exists()


def test_a_night_tells_readers_of_the_scores_how_the_model_was_evaluated(
    tiny, bundle: Path, tmp_path: Path, capsys
) -> None:
    scores, told = tmp_path / "scores.duckdb", []
    for evaluated in (False, True):
        if evaluated:
            assert main(["evaluate", str(bundle), str(tiny.warehouse), "--json"]) == 0
        assert main(["score", str(tiny.warehouse), "--model", str(bundle), "--into", str(scores), "--force"]) == 0
        with duckdb.connect(str(scores), read_only=True) as connection:
            told += connection.execute("SELECT run_id, model_card FROM runs").fetchall()
    capsys.readouterr()
    (before, card), (after, later) = told
    assert before == after, "an evaluation makes no other night"
    assert json.loads(card)["evaluation"] is None
    entry = json.loads(later)["evaluation"]
    (kept,) = json.loads((bundle / "evaluation.json").read_text())["evaluations"]
    assert (entry["site"], entry["split"], entry["evaluated_at"]) == ("tiny", "held_out", kept["evaluated_at"])
    assert set(entry["outcomes"]) == {"stroke", "tumour", "low_mood"}
    assert [one["horizon_years"] for one in entry["outcomes"]["stroke"]["horizons"]] == [1.0, 3.0]
    assert entry["outcomes"]["low_mood"]["subgroups"]
    assert json.loads(later)["participants"]["features"]
