"""Tests; a package so that no installed library's `tests` is taken for it."""
