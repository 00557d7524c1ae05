"""From a model in memory to a file that other programs run."""
