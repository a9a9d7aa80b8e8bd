"""Findings and acknowledgements → the `status` of objects; read `desired.py` first, then `merge.py`."""
