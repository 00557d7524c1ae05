"""Objects followed from frame to frame: the methods of an optional library, and the state of a film."""
