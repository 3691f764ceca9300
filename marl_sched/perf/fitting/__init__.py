"""Fitting the catalogue and the interference table to published measurements."""
