"""Name files: one name a line, and nothing else becomes a name."""

import pytest

from jaxle.data.names import read_names


def test_spaces_blank_lines_and_byte_order_marks_are_no_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufefftree frog\r\n\r\n  café \n\n".encode())
    assert read_names(path) == ("tree frog", "café")
    assert read_names(path, 2) == ("tree frog", "café")


def test_mistakes_are_named(tmp_path):
    def refused(content, message, expected=None):
        (tmp_path / "names.txt").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_names(tmp_path / "names.txt", expected)

    refused(b"cat\ndog\ncat\n", "names.txt holds more than once: cat")
    refused(b"\n \n", "names.txt holds no names")
    refused(b"cat\n", "names.txt holds 1 names; expected 2", expected=2)
    refused(b"\xff\xfe\x00", "cannot read names from .*names.txt")
    with pytest.raises(ValueError, match="cannot read names from .*absent.txt"):
        read_names(tmp_path / "absent.txt")
