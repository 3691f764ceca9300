"""Trained schedulers for use elsewhere: as ONNX files, and as the one that ships."""
