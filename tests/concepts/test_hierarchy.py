"""Superclasses down to classes: nesting, what is dropped, and every mistake of a config."""

import numpy as np
import pytest

from jaxle.concepts.hierarchy import resolve_superclasses

CLASSES = ("cat", "dog", "deer", "frog", "car", "ship")


def classes_of(hierarchy, name):
    return {
        CLASSES[row] for row in np.flatnonzero(hierarchy.membership[:, hierarchy.names.index(name)])
    }


def test_nested_superclasses_reach_their_classes_in_any_order_of_definition():
    given = {
        "animal": ["mammal", "frog"],
        "mammal": ("pet", "deer"),
        "pet": ["cat", "dog"],
        "vehicle": ["car", "ship"],
    }
    hierarchy = resolve_superclasses(given, CLASSES)
    assert hierarchy.names == ("animal", "mammal", "pet", "vehicle")
    assert hierarchy.membership.shape == (6, 4) and hierarchy.membership.dtype == bool
    assert classes_of(hierarchy, "animal") == {"cat", "dog", "deer", "frog"}
    assert classes_of(hierarchy, "mammal") == {"cat", "dog", "deer"}
    assert classes_of(hierarchy, "pet") == {"cat", "dog"}
    assert hierarchy.dropped == {}


def test_single_full_and_repeated_sets_are_dropped_with_their_reason():
    given = {
        "pet": ["cat", "dog"],
        "companion": ["dog", "cat"],
        "swimmer": ["ship"],
        "thing": [*CLASSES],
        "again": ["pet"],
        "one": ["swimmer"],
    }
    hierarchy = resolve_superclasses(given, CLASSES)
    assert hierarchy.names == ("pet",)
    assert hierarchy.dropped == {
        "companion": "it has the same classes as pet",
        "swimmer": "it has a single class, ship",
        "thing": "it has all classes, so it is the same for every image",
        "again": "it has the same classes as pet",
        "one": "it has a single class, ship",
    }


def test_a_class_reached_twice_counts_once():
    hierarchy = resolve_superclasses(
        {"pet": ["cat", "dog"], "animal": ["pet", "cat", "deer"]}, CLASSES
    )
    assert classes_of(hierarchy, "animal") == {"cat", "dog", "deer"}


def test_no_superclasses_give_no_columns():
    hierarchy = resolve_superclasses({}, CLASSES)
    assert hierarchy.names == () and hierarchy.membership.shape == (6, 0)


def test_two_hundred_levels_deep():
    chain = {f"level {k}": [f"level {k + 1}", "cat"] for k in range(200)} | {
        "level 200": ["dog", "deer"]
    }
    assert classes_of(resolve_superclasses(chain, CLASSES), "level 0") == {"cat", "dog", "deer"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"a": ["b", "cat"], "b": ["c", "dog"], "c": ["a"]},
            "superclasses contain themselves: a → b → c → a$",
        ),
        ({"x": ["a", "cat"], "a": ["a", "dog"]}, "superclasses contain themselves: a → a$"),
        (
            {"pet": ["cta", "dog"], "vehicle": ["car", "plane"]},
            r"neither class nor superclass: cta in pet \(did you mean cat\?\), plane in vehicle",
        ),
        ({"pet": []}, "superclasses without members: pet;"),
        (
            {"cat": ["dog", "deer"], "frog": ["cat", "dog"]},
            "superclasses bear the names of classes: cat, frog;",
        ),
        ({"pet": "cat"}, "superclasses with a text for members: pet; expected a list"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        resolve_superclasses(given, CLASSES)
