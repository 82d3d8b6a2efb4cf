"""Efficient neural architecture search with shared weights (ENAS, Pham et al. 2018) that grades its own search."""

__version__ = "0.1.0.dev0"
