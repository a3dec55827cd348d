"""The errors that the source raises, the list of them in docs/errors.md, and what to paste where one is missing.

A message is compared by its text with `{}` for whatever is filled in: the list may name a placeholder as reads best.
"""

import ast
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import jaxasr
from jaxasr import errors

PACKAGE = pathlib.Path(jaxasr.__file__).parent
PAGE = PACKAGE.parent / "docs" / "errors.md"
OURS = {name for name, item in vars(errors).items() if isinstance(item, type) and issubclass(item, errors.JaxasrError)}


class Site(NamedTuple):
    """Where the source makes an error."""

    file: str
    """From the folder of the package on: jaxasr/data/audio.py."""
    first: int
    last: int
    kind: str
    """The class."""
    message: str
    """With `{name}` for what is filled in."""

    def __str__(self) -> str:
        return f"{self.file}:{self.first}"

    @property
    def only_says_where(self) -> bool:
        """Whether it puts a place before another error's message, and says nothing of its own."""
        return bool(re.fullmatch(r"[^;]*: \{error\}", self.message))


class Entry(NamedTuple):
    """A fault in docs/errors.md: one message or several, the cause, the fix."""

    line: int
    title: str
    messages: list[str]
    cause: str
    fix: str


def key(message: str) -> str:
    """`message` with `{}` for its placeholders, several in a row as one, without a hint behind its end."""
    bare = re.sub(r"(\{[^{}]*\})+", "{}", message)
    return re.sub(r"(?<=\.) ?\{\}$", "", bare)


def matches(text: str, message: str) -> bool:
    """Whether `text` is what `message` is printed as."""
    pattern = ".*".join(map(re.escape, key(message).split("{}")))
    return re.fullmatch(pattern + "( .*)?", text, re.DOTALL) is not None


# The source --------------------------------------------------------------------------------------------------


def sites(package: pathlib.Path = PACKAGE) -> list[Site]:
    """Where our errors are made, and others raised, in the order of files and lines."""
    found = []
    for path in sorted(package.rglob("*.py")):
        file, tree = str(path.relative_to(package.parent)), ast.parse(path.read_text(encoding="utf-8"))
        constants = _constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (kind := _class(node.func)) in OURS:
                message = "".join(_text(argument, constants) for argument in node.args[:1])
                found.append(Site(file, node.lineno, node.end_lineno or 0, kind, message))
            elif isinstance(node, ast.Raise) and node.exc is not None:
                kind = _class(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
                if kind[0].isupper() and kind not in OURS:  # others are functions and variables
                    found.append(Site(file, node.lineno, node.end_lineno or 0, kind, ""))
    return sorted(found)


def _class(node: ast.expr) -> str:
    return ast.unparse(node).split(".")[-1]


def _constants(module: ast.Module) -> dict[str, str]:
    """The texts that a module gives names to."""
    found = {}
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                found[name] = text
    return found


def _text(node: ast.expr, constants: Mapping[str, str]) -> str:
    match node:
        case ast.Constant(value=str(value)):
            if "{" in value or "}" in value:
                raise ValueError(f"line {node.lineno}: a brace in a message would read as a placeholder: {value}")
            return value
        case ast.JoinedStr(values=values):
            return "".join(_text(value, constants) for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, constants) + _text(right, constants)
        case ast.FormattedValue(value=value):
            return _text(value, constants)
        case ast.Name(id=name) if name in constants:
            return constants[name]
    return "{" + _name(node) + "}"


def _name(node: ast.expr) -> str:
    """The placeholder's name as the list may have it; the author finds a better one."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_")
        case ast.Call(func=ast.Name(id="len")):
            return "number"
        case ast.Call(args=[ast.expr() as only]):
            return _name(only)
        case ast.Call(func=ast.Name(id=name)):
            return name.strip("_")
    return "..."


# The list ----------------------------------------------------------------------------------------------------


def entries(page: str) -> list[Entry]:
    """The faults that the text of docs/errors.md lists: `### title`, messages as list items, **Cause** and **Fix**."""
    found = []
    for match in re.finditer(r"^### (.+)\n((?:(?!^##).*\n?)*)", page, re.MULTILINE):
        title, body = match[1], match[2]
        messages = [item[2] for item in re.finditer(r"^- (`+)(.+)\1$", body, re.MULTILINE)]
        line = page.count("\n", 0, match.start()) + 1
        found.append(Entry(line, title, messages, _paragraph(body, "Cause"), _paragraph(body, "Fix")))
    return found


def _paragraph(body: str, heading: str) -> str:
    match = re.search(rf"^\*\*{heading}\*\*: ((?:.+\n?)+?)(?=^\*\*|\n|\Z)", body, re.MULTILINE)
    return " ".join(match[1].split()) if match else ""


def anchor(title: str) -> str:
    """What a link to the heading ends in."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


# What is missing ---------------------------------------------------------------------------------------------


def undocumented(package: Iterable[Site], listed: Iterable[Entry]) -> list[Site]:
    """Errors of ours that are not on the list."""
    known = {key(message) for entry in listed for message in entry.messages}
    ours = [site for site in package if site.kind in OURS and not site.only_says_where]
    return [site for site in ours if key(site.message) not in known]


def stale(package: Iterable[Site], listed: Iterable[Entry]) -> Iterator[tuple[int, str]]:
    """(line of the entry, message) of what is on the list and raised nowhere."""
    raised = {key(site.message) for site in package if site.kind in OURS}
    for entry in listed:
        yield from ((entry.line, message) for message in entry.messages if key(message) not in raised)


def malformed(site: Site) -> str:
    """What a message lacks of `Where: what came; what was expected; what to do.`; empty where it lacks nothing.

    Two parts are enough where an option is the place, since its value then says what came, and where a hint behind
    the end (did you mean ...?) says what was expected.
    """
    if site.only_says_where:
        return ""
    message = key(site.message)
    if not message.endswith("."):
        return "it does not end in a full stop"
    first, *rest = message.split("; ")
    place, colon, _ = first.partition(": ")
    if not colon and not message.startswith("{}"):
        return "it does not begin with the place and a colon"
    short = place.startswith("--") or "=" in place or site.message.endswith("}")
    wanted = 1 if short else 2
    return "" if len(rest) >= wanted else f"{len(rest) + 1} of {wanted + 1} parts divided by '; '"


def for_the_list(missing: Iterable[Site]) -> str:
    """What to paste into docs/errors.md, and what to do with it."""
    entries = [
        f"{site}\n\n### Title in a few words\n\n- {_as_code(site.message)}\n\n"
        "**Cause**: why it happens, in a line or two.\n\n**Fix**: what to do, beyond what the message says.\n"
        for site in missing
    ]
    return "\n".join(
        [
            "docs/errors.md does not have these. Paste each into the section there that suits (or its message alone",
            "into the entry of the same fault), name the placeholders as reads best, and fill in the rest:\n",
            *entries,
        ]
    )


def _as_code(message: str) -> str:
    return f"``{message}``" if "`" in message else f"`{message}`"


def for_the_cases(missing: Iterable[Site]) -> str:
    """What to paste into a table of tests/errors/cases/, and what to do with it."""
    return "\n".join(
        [
            "Nothing in tests/errors/cases/ raises these. Paste each into CASES of the file there that suits, and fill",
            "it in (it runs in an empty folder of its own; milliseconds, please):\n",
            *(f'    "WHAT IS WRONG": lambda: CALL_THAT_RAISES,  # {site}: {site.message}' for site in missing),
        ]
    )
