"""Predictions beside gold spans."""
