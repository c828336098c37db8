"""Simulated images whose truth is known, and writers that lay them out as the owners of data sets do."""
