"""Where time goes: what a trace is read as, and the names that the package gives its parts in one."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.profiling import OTHER, op_names, part_of, spent

PROGRAM = """
HloModule jit_step, is_scheduled=true

%body.1 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  ROOT %fusion.2 = (s32[], f32[4]{0}) fusion(%p), kind=kLoop, metadata={op_name="jit(step)/jvp(features)/log"}
}

ENTRY %main.9 {
  %x = f32[4]{0} parameter(0)
  while.3 = (s32[], f32[4]{0}) while(%t), body=%body.1, metadata={op_name="jit(step)/encoder/while"}
  ROOT %copy.7 = f32[4]{0} copy(%x)
}
"""


def test_names_of_operations():
    names = op_names(PROGRAM)
    assert names["fusion.2"] == "jit(step)/jvp(features)/log"
    assert names["while.3"] is None  # its time is that of what runs inside
    assert names["copy.7"] == OTHER


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("jit(step)/jvp(features)/specaug/mul", "features/specaug"),
        ("jit(step)/jvp(AsrNetwork)/AsrNetwork.encode/encoder/encoder.run/blocks/attention/q/dot", "encoder/blocks"),
        ("jit(step)/transpose(jvp(AsrNetwork))/encoder/while/body/closed_call/ff/jit(_where)/select_n", "encoder/ff"),
        ("jit(step)/transpose(jvp(vmap(loss)))/exp", "loss"),
        ("jit(step)/jvp(features)/btk,kf->btf/dot_general", "features"),
        ("jit(step)/cond/branch_0_fun/optimizer/mul", "optimizer"),
        ("jit(step)/jvp()/add", OTHER),
        ("params['ctc']", OTHER),
        (OTHER, OTHER),
    ],
)
def test_part_of_an_operation(name, part):
    assert part_of(name, 2) == part


def test_a_trace_is_added_up_by_scopes(tmp_path: pathlib.Path):
    def loss(w, x):
        with jax.named_scope("small"):
            x = jnp.sin(x)
        with jax.named_scope("large"):
            return jnp.sum(jax.lax.fori_loop(0, 8, lambda _, y: jnp.tanh(y @ w), x))

    w, x = np.eye(256, dtype=np.float32), np.ones((256, 256), np.float32)
    compiled = jax.jit(jax.value_and_grad(loss)).lower(w, x).compile()
    with jax.profiler.trace(str(tmp_path)):
        jax.block_until_ready(compiled(w, x))
    found = {one.part: one for one in spent(tmp_path, compiled)}
    assert found["large"].backward > 0.0 < found["large"].forward
    assert next(iter(found)) == "large"
    assert found["large"].seconds == found["large"].forward + found["large"].backward < 60.0
