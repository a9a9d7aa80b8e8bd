"""Tripylon."""
