"""The steps that ``train.py`` calls by name."""
