"""Records and pixels up to prediction_time become arrays: tabular windows, irregular series, the latest image."""
