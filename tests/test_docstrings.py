"""Every public name says what it is, as CONTRIBUTING.md asks; ruff looks at modules, classes and the form."""

import ast
import doctest
import functools
import importlib
import inspect
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, get_type_hints

import pytest

import jaxasr
from jaxasr import errors
from jaxasr.registry import Registry

PACKAGE = pathlib.Path(jaxasr.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
SHAPE = re.compile(r"\([^()]*\)|any shapes?\b")
"""As docstrings write it: (T, F), (U,)."""
WITHOUT = re.compile(r"(?<![\w.])(np\.ndarray|jax\.Array|Array)(?!, ['\"])")
"""An array in an annotation that says nothing of its shape, as `Float[Array, "T F"]` does."""
PLAIN = re.compile(
    r"(str|bytes|int|float|bool|None|Any|object|Literal|Sequence|Iterable|Iterator|Collection|Mapping|tuple|list|dict"
    r"|set|np\.ndarray|jax\.Array|Array|Float|Int|UInt32|Bool|Key|Params|PyTree|LengthsT|Shapes|Record|Kind|Utterance"
    r"|BucketShape|TextExample|Vocabulary|Hypothesis|UtteranceScore|Search|Fusion|Init|Rule|Option|[\[\], |.])+"
)
"""What annotations are made of whose values can be written in a line: plain ones, and the package's short records."""
TAKES_MORE = {
    "jaxasr.convert.espnet.fields_of": "the whole configuration of a model",
    "jaxasr.data.english.numbers_spelled": "inflect, which jaxasr does not require",
    "jaxasr.data.packs.read": "a pack",
    "jaxasr.data.packs.headers": "a pack",
    "jaxasr.data.packs.sound": "a pack",
    "jaxasr.data.packs.array_record": "array_record, which does not exist for every system",
    "jaxasr.data.tables.read": "a manifest",
    "jaxasr.data.tables.read_texts": "a manifest",
    "jaxasr.data.tables.read_lines": "a manifest",
    "jaxasr.fetch.connected": "a network",
    "jaxasr.finetune.folder_of": "a model",
    "jaxasr.info.lines": "all that is known of a model",
    "jaxasr.memory.step_memory": "a compiled step, of which each backend says something else",
    "jaxasr.memory.teller": "a run's source and its log",
    "jaxasr.nn.decoders.transformer.read_memory": "a decoder's block in whose call it is",
    "jaxasr.nn.decoders.transformer.scanned_blocks": "a decoder in whose call it is",
    "jaxasr.nn.decoders.transformer.embedded": "a decoder in whose call it is",
    "jaxasr.nn.fused.fused_attend": "a GPU",
    "jaxasr.notebook.spectrogram": "a page to look at",
}
"""Functions of such values for which three lines are too few, by what else an example would take."""
LINES = 3


class Said(NamedTuple):
    """A public function or method, and what it says of itself or inherits."""

    name: str
    node: ast.FunctionDef
    says: str


def module_of(file: pathlib.Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def tree_of(file: pathlib.Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def functions(file: pathlib.Path) -> Iterator[Said]:
    """The public ones of a file."""
    module = importlib.import_module(module_of(file))
    tree = tree_of(file)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    for owner, place in [(tree, module), *((node, getattr(module, node.name)) for node in classes)]:
        for node in owner.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                inherited = inspect.getdoc(getattr(place, node.name)) or ""
                yield Said(f"{place.__name__}.{node.name}", node, ast.get_docstring(node) or inherited)


@pytest.fixture(scope="module")
def said() -> list[Said]:
    found = [function for file in FILES for function in functions(file)]
    assert len(found) > 1000
    return found


def test_every_public_function_says_what_it_is(said):
    assert [function.name for function in said if not function.says] == []


def raised(function: ast.FunctionDef) -> set[str]:
    """The errors of jaxasr that a function raises itself."""
    nodes = (node.exc for node in ast.walk(function) if isinstance(node, ast.Raise))
    return {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)} & ERRORS


def test_what_raises_an_error_says_so(said):
    assert [(f.name, error) for f in said for error in sorted(raised(f.node)) if error not in f.says] == []


def annotations(function: ast.FunctionDef) -> Iterator[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    for argument in [*named, *filter(None, (arguments.vararg, arguments.kwarg))]:
        yield "" if argument.annotation is None else ast.unparse(argument.annotation)
    yield "" if function.returns is None else ast.unparse(function.returns)


def test_an_array_has_a_shape(said):
    unshaped = [f.name for f in said if any(map(WITHOUT.search, annotations(f.node))) and not SHAPE.search(f.says)]
    assert unshaped == []


def is_plain(annotation: str) -> bool:
    """Whether nothing but plain values stands there, beside axes and choices in quotes; quoted alone is a class."""
    return PLAIN.fullmatch(re.sub(r"(?<=[\[ ])'[^']*'", "", annotation)) is not None


def fits(function: Said) -> bool:
    """Whether it is a function by itself that makes something of plain values, so that a line can show what."""
    *takes, gives = annotations(function.node)
    shown = gives not in ("None", "Iterator[None]") and "Callable" not in gives
    return function.name.startswith("jaxasr.") and shown and bool(takes) and all(map(is_plain, takes))


def test_what_fits_in_three_lines_has_an_example(said):
    fitting = [function for function in said if fits(function)]
    assert len(fitting) > 250
    without = {function.name for function in fitting if ">>> " not in function.says}
    assert sorted(without - TAKES_MORE.keys()) == []
    assert sorted(TAKES_MORE.keys() - without) == []  # no exception that is none any more


def test_an_example_has_at_most_three_lines(said):
    read = doctest.DocTestParser().get_examples
    sources = {f.name: "".join(example.source for example in read(f.says)) for f in said}
    assert {name: source for name, source in sources.items() if source.count("\n") > LINES} == {}


def public_classes() -> set[type]:
    """What `import jaxasr` offers, what is registered, and the commands' options, each with what it derives from."""
    modules = [importlib.import_module(module_of(file)) for file in FILES]
    values = [value for module in modules for value in vars(module).values()]
    found = {getattr(jaxasr, name) for name in jaxasr.__all__}
    found |= {registry[name] for registry in values if isinstance(registry, Registry) for name in registry}
    found |= {value for value in values if isinstance(value, type) and value.__name__.endswith(("Options", "Flags"))}
    bases = {base for cls in found if isinstance(cls, type) for base in cls.__mro__}
    return {cls for cls in bases if cls.__module__.startswith("jaxasr.")}


def undocumented_fields(cls: type) -> list[str]:
    body = tree_of(pathlib.Path(inspect.getfile(cls))).body
    (node,) = (node for node in body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    after = [*node.body[1:], None]
    fields = [
        (item.target.id, isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant))
        for item, behind in zip(node.body, after, strict=True)
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and "ClassVar" not in ast.unparse(item)
    ]
    told = {name for name, hint in get_type_hints(cls, include_extras=True).items() if hasattr(hint, "__metadata__")}
    told |= set(re.findall(r"`(\w+)`", cls.__doc__ or ""))
    return [name for name, says in fields if not (says or name.startswith("_") or name in told)]


def test_every_field_of_a_public_class_says_what_it_is():
    classes = sorted(public_classes(), key=lambda cls: cls.__qualname__)
    assert len(classes) > 100
    assert {cls.__qualname__: names for cls in classes if (names := undocumented_fields(cls))} == {}


@pytest.mark.parametrize("module", [module_of(file) for file in FILES if ">>> " in file.read_text(encoding="utf-8")])
def test_examples_in_docstrings(module):
    loaded: Any = importlib.import_module(module)
    done = doctest.testmod(loaded, raise_on_error=False)
    assert done.attempted and not done.failed
