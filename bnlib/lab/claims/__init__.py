"""What the records say about each claim, a module each; ``ledger`` lists them all."""
