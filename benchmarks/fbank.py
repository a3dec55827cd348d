"""Log-mel features of sound in memory, int16 as it crosses to the device, with and without low frame rate."""

from collections.abc import Iterator
from typing import Any

from benchmarks import sizes
from benchmarks.measure import Case, PeerOptions, Row, measured
from jaxasr.nn.frontends import WavFrontend


def groups(options: PeerOptions) -> Iterator[list[Case]]:
    size = options.sizes()[0]  # the features of all are the same
    batch = sizes.sound_batch(size)
    work = {"arguments": (batch.audio, batch.audio_lengths), "amount": size.audio_s, "unit": "audio s"}

    def case(name: str, **stacking: int) -> Case:
        frontend = WavFrontend(**stacking)

        def features(*sound: Any) -> Any:
            return frontend(*sound, sample_rate=sizes.RATE)

        return Case(name, features, **work)

    cases = [case("log-mel, 80", lfr_m=1, lfr_n=1), case("log-mel, 80, LFR 7/6", lfr_m=7, lfr_n=6)]
    if options.peer:
        from benchmarks import torch_peer

        cases += torch_peer.fbank(batch, size)
    yield cases


def measure(options: PeerOptions) -> list[Row]:
    return measured(groups(options), options)
