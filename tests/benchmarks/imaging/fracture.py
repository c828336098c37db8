"""AUC on unseen long-bone phantoms: the study `fracatlas`, fitted and evaluated by riskpred's own verbs.

python -m tests.benchmarks.imaging.fracture [--images 1500] [--work DIR] [--seed 1]
"""

from tests.benchmarks.imaging.verbs import run
from tests.phantoms.fractures import write_fracatlas

if __name__ == "__main__":
    run("fracatlas", write_fracatlas, 1500, "fracture", "auc", 0.95)
