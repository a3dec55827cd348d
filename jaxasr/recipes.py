"""Files of YAML: one's own, and the recipes that come with jaxasr."""

import itertools
import math
import pathlib
from typing import Any

import yaml

from jaxasr.errors import NO_TEXT, ConfigError, show
from jaxasr.registry import did_you_mean

MOST_BYTES = 2**23
"""Of a file, which takes half a minute to read."""
MOST_VALUES, MOST_LEVELS = 1_000_000, 50
"""Of a file, in which an alias counts as what it stands for."""
MOST_BITS = 4096
"""Of a whole number; longer ones Python does not print."""
RECIPES = pathlib.Path(__file__).parent / "configs"


def read_yaml(path: str | pathlib.Path) -> dict[str, Any]:
    """The mapping in a YAML file; a bare NAME is also looked for among the recipes that come with jaxasr.

    Raises:
      ConfigError: it cannot be read, is too large, or is no mapping.
    """
    path = pathlib.Path(path)
    found = _found(path)
    try:
        if found.stat().st_size > MOST_BYTES:
            raise ConfigError(
                f"{path}: {found.stat().st_size} bytes; options, in at most {MOST_BYTES}, were expected; give another "
                "file."
            )
        mapping = Loader(found.read_text(encoding="utf-8")).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{path}:{line}: {_short(error.problem)}; a file of YAML was expected; correct it.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {_short(error)}; a file of YAML was expected; correct it.") from None
    if mapping is not None and not isinstance(mapping, dict):
        raise ConfigError(
            f"{path}: holds a {type(mapping).__name__}; a mapping was expected; write one `option: value` a line."
        )
    return mapping or {}


def _short(said: object) -> str:
    text = " ".join(str(said).split())
    return text if len(text) <= 200 else text[:197] + "..."


def _found(path: pathlib.Path) -> pathlib.Path:
    """The file itself, or the recipe of that name."""
    recipes = {p.stem: p for p in sorted(RECIPES.glob("*.yaml"))}
    bare = path.parent in (pathlib.Path("."), pathlib.Path("configs")) and path.suffix in ("", ".yaml")
    if not path.is_file() and bare and path.stem in recipes:
        return recipes[path.stem]
    if not path.exists():
        raise ConfigError(
            f"{path}: no such file; a YAML file or one of the recipes {', '.join(recipes)} was expected; "
            f"check the path.{did_you_mean(path.stem, recipes)}"
        )
    return path


def _fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=mark)


class Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would keep the last, and what is no option.

    That is: aliases of what they stand in, or of very much; what is nested deep; numbers and texts that
    cannot be written.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self.levels = 0
        self.sizes: dict[yaml.Node, int] = {}
        """How many values a node stands for, once all of it is read."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """PyYAML's, with an end: `MOST_LEVELS` levels, and `MOST_VALUES` values where aliases are written out."""
        mark = self.peek_event().start_mark
        again = self.check_event(yaml.AliasEvent)
        self.levels += 1
        if self.levels > MOST_LEVELS:
            raise _fault(f"more than {MOST_LEVELS} levels", mark)
        node: Any = super().compose_node(parent, index)
        self.levels -= 1
        if not again:
            inner = node.value if isinstance(node.value, list) else []
            pairs = inner if isinstance(node, yaml.SequenceNode) else itertools.chain.from_iterable(inner)
            self.sizes[node] = 1 + sum(self.sizes[part] for part in pairs)
        if self.sizes.get(node, math.inf) > MOST_VALUES:
            raise _fault("an alias of what it stands in, or of too much", mark)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """PyYAML's, of which whole numbers have an end (`MOST_BITS`) and texts hold nothing that no file can hold."""
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:  # what a value that is not of its kind makes PyYAML raise is anybody's guess
            raise _fault(f"{show(node.value)} is no {node.tag.rpartition(':')[2]}", node.start_mark) from error
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise _fault(f"a whole number of more than {MOST_BITS} bits", node.start_mark)
        if isinstance(value, str) and NO_TEXT.search(value):
            raise _fault("text with a NUL character or half a surrogate pair", node.start_mark)
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """PyYAML's, with every key once."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise _fault(f"{key.value!r} for the second time", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
