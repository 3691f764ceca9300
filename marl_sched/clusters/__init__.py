"""Launching on clusters: launch files, their validation, and a look at what Ray finds."""
