"""Cells in worker processes and other kernels."""
