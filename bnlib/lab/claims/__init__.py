"""The judgement of each claim, computed from its record."""
