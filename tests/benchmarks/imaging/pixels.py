"""Pixels that a benchmark or test made itself, in the form that a prepared image file has."""

from types import SimpleNamespace


def prepared_of(pixels, grid=None):
    return SimpleNamespace(pixels=pixels, grid=grid)
