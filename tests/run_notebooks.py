"""Runs notebooks from top to bottom with JAXASR_TINY=1, each in a new empty folder: `make test-notebooks`.

    python tests/run_notebooks.py [NAME...]                # 01 is notebooks/01*.ipynb; all without names
    python tests/run_notebooks.py 01 --save=DIR            # DIR gets them as they ran, with their outputs

A cell that fails, a command (`!...`) with another exit status than 0, and a notebook that takes longer than `--seconds`
end with status 1. The kernel is this Python; the notebooks themselves are not written to.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from unoptimised import XLA_FLAGS

NOTEBOOKS = pathlib.Path(__file__).resolve().parent.parent / "notebooks"
COMMANDS_MUST_SUCCEED = """\
def _run(command, _system=get_ipython().system):
    _system(command)
    if status := get_ipython().user_ns["_exit_code"]:
        raise RuntimeError(f"exit status {status}: {command}")
get_ipython().system = _run
"""


class Client(NotebookClient):
    """With a kernel of this Python, whichever kernels the user has."""

    def create_kernel_manager(self):
        self.km = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
        return self.km


def environment(home: str) -> dict[str, str]:
    """In which `!python` is this Python, and nothing counts that the user has set up or that was compiled before."""
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    own = dict.fromkeys(["IPYTHONDIR", "JUPYTER_CONFIG_DIR", "XDG_CACHE_HOME"], home)
    quick = {"JAXASR_TINY": "1", "XLA_FLAGS": os.environ.get("XLA_FLAGS") or XLA_FLAGS}
    return os.environ | {"PATH": path} | own | quick


def run(file: pathlib.Path, seconds: float) -> nbformat.NotebookNode:
    """The notebook with its outputs, those of a cell that failed among them.

    Raises:
      CellExecutionError: a cell failed; `notebook` is what there was until then.
      CellTimeoutError: it took longer than `seconds`.
    """
    notebook = nbformat.read(file, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(COMMANDS_MUST_SUCCEED))
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
        client = Client(
            notebook,
            timeout_func=lambda _: max(int(end - time.monotonic()), 1),
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute(env=environment(home))
        except (CellExecutionError, CellTimeoutError) as error:
            error.notebook = notebook
            raise
        finally:
            del notebook.cells[0]
    return notebook


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seconds", type=float, default=240.0, help="the longest that a notebook may take")
    parser.add_argument("--save", type=pathlib.Path, metavar="DIR", help="where to keep them with their outputs")
    options = parser.parse_args()
    files = sorted({file for name in options.names or [""] for file in NOTEBOOKS.glob(f"{name}*.ipynb")})
    if not files:
        parser.error(f"no notebook {' '.join(options.names)}: there are {', '.join(map(str, NOTEBOOKS.glob('*')))}")
    failed = []
    for file in files:
        print(f"{file.name} ...", flush=True)
        began, fault = time.monotonic(), None
        try:
            notebook = run(file, options.seconds)
        except (CellExecutionError, CellTimeoutError) as error:
            notebook, fault = error.notebook, error
        took = time.monotonic() - began
        print(f"{file.name}  {took:.0f} s  {'ran' if fault is None else f'FAILED: {fault}'}", flush=True)
        if fault is not None:
            failed.append(file.name)
        if options.save is not None:
            options.save.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, options.save / file.name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
