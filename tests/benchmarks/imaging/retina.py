"""Quadratic kappa on unseen fundus phantoms: the study `aptos`, fitted and evaluated by riskpred's own verbs.

python -m tests.benchmarks.imaging.retina [--images 3000] [--work DIR] [--seed 1]
"""

from tests.benchmarks.imaging.verbs import run
from tests.phantoms.retina import write_aptos

if __name__ == "__main__":
    run("aptos", write_aptos, 3000, "retinopathy", "quadratic_kappa", 0.9)
