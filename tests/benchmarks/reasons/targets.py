"""The targets with their figures, from the results on disk alone; a missed one is written as missed."""

import json
from pathlib import Path
from typing import Any

from tests.benchmarks.night import results

_MET = {True: "met", False: "**missed**", None: "not measured"}
Row = tuple[str, str, str, bool | None]

_READY_S, _FRAME_MS = 3.0, 500
"""Beyond which a page would be said not to open, or not to scroll."""


def rows(work: Path) -> list[Row]:
    """What, target, figure, whether met (None = not measured)."""
    return [
        *_sums(results.read(work, "sums")),
        *_modality(results.read(work, "modality")),
        *_features(results.read(work, "features")),
        *_truth(results.read(work, "truth")),
        *_deletion(results.read(work, "deletion")),
        *_report(results.read(work, "report")),
    ]


def table(work: Path) -> str:
    """Markdown."""
    lines = ["| what | target | figure | |", "|---|---|---|---|"]
    lines += [f"| {what} | {target} | {figure} | {_MET[met]} |" for what, target, figure, met in rows(work)]
    made = [
        f"{part}: {found['made_at']} UTC, {found['code']}, {found['machine']}"
        for part in ("sums", "modality", "features", "truth", "deletion", "report")
        if (found := results.read(work, part)) is not None
    ]
    return "\n".join([*lines, "", *(f"- {line}" for line in made)])


def figures(work: Path) -> str:
    """Every figure, as the parts wrote them."""
    blocks = []
    for part in ("modality", "features", "truth", "deletion", "sums", "report"):
        found = results.read(work, part)
        if found is not None:
            kept = {
                k: v for k, v in found.items() if k not in ("attempts", "codes", "part", "made_at", "machine", "code")
            }
            blocks.append(f"### {part}\n\n```json\n{json.dumps(kept, indent=1)}\n```")
    return "\n\n".join(blocks)


def _sums(found: dict[str, Any] | None) -> list[Row]:
    studies = {} if found is None else found.get("studies", {})
    if not studies:
        return [("sums", "modality within .001; remainder in bounds for 99.5 %", "", None)]
    worst = max(one["modality_points"] for one in studies.values())
    people = sum(one["subjects"] for one in studies.values())
    rows: list[Row] = [
        (
            "sums, modality",
            "within .001 risk points for everyone, all studies",
            f"{worst:.1e} at most, {people:,} people of {len(studies)} studies",
            worst <= 0.001,
        )
    ]
    for level in ("feature", "region"):
        counted = {n: one for n, one in studies.items() if one[f"{level}_people"]}
        if not counted:
            continue
        share = {n: one[f"{level}_within"] / one[f"{level}_people"] for n, one in counted.items()}
        least = min(share, key=lambda name: share[name])
        total = sum(one[f"{level}_people"] for one in counted.values())
        rows.append(
            (
                f"sums, {level}: remainder",
                "<= max(.01 points, .5 %) for >= 99.5 % of subjects, all studies",
                f"{100 * share[least]:.1f} % in {least}, the worst of {len(counted)} studies; {total:,} people",
                share[least] >= 0.995,
            )
        )
    gaps = [one["moment_gap_points"] for one in studies.values() if one["moment_gap_points"] is not None]
    if gaps:
        rows.append(("sums, moment", "add up to the features", f"{max(gaps):.1e} points at most", max(gaps) <= 0.001))
    return rows


def _modality(found: dict[str, Any] | None) -> list[Row]:
    what = "exact modality Shapley, 100 k subjects x 3 outcomes x 4 horizons"
    if found is None:
        return [(what, "<= 10 % of the night; >= 40 x the naive 8 forwards", "", None)]
    return [
        (
            what,
            "adds <= 10 % to the night's time",
            f"{found['adds_s']:.1f} s, {100 * found['share_of_night']:.1f} % of a night that reads every image, "
            f"{100 * found['share_of_night_images_known']:.1f} % where they are known, "
            f"{100 * found['share_of_night_without_feature_reasons']:.1f} % where nobody's features are told, either",
            found["share_of_night_images_known"] <= 0.1,
        ),
        (
            what,
            ">= 40 x the naive 8 forwards each",
            f"{found['ratio']:.0f} x the network's own forwards, {found['ratio_with_our_encoders']:.0f} x with the "
            "night's encoders",
            found["ratio"] >= 40,
        ),
    ]


