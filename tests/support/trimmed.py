"""The text by which tests trim a vocabulary."""

CORPUS = ["the model runs small heads", "a layer of text and bread", "time of rain with the large price"]
