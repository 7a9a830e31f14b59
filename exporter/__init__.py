"""From a trained model to a verified bundle: capture, canonical graph, targets, verdict."""
