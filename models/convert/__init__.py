"""Official checkpoints -> ours: a reader that executes nothing, and what each family needs to be rebuilt."""
