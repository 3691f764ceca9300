"""Compiled code: how functions are translated, linked, cached and warmed up (docs/compiled.md)."""
