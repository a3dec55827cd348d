"""FunASR's large Paraformer, of 220 million random numbers, comes here and goes back in little time and memory."""

import filecmp
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, time
import jax, numpy as np
from jaxasr.convert import convert_params, rules_of, theirs_of, torch_file
from jaxasr.data.batch import BucketShape
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.decoders import ParaformerSanmDecoder
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.tasks import ParaformerTask

SIZES = {"d_model": 512, "num_heads": 4, "d_ff": 2048}
TASK = ParaformerTask(
    encoder=SanmEncoder(num_layers=50, **SIZES),
    decoder=ParaformerSanmDecoder(num_layers=16, **SIZES),
    vocabulary=Vocabulary(("<blank>", "<s>", "</s>", *map(str, range(8400)), "<unk>")),
    normalizer=None,
)
rules = rules_of(TASK)
shapes = jax.eval_shape(TASK.model().init, jax.random.key(0), TASK.batch_spec(BucketShape(1, 16_000, 1)))
start = time.perf_counter()


def tell(what):
    global start
    now = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(what, round(now - start, 1), round(peak, 2))
    start = now

"""
MAKE = """
rng = np.random.default_rng(0)
params = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)
assert 2.1e8 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 2.3e8
torch_file.write(sys.argv[1], theirs_of(params, rules))
"""
CONVERT = """
params = convert_params(torch_file.read(sys.argv[1], lambda said: None), rules, shapes)
tell("here")
torch_file.write(sys.argv[2], theirs_of(params, rules))
tell("back")
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_large_paraformer(tmp_path):
    files = [str(tmp_path / name) for name in ("theirs.pt", "back.pt")]
    try:
        subprocess.run([sys.executable, "-c", SCRIPT + MAKE, *files], check=True)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT + CONVERT, *files], check=True, capture_output=True, text=True
        )
        print(done.stdout)
        assert filecmp.cmp(*files, shallow=False)
        for line in done.stdout.splitlines():
            way, seconds, peak = line.split()
            assert float(seconds) < 60.0, way
            assert float(peak) < 4.0, f"{way}: GiB"
    finally:
        for path in tmp_path.iterdir():  # pytest would keep gigabytes
            path.unlink()
