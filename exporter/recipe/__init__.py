"""The recipe: what a user asks for, checked before any work begins.

Names of the module `recipe`, which this folder took the place of, are handed on from here for one release.
"""

from ...moved import moved

__getattr__ = moved(__name__, "headway.exporter.recipe.recipe")
