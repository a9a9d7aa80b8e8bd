"""The words users write: API objects as frozen structs, and what is read out of their definitions.

`markers.py` holds the marks that a field may carry, `gateway.py`, `routes.py`, `filters.py`, `grants.py`, `core.py` and
`own.py` the objects, `kinds.py` the table of kinds. `schema.py`, `validate.py` and `crd.py` are generated views of the
same definitions: nothing is stated twice.
"""