def _features(found: dict[str, Any] | None) -> list[Row]:
    what = "feature reasons, same subjects, 12 targets"
    if found is None:
        return [(what, ">= 1.8 x, >= 5 x, >= 100 x", "", None)]
    spearman, held = found["spearman_long_run"][1], found["within_the_remainder"]
    return [
        (
            what,
            ">= 1.8 x Captum IG looped over targets at the same points",
            f"{found['ratio_same_points']:.1f} x",
            found["ratio_same_points"] >= 1.8,
        ),
        (
            what,
            ">= 5 x Captum's defaults (50 points) within the remainder",
            f"{found['ratio_default']:.1f} x; within it {100 * held['converged']:.1f} % of people "
            f"(Captum {100 * held['captum_default']:.1f} %)",
            found["ratio_default"] >= 5 and held["converged"] >= 0.995,
        ),
        (
            what,
            ">= 100 x shap.PermutationExplainer, Spearman >= .95 with its long run",
            f"{found['ratio_shap']:.0f} x; {spearman:.3f}",
            found["ratio_shap"] >= 100 and spearman >= 0.95,
        ),
    ]


def _truth(found: dict[str, Any] | None) -> list[Row]:
    if found is None:
        return [("truth on the simulated hospital", "modality >= .95, feature >= .85, pointing >= .9", "", None)]
    modality, feature = found["modality_whole_table"][1], found["feature_whole_table"][1]
    acting, shapley = (
        found[f"feature_whole_table{kind}"][1] for kind in ("_acting", "_by_shapley_values_of_the_model")
    )
    hits = {name: one["in_region_1"] for name, one in found["pointing"].items()}
    return [
        ("truth, modality", "Spearman >= .95 (median over subjects)", f"{modality:.3f}", modality >= 0.95),
        (
            "truth, feature",
            "Spearman >= .85 (median over subjects)",
            f"{feature:.3f}; of features that change a true risk {acting:.3f}; by Shapley values of the model "
            f"{shapley:.3f}",
            feature >= 0.85,
        ),
        (
            "planted finding inside the outlined region",
            ">= .9",
            ", ".join(f"{name} {share:.3f}" for name, share in hits.items()),
            min(hits.values()) >= 0.9,
        ),
    ]


def _deletion(found: dict[str, Any] | None) -> list[Row]:
    target = "better than random and than Captum's DeepLift / GradientShap"
    if found is None:
        return [("deletion curve", target, "", None)]
    rows: list[Row] = []
    for study, one in found["studies"].items():
        areas = {name: value[0] for name, value in one["deletion_area"].items() if " - " not in name}
        others = ("random", "captum_deep_lift", "captum_gradient_shap")
        figure = ", ".join(f"{name} {areas[name]:.3f}" for name in ("riskpred", *others, "value"))
        rows.append((f"deletion, {study}", target, figure, all(areas["riskpred"] > areas[name] for name in others)))
    return rows


def _report(found: dict[str, Any] | None) -> list[Row]:
    if found is None:
        return [("report", "<= 1/10 of matplotlib, <= 150 KB; an index of 100 k opens and scrolls", "", None)]
    page, index = found["page"], found["index"]
    return [
        (
            "report, a page",
            "<= 1/10 of the cost of drawing its figures with matplotlib; <= 400 KB with an image",
            f"{page['ratio']:.3f} ({page['page_ms']:.1f} ms, {page['matplotlib_ms']:.0f} ms); "
            f"{page['page_bytes_largest'] / 1e3:.0f} KB the largest of {page['pages']}",
            page["ratio"] <= page["target"] and page["page_bytes_largest"] <= 400_000,
        ),
        (
            f"report, an index of {index['people']:,} subjects",
            "opens and scrolls in Chromium",
            f"pages of {index['rows_a_page']:,}: the first ready in {index['ready_s']:g} s with {index['memory_mb']} "
            f"MB, worst frame {index['worst_frame_ms']} ms; all orders {index['all_mb']} MB in {index['write_s']:g} s",
            index["ready_s"] <= _READY_S and index["worst_frame_ms"] <= _FRAME_MS,
        ),
    ]
