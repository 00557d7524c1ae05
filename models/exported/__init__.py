"""Files that ``export.py`` has written, read back: they answer for pictures as the model does."""
