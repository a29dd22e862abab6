"""Batch normalization, derived and measured: the package behind the course.

``bnlib.reference`` holds every formula once, in NumPy; ``bnlib.lab`` the data and the experiments;
``bnlib.exercises`` the checker; ``bnlib.course`` what the pages need around the mathematics.
Importing ``bnlib`` alone loads none of them.
"""

__version__ = "0.1.0"
