"""The judgement of each claim, computed from a record: one module a claim."""
