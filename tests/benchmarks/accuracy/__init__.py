"""Accuracy of riskpred beside the strongest peers, on the same folds of the same real data. README.md says how.

Importing it keeps every library that asks the environment to one thread: fits are then comparable and repeatable.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read when the libraries load, which is after this
