"""Accuracy: what a precision costs, of the whole model and of each operator, against float32 on ONNX Runtime's CPU."""
