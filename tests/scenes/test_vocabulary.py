"""Every word means one thing, every look at most one thing, superclasses hold their members."""

import numpy as np

from jaxle.scenes.patterns import ACCENT
from jaxle.scenes.places import FIELD
from jaxle.scenes.shapes import DISTANCE
from jaxle.scenes.vocabulary import (
    ATTRIBUTES,
    CLASS_NAMES,
    CLASS_OF,
    COLOURS,
    CONCEPTS,
    IMPLIES,
    PLACES,
    SHAPES,
    SUPERCLASSES,
    TEXTURES,
    THING_OF,
    THINGS,
)


def test_words_are_distinct_and_superclasses_are_made_of_concepts():
    assert len(set(CONCEPTS)) == len(CONCEPTS) and set(CLASS_NAMES) <= set(SUPERCLASSES)
    known = [name for names in ATTRIBUTES.values() for name in names]
    for name, members in SUPERCLASSES.items():
        assert len(members) > 1 and set(members) <= set(known), name
        known.append(name)
    assert tuple(known) == CONCEPTS


def test_painters_are_listed_in_the_order_of_the_words():
    assert tuple(DISTANCE) == SHAPES and tuple(FIELD) == PLACES and tuple(ACCENT) == TEXTURES[1:]


def test_each_look_has_the_name_of_the_only_thing_that_claims_it():
    for shape, colour, texture, place in np.ndindex(THING_OF.shape):
        look = SHAPES[shape], COLOURS[colour], TEXTURES[texture], PLACES[place]
        claims = [
            number
            for number, thing in enumerate(THINGS)
            if look[0] == thing.shape
            and look[1] in thing.colours
            and look[2] in thing.textures
            and look[3] in thing.places
        ]
        bound = [number for number in claims if THINGS[number].places != PLACES]
        assert len(bound) <= 1 and len(claims) - len(bound) <= 1, look
        assert THING_OF[shape, colour, texture, place] == (bound or claims or [-1])[0], look


def test_every_thing_can_be_seen_and_every_class_has_unlike_looks():
    assert set(range(len(THINGS))) <= set(np.unique(THING_OF))
    for number in range(len(CLASS_NAMES)):
        looks = {
            (thing.shape, thing.textures)
            for thing, of in zip(THINGS, CLASS_OF, strict=True)
            if of == number
        }
        assert len(looks) >= 3


def test_closure_is_the_transitive_one():
    column = {name: j for j, name in enumerate(CONCEPTS)}

    def above(name: str) -> set[str]:
        direct = {wider for wider, members in SUPERCLASSES.items() if name in members}
        return direct | {further for wider in direct for further in above(wider)}

    for name in CONCEPTS:
        assert {CONCEPTS[j] for j in np.flatnonzero(IMPLIES[column[name]])} == {name} | above(name)
    assert IMPLIES[column["apple"], column["food"]] and IMPLIES[column["square"], column["polygon"]]
