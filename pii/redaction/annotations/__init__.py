"""Predictions as annotations that labelling tools import, and which documents to correct first."""
