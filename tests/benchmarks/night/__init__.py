"""The night measured and attacked from outside: speed, memory, kills, full disks, faults, and what a user would write.

Everything goes through the command line: `riskpred ingest`, `fit`, `check` and `score`. Run by hand:
`python -m tests.benchmarks.night [PART ...] --work DIR [--subjects N]`; nothing here is timed in the suite. The attacks
are also tests of the suite, smaller: tests/functional/test_night_survives.py and test_night_faults.py.
"""
