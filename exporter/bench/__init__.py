"""Measure latency on this machine or on a connected device."""
