"""docs/config.md, made from the dataclasses of `pipeline.config` and the explainers' options.

python -m jaxle.pipeline.settings_page docs/config.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from jaxle.explainers import EXPLAINERS
from jaxle.options import Option, describe
from jaxle.pipeline.config import Config, Encoder, Method
from jaxle.pipeline.reading import SECTIONS

HEAD = """\
# Settings

A config is a Python file whose `get_config()` starts from the defaults and changes what the
experiment is about:

```python
from jaxle.pipeline import defaults


def get_config():
    config = defaults.get_config()
    config.data.source = "folder:photos"
    config.methods.siglip = defaults.siglip("siglip_b_16_224")
    config.simulators.siglip = defaults.tower("siglip_l_16_256")
    return config
```

Every field below can be changed on the command line, `--config.data.limit=1000`; a misspelt name is
refused, and the nearest name offered. A tuple is written with commas,
`--config.target.taps=layer3,head:in`, or as in Python.
"""
METHODS = """\
## methods

A method is an entry `config.methods.NAME`, made by `defaults.label(…)`, `defaults.siglip(…)` or
`defaults.nonsense(…)`. It has these fields, those of an encoder where its concepts need one, and
its explainer's own options. An option that is left as None has the value of the field of the same
name in `fit` or `search` where you set that one, else the explainer's own default.
"""
SIMULATORS = """\
## simulators

A simulator is an entry `config.simulators.NAME`: `"labels"` (the data's own), an encoder made by
`defaults.tower(…)`, or `"package.module:name"`, a function of the source and the names of concepts
that returns an object with `concepts` and `rows(index, columns)`, or None where it cannot simulate
them. An encoder has these fields:
"""


def page() -> str:
    """Returns the page."""
    parts = [HEAD, "## The config itself\n", *_table(describe(Config))]
    for name, cls in SECTIONS.items():
        parts += [f"## {name}\n", f"{cls.__doc__}\n", *_table(describe(cls))]
    parts += [METHODS, *_table(describe(Method))]
    for name, explainer in EXPLAINERS.items():
        parts += [f"### Options of `{name}`: {explainer.meaning}\n"]
        parts += _table(describe(explainer.options))
    return "\n".join([*parts, SIMULATORS, *_table(describe(Encoder))])


def _table(fields: dict[str, Option]) -> Iterator[str]:
    yield "| field | default | meaning | value |"
    yield "|---|---|---|---|"
    for of in fields.values():
        default = f"`{of.default!r}`".replace("|", "\\|")
        yield f"| `{of.name}` | {default} | {of.meaning} | {of.expected} |".replace("''", '""')
    yield ""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
