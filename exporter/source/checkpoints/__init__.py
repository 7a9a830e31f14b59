"""Read the tensors of a checkpoint as some tool saved them, compressed or not, and say what their form is."""
