"""The steps that ``test.py`` takes, each a file."""
