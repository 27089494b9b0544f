import re

import numpy as np
import pytest

from jaxle.concepts.sets import (
    LONGEST,
    MOST,
    OF_THE_DATA,
    SETS,
    SHIPPED,
    gather,
    merge_alike,
    read_lines,
)

WORDS = ["Sea_Lion", "zebra"]
MIXED, NUMBER = ("zebra", 3), 3


def words():
    return ("zebra", "gnu\r\n")


def write(tmp_path, content, name="words.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"file:{path}"


def test_a_union_keeps_order_first_spelling_and_origin(tmp_path):
    words = write(
        tmp_path, "# animals\n\n  Sea   Lion \nzebra\n\t# not this\nGolden_Retriever\nzebra\n"
    )
    found = gather(
        ["classes", words, "superclasses"],
        classes=("golden_retriever", "cat"),
        superclasses=("dog", "ZEBRA"),
    )
    assert found.concepts == ("golden retriever", "cat", "Sea Lion", "zebra", "dog")
    assert found.origin == ("classes", "classes", words, words, "superclasses")
    assert found.repeated == {words: 2, "superclasses": 1}


def test_your_own_words_come_from_a_list_or_a_function():
    mine, made = f"{__name__}:WORDS", f"{__name__}:words"
    found = gather(["classes", mine, made], classes=("cat",))
    assert found.concepts == ("cat", "Sea Lion", "zebra", "gnu")
    assert found.origin == ("classes", mine, mine, made) and found.repeated == {made: 1}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NUMBER", "is int; expected a list or tuple of str, or a function"),
        ("MIXED", "is tuple that holds 3; expected a list or tuple of str"),
        ("__name__", "is str; expected a list or tuple of str"),
        ("Absent", "has no 'Absent', which concept set .* names"),
    ],
)
def test_an_object_that_is_no_list_of_words_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        gather([f"{__name__}:{name}"])


def test_one_table_names_every_set():
    assert list(SETS) == [*OF_THE_DATA, *SHIPPED] and all(kind.meaning for kind in SETS.values())


def test_the_order_of_sets_decides(tmp_path):
    words = write(tmp_path, "Dog\n")
    assert gather(["superclasses", words], superclasses=("dog",)).concepts == ("dog",)
    assert gather([words, "superclasses"], superclasses=("dog",)).concepts == ("Dog",)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_set_is_whole(name):
    found = gather([name])
    least, most = {
        "nouns": (3000, 8000),
        "common_words": (8000, 20_000),
        "textures": (47, 47),
        "scenes": (365, 365),
    }.get(name, (30, 1000))
    assert (
        least <= len(found.concepts) <= most and not found.repeated and set(found.origin) == {name}
    )
    assert all(re.fullmatch(r"[a-z][a-z '’-]*", concept) for concept in found.concepts)


def test_shipped_sets_hold_what_they_say():
    assert {"dog", "house", "window", "tree"} <= set(gather(["nouns"]).concepts)
    assert not {"time", "idea", "thursday"} & set(gather(["nouns"]).concepts)
    assert {"red", "green", "blue", "black", "white", "pink"} <= set(gather(["colours"]).concepts)
    assert {"wood", "glass", "velvet", "brick"} <= set(gather(["materials"]).concepts)
    assert {"wheel", "wing", "eye", "door"} <= set(gather(["parts"]).concepts)
    assert {"polka-dotted", "striped"} <= set(gather(["textures"]).concepts)
    assert {"airplane cabin", "hockey arena"} <= set(gather(["scenes"]).concepts)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    assert gather([write(tmp_path, "\ufeffcafé\r\nnaïve art\r\n".encode())]).concepts == (
        "café",
        "naïve art",
    )


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([], "expected a list of one or more of classes, superclasses, annotations, nouns"),
        ("nouns", "expected a list of one or more of classes"),
        (
            ["textuers"],
            "unknown concept set 'textuers' .did you mean textures.*valid: classes, superclasses, "
            "annotations, .*file:PATH, package.module:name",
        ),
        (["classes"], "concept set classes holds no concept; the data have none"),
        (["file:/nowhere/words.txt"], "cannot read concepts from /nowhere/words.txt: No such file"),
        (["file:/"], "cannot read concepts from /: Is a directory"),
    ],
)
def test_bad_sets_are_named(sets, message):
    with pytest.raises(ValueError, match=message):
        gather(sets)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="holds no concept"):
        gather([write(tmp_path, "\n \n# nothing\n")])
    with pytest.raises(ValueError, match="not UTF-8 text .byte 4."):
        gather([write(tmp_path, b"dog\n" + "café".encode("latin-1")[3:] + b"\n")])
    with pytest.raises(ValueError, match="not text .a zero byte at character 3."):
        gather([write(tmp_path, "dog\0cat\n")])
    with pytest.raises(
        ValueError,
        match=r"line 2 of file:.*words.txt has 1,000 characters .xxxx.*expected at most 200",
    ):
        gather([write(tmp_path, "dog\n" + "x" * 1000 + "\n")])
    assert gather([write(tmp_path, "x" * LONGEST)]).concepts == ("x" * LONGEST,)


def test_a_file_of_ten_megabytes_is_read_or_refused(tmp_path):
    few = write(tmp_path, "".join(f"concept number {i % 50_000:07d}\n" for i in range(440_000)))
    found = gather([few])
    assert len(found.concepts) == 50_000 and found.repeated[few] == 390_000
    many = write(tmp_path, "".join(f"concept number {i:07d}\n" for i in range(440_000)))
    with pytest.raises(
        ValueError, match=f"words.txt hold 440,000 concepts; expected at most {MOST:,}"
    ):
        gather([many])


def test_comments_are_only_whole_lines(tmp_path):
    assert gather([write(tmp_path, "C# programmer\n#hashtag\n")]).concepts == ("C# programmer",)
    assert all("#" not in line for _, line in read_lines("nouns"))


def test_names_of_equal_tokens_are_one_concept(tmp_path):
    names = ["cat", "C++", "dog", "C#", "x1", "x2", "x3", "x4", "x5"]
    found = gather(["classes", write(tmp_path, "\n".join(names[2:]))], classes=names[:2])
    tokens = np.array([[1, 0], [2, 0], [3, 0], [2, 0]] + [[4, 5]] * 5)
    merged = merge_alike(found, tokens)
    assert merged.concepts == ("cat", "C++ / C#", "dog", "x1 / x2 / x3 / 2 more")
    assert merged.origin == ("classes", "classes", found.origin[2], found.origin[2])
    assert merged.texts == {"C++ / C#": "C++", "x1 / x2 / x3 / 2 more": "x1"}
    one_prompt_differs = np.concatenate([tokens, np.arange(9)[:, None]], axis=1)
    same = merge_alike(found, one_prompt_differs)
    assert same.concepts == found.concepts and same.origin == found.origin and not same.texts
