"""What a model is worth on people it never saw: discrimination, accuracy, calibration, beside its peer."""
