"""Calibration: the float model on ONNX Runtime over a user's data, and the ranges of what it computes."""
