"""Files of YAML: one's own, and the recipes that come with jaxasr."""

import pathlib
from typing import Any

import yaml

from jaxasr.errors import ConfigError
from jaxasr.registry import did_you_mean

RECIPES = pathlib.Path(__file__).parent / "configs"


def read_yaml(path: str | pathlib.Path) -> dict[str, Any]:
    """The mapping in a YAML file; a bare NAME is also looked for among the recipes that come with jaxasr."""
    path = pathlib.Path(path)
    try:
        mapping = Loader(_found(path).read_text(encoding="utf-8")).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{path}:{line}: {error.problem}; a file of YAML was expected; correct it.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}; a file of YAML was expected; correct it.") from None
    if mapping is not None and not isinstance(mapping, dict):
        raise ConfigError(
            f"{path}: holds a {type(mapping).__name__}; a mapping was expected; write one `option: value` a line."
        )
    return mapping or {}


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


class Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"{key.value!r} for the second time"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
