"""Reasons measured: do they add up, are they true, and what do they cost beside Captum, SHAP and the naive way.

Run by hand: `python -m tests.benchmarks.reasons --work DIR [--part NAME ...]`; nothing here is timed in the suite.
Every fit and night goes through the command line; what is timed is called as the night calls it.
"""
