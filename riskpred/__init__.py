"""riskpred: calibrated, explained, multi-horizon disease risk from records, series and images."""

__version__ = "0.1.0"
