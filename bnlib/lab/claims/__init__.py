"""What the records say about each claim of the course: one module a claim."""
