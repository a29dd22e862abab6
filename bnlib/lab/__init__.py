"""Controlled experiments: data, models, training of many seeds, probes and recorded results."""
