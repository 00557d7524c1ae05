"""The parts of ``detect.py``, each a file: setting a run up, still images, videos, live sources, the report."""
