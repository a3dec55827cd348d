"""The headers of many files, read in threads and kept."""

import contextlib
import dataclasses
import logging
import math
import os
import pathlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import rich.progress

from jaxasr import consoles
from jaxasr.data import packs
from jaxasr.data.reading import in_order, reading
from jaxasr.data.source import FileSource, Header, Source, status
from jaxasr.data.utterance import Utterance
from jaxasr.errors import DataError

_LOG = logging.getLogger(__name__)
_KEPT_AT_ONCE = 1000


def headers(
    utterances: Sequence[Utterance],
    source: Source,
    *,
    whole: bool = False,
    trust: bool = False,
    max_seconds: float = math.inf,
) -> Mapping[str, Header | DataError]:
    """By path, what there is to know of the utterances' files; of text, which was read with its manifest, nothing.

    Args:
      whole: read each file to its end once.
      trust: leave alone the files of utterances whose manifest says how long they are.
      max_seconds: of the longest utterance that will be read; longer files of which none is a part are not read to
        their end.
    """
    if isinstance(source, FileSource):
        paths = dict.fromkeys(u.audio for u in utterances if not trust or u.seconds is None)
        packed = packs.headers(filter(packs.is_record, paths))  # they were read to their end when they were packed
        parts = {u.audio for u in utterances if u.seconds is not None}
        others = [path for path in paths if path not in packed]
        return packed | probe(
            others, source, whole=whole, max_seconds=lambda p: math.inf if p in parts else max_seconds
        )
    return dict.fromkeys((u.audio for u in utterances), Header(0, 0, 0))


def probe(
    paths: Iterable[str | os.PathLike[str]],
    source: FileSource,
    *,
    whole: bool = False,
    progress: bool = True,
    max_seconds: Callable[[str], float] = lambda path: math.inf,
) -> dict[str, Header | DataError]:
    """The header of what is at each path, or the DataError that reading it raised.

    Headers are kept under `$XDG_CACHE_HOME/jaxasr` and taken from there while a file's size and time of change
    stay the same. The progress bar shows only on a terminal.

    Args:
      whole: read each to its end once, so that a file cut short or with values that are no numbers shows now.
      max_seconds: by path, of files that are read so.
    """
    unique = list(dict.fromkeys(os.fspath(path) for path in paths))
    console = consoles.console(stderr=True)
    hidden = not (progress and console.is_terminal)
    fresh: list[_Entry] = []
    results: dict[str, Header | DataError] = {}
    with _Cache() as cache, contextlib.ExitStack() as opened:
        pending = in_order(
            lambda asked: _probe(*asked, source=source, whole=whole),
            ((path, cache.get(path), max_seconds(path)) for path in unique),
            threads=min(32, 4 + (os.cpu_count() or 1)),
            ahead=_KEPT_AT_ONCE,
        )
        opened.enter_context(contextlib.closing(pending))
        shown = pending
        if not hidden:  # a bar that is disabled prints an empty line, in rich before 14.3
            doing = f"Checking {source.kind}" if whole else "Reading headers"
            shown = rich.progress.track(pending, doing, total=len(unique), console=console, transient=True)
        try:
            for path, (result, entry) in zip(unique, shown, strict=True):
                results[path] = result
                fresh += [entry] if entry else []
                if len(fresh) == _KEPT_AT_ONCE:  # a check of many hours can be stopped and gone on with
                    cache.put(fresh)
                    fresh.clear()
        finally:
            cache.put(fresh)
    return results


@dataclasses.dataclass(frozen=True)
class _Entry:
    path: str
    size: int
    mtime_ns: int
    info: Header
    whole: bool
    """Whether it was read to its end."""


def _probe(
    path: str, known: _Entry | None, max_seconds: float, *, source: FileSource, whole: bool
) -> tuple[Header | DataError, _Entry | None]:
    """The header or fault, and the entry to keep where it is not the known one."""
    try:
        # Taken before the file is read: one that changes in between is read again next time.
        with reading(path):
            now = status(source.file(path), path)
            if known and (known.size, known.mtime_ns) == (now.st_size, now.st_mtime_ns) and known.whole >= whole:
                return known.info, None
            found = source.info(path)
            whole = whole and source.seconds(found) <= max_seconds
            if whole:
                source.check(path, found)
    except DataError as error:
        return error, None
    return found, _Entry(os.path.abspath(path), now.st_size, now.st_mtime_ns, found, whole)


class _Cache:
    """Headers by absolute path in a database; one that fails is left alone after a warning."""

    def __init__(self) -> None:
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> "_Cache":
        with self._guarded():
            home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
            folder = pathlib.Path(home) / "jaxasr"
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(folder / "sound.sqlite")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS sound "
                "(path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, "
                "frames INTEGER, rate INTEGER, channels INTEGER, whole INTEGER)"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._database:
            self._database.close()
        self._database = None

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        # RuntimeError: no home folder. UnicodeError: a path that is no text.
        except (OSError, RuntimeError, UnicodeError, sqlite3.Error) as error:
            _LOG.warning("The cache of headers is not used: %s", error)
            self._close()

    def get(self, path: str) -> _Entry | None:
        with self._guarded():
            if self._database:
                query = "SELECT size, mtime_ns, frames, rate, channels, whole FROM sound WHERE path = ?"
                row = self._database.execute(query, (os.path.abspath(path),)).fetchone()
                return _Entry(path, row[0], row[1], Header(*row[2:5]), bool(row[5])) if row else None
        return None

    def put(self, entries: list[_Entry]) -> None:
        with self._guarded():
            if self._database and entries:
                rows = [(e.path, e.size, e.mtime_ns, *dataclasses.astuple(e.info), e.whole) for e in entries]
                with self._database:
                    self._database.executemany("INSERT OR REPLACE INTO sound VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
