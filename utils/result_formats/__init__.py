"""The kinds of files that detecting leaves beside its pictures, one kind per module; ``ResultFiles`` has them all."""
