"""Texts → spans → redacted texts, and back."""
