"""The experiments, one module each; ``bnlib.lab.registry`` finds them."""
