"""Precision: named rewrites of an OnnxGraph that change the types it computes in."""
