"""Weights of a trained model set to zero: which, how, and what is left."""
