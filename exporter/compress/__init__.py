"""Choose, apply and measure the passes of a recipe."""
