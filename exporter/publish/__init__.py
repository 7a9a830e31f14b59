"""Write the bundle: manifest, card, plots, and the atomic move into place."""
