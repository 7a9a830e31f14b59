"""Write the code by which an app loads a bundle."""
