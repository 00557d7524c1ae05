"""Hyperparameter search, ``train.py --evolve``: trainings with other recipes, chosen by what the earlier ones gave."""
