"""What exact Shapley values over modalities cost: 100,000 people, 3 outcomes x 4 horizons, 3 modalities."""

import time
from pathlib import Path

import numpy as np
import torch

from riskpred.explain.coalitions import coalitions, fused, modality_reasons
from riskpred.model.fusion import Fusion
from riskpred.model.network import Sent, SentOne
from riskpred.model.paths import evaluator
from riskpred.model.threads import one_thread
from tests.benchmarks.night import command
from tests.benchmarks.night.results import Attempts, Figures
from tests.benchmarks.reasons import data

PEOPLE = 100_000
NAIVE = 512
_AT_ONCE = 4096
_ALL = ("--rescore", "all")


def measure(work: Path, attempts: Attempts) -> Figures:
    """Seconds of the night's own function, of the risks alone, and of eight whole forward passes."""
    del attempts
    found = data.made(work, data.HOSPITAL)
    bundle, batch, _ = data.people(found, 2048)
    model, inputs = bundle.model, bundle.model.tensors(batch)
    present = {name: given.present for name, given in inputs.items()}
    places = bundle.profiles.places(batch)
    with one_thread():
        sent = evaluator(model).encode(inputs)
        rows = torch.arange(_AT_ONCE) % len(batch)
        many = {name: SentOne(one.coefficients[:, rows], one.embedding[:, rows]) for name, one in sent.items()}
        there = {name: flag[rows] for name, flag in present.items()}
        group, blocks = places[rows.numpy()], PEOPLE // _AT_ONCE + 1
        fusion = Fusion.of(model)
        modality_reasons(model, many, bundle.profiles.sent, there, group)  # compiled and warm
        fusion.member_risks(many, there)
        both, alone = [], []
        for _ in range(blocks):
            started = time.perf_counter()
            modality_reasons(model, many, bundle.profiles.sent, there, group)
            both.append(time.perf_counter() - started)
            started = time.perf_counter()
            fusion.member_risks(many, there)
            alone.append(time.perf_counter() - started)
        scale = PEOPLE / (_AT_ONCE * blocks)
        few = torch.arange(min(NAIVE, len(batch)))
        some, flags = {n: g.take(few) for n, g in inputs.items()}, {n: f[few] for n, f in present.items()}
        reference = {
            name: SentOne(one.coefficients[:, places[few.numpy()]], one.embedding[:, places[few.numpy()]])
            for name, one in bundle.profiles.sent.items()
        }

        def eight(encode: object) -> float:
            started = time.perf_counter()
            for inside in coalitions(model.modalities):
                with torch.no_grad():
                    said: Sent = encode(some)  # type: ignore[operator]
                    model.member_risks(fused(said, reference, inside), flags).mean(dim=0)
            return (time.perf_counter() - started) / len(few) * PEOPLE

        eight(model.encode)
        naive, quick = eight(model.encode), eight(evaluator(model).encode)
    scores = work / "studies" / data.HOSPITAL / "night.duckdb"
    scores.unlink(missing_ok=True)
    nights, subjects = {}, 0
    # One in a hundred is told feature by feature: 1,000 of 100,000, as a night does where nothing is said.
    for name, explain, rescore in (("reading_images", 0.01, ()), ("images_known", 0.01, _ALL), ("without", 0.0, _ALL)):
        words = ["score", found.warehouse, "--model", found.bundle, "--into", scores, "--force", "--workers", "1"]
        asked = ["--explain", str(int(explain * data.HOSPITAL_PEOPLE)), "--json", *rescore]
        ran = command.run([*words, *asked], work).expect(0, 14)
        subjects = int(ran.json["subjects"])
        nights[name] = float(ran.json["summary"]["total_seconds"]) / subjects * PEOPLE
    reasons = float(np.sum(both)) * scale
    adds = (float(np.sum(both)) - float(np.sum(alone))) * scale
    return {
        "people": PEOPLE,
        "risks_and_reasons_s": reasons,
        "risks_alone_s": float(np.sum(alone)) * scale,
        "adds_s": adds,
        "naive_8_forwards_s": naive,
        "naive_8_forwards_with_our_encoders_s": quick,
        "ratio": naive / reasons,
        "ratio_with_our_encoders": quick / reasons,
        "night_subjects": subjects,
        "night_s_per_100k": nights,
        "share_of_night": adds / nights["reading_images"],
        "share_of_night_images_known": adds / nights["images_known"],
        "share_of_night_without_feature_reasons": adds / nights["without"],
    }
