"""Learn from text: read it, batch it, and observe the activations, moments and sensitivities of a model on it."""
