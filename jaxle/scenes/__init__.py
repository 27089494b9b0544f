"""Scenes: the world that jaxle carries with it.

Small images of coloured, textured shapes whose every concept is known exactly.
"""

from jaxle.scenes.captions import captions
from jaxle.scenes.masks import masks
from jaxle.scenes.vocabulary import ATTRIBUTES, CLASS_NAMES, CONCEPTS, SUPERCLASSES
from jaxle.scenes.world import Scenes, render

__all__ = [
    "ATTRIBUTES",
    "CLASS_NAMES",
    "CONCEPTS",
    "SUPERCLASSES",
    "Scenes",
    "captions",
    "masks",
    "render",
]
