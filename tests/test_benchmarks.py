"""Every benchmark runs at its smallest, and its record has what README.md promises."""

import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import scaling
from benchmarks.cost import cost_of, traffic
from benchmarks.hlo import parsed
from benchmarks.measure import Case, Options, PeerOptions, measured
from benchmarks.processes import call, resident
from benchmarks.summary import summary
from jaxasr.errors import ConfigError

PROMISED = {
    *("case", "side", "dtype", "median_ms", "low_ms", "high_ms", "rounds", "per_s", "unit", "speed", "gflop", "gbyte"),
    *("matmul_%", "copy_%", "memory_mib", "device_peak_mib", "compile_s", "times_ms"),
}


def check(name, tmp_path, capsys):
    file = tmp_path / "new" / "results.json"
    options: Any = benchmarks.options_of(benchmarks.module_of(name))
    benchmarks.run(name, options(size="tiny", rounds=1, json=file))
    record = json.loads(file.read_text())
    assert record["machine"]["devices"]["platform"] == "cpu" and record["versions"]["jax"] == jax.__version__
    result = record["results"][name]
    assert result["options"]["size"] == "tiny" and "json" not in result["options"]
    rows = result["rows"]
    assert rows and all(set(row) >= PROMISED for row in rows)
    assert all(row["gflop"] > 0 and row["gbyte"] > 0 and row["matmul_%"] > 0 for row in rows)
    assert rows[0]["case"] in capsys.readouterr().out


@pytest.mark.parametrize("name", ["fbank", "conv2d"])
def test_runs(name, tmp_path, capsys):
    check(name, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ctc", "encoder", "train_step", "search", "cif"])
def test_runs_slowly(name, tmp_path, capsys):
    check(name, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pipeline", {"utterances": 4, "rounds": 1, "lines": 100}),
        ("padding", {"utterances": 500, "batch_seconds": (30.0,)}),
        ("scaling", {"devices": (1, 2), "steps": 2, "layers": 2, "width": 16, "rows": 4, "seconds": 1.0}),
        ("memory", {"size": "tiny", "rows": 2, "seconds": 2.0, "cases": ("as it is",)}),
    ],
)
def test_those_with_options_of_their_own_run(name, told, tmp_path, capsys):
    file = tmp_path / "results.json"
    benchmarks.run(name, benchmarks.options_of(benchmarks.module_of(name))(json=file, **told))
    result = json.loads(file.read_text())["results"][name]
    assert result["rows"] and result["options"].keys() >= told.keys()
    assert capsys.readouterr().out


def test_an_unknown_name_is_told_a_near_one():
    with pytest.raises(ConfigError, match="Did you mean 'train_step'"):
        benchmarks.names("trainstep")
    assert set(benchmarks.names("all")) == {*benchmarks.BENCHMARKS} - {*benchmarks.LONG}


def test_options_that_a_benchmark_has_not_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        benchmarks.command(["search", "--peer=torch"])
    assert "--peer" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--rounds=0: 1 or more"):
        benchmarks.command(["fbank", "--rounds=0"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install torch"):
        PeerOptions(peer="torch").check()


def test_a_process_of_its_own_has_a_peak_of_its_own():
    assert call("processes", "resident", "VmHWM") < resident("VmHWM") / 4
    with pytest.raises(SystemExit, match=r"(?s)StopIteration.*status 1; 0 was expected"):
        call("processes", "resident", "none such")


def test_losses_that_are_no_numbers_differ():
    rows = [{"losses": [2.0, 3.0]}, {"losses": [2.0, math.nan]}]
    assert math.isnan(scaling.differing(rows)) and scaling.differing([rows[0], {"losses": [2.0, 3.3]}]) > 0.09


def test_a_loop_counts_every_turn():
    def layers(x, kernels):
        return jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), x, kernels)[0]

    optimised = {"xla_backend_optimization_level": 3}  # without, XLA does not say how often a loop runs
    cost = cost_of(jax.jit(layers).lower(jnp.zeros((32, 16)), jnp.zeros((6, 16, 16))).compile(optimised))
    assert cost.flops == pytest.approx(6 * 2 * 32 * 16 * 16, rel=0.02)
    assert cost.bytes > 6 * 4 * (16 * 16 + 32 * 16)


def test_of_arrays_that_are_updated_the_parts_count():
    """As a scan stacks what it gives: two arrays of 8 rows, of which a turn writes one each."""
    program = parsed("""
%fused (p: f32[8,4], x: f32[4]) -> (f32[8,4], f32[8,4]) {
  %p = f32[8,4] parameter(0)
  %x = f32[4] parameter(1)
  %row = f32[1,4] bitcast(%x)
  %one = f32[8,4] dynamic-update-slice(%p, %row)
  %two = f32[8,4] bitcast(%one)
  ROOT %both = (f32[8,4], f32[8,4]) tuple(%one, %two)
}

ENTRY %main (p: f32[8,4], x: f32[4]) -> (f32[8,4], f32[8,4]) {
  %p = f32[8,4] parameter(0)
  %x = f32[4] parameter(1)
  ROOT %done = (f32[8,4], f32[8,4]) fusion(%p, %x), kind=kLoop, calls=%fused
}
""")
    assert traffic(program, "main") == 3 * 4 * 4


def test_state_is_carried_and_cases_take_turns():
    order = []

    def peer(name):
        order.append(name)

    cases = [Case(name, peer, (name,), foreign=True) for name in "ab"]
    counting = Case("count", lambda n, x: (n + 1, x), (jnp.zeros(()), jnp.ones(())), carried=True)
    rows = measured([[*cases, counting]], Options(size="tiny", rounds=2, seconds=0.0))
    assert [row["rounds"] for row in rows] == [2, 2, 2] and rows[0]["gflop"] is None
    turns = "".join(order)
    assert turns.index("b") < turns.rindex("a")


@pytest.mark.parametrize(
    ("results", "page"), [("beside_peers_2core.jsonl", "README.md"), ("all_2core.json", "benchmarks/README.md")]
)
def test_pages_show_the_results(results, page):
    top = pathlib.Path(benchmarks.__file__).parent
    shown = summary(top / "results" / results)
    assert shown in (top.parent / page).read_text(encoding="utf-8"), f"paste:\n{shown}"
