"""Options of what stands around the encoder, FunASR's against ours: frontend, SpecAugment, normalisation, pre-encoder.

Theirs counts samples where ours has milliseconds; the sample rate is the task's here, the frontend's there.
"""

import math
from collections.abc import Mapping
from typing import Any

from jaxasr.convert.options import Option, Part, UnlikeOursError, fixed, idle, same

# --- frontends ---------------------------------------------------------------------------------------------------


def hertz(value: Any) -> int:
    """A sample rate, which theirs may write as 16k.

    >>> hertz("16k")
    16000
    """
    text = str(value).strip().lower()
    try:
        return round(float(text.removesuffix("k")) * (1000 if text.endswith("k") else 1))
    except ValueError:
        raise UnlikeOursError("fs", value, "samples per second") from None


def _in_ms(samples: int, rate: int) -> float:
    """Milliseconds that give so many samples again."""
    ms = samples * 1000 / rate
    while int(rate * ms * 0.001) < samples:
        ms = math.nextafter(ms, math.inf)
    return ms


def _sampled(theirs: Mapping[str, tuple[str, Any]]) -> Option:
    """`fs` and keys in samples, {theirs: (ours, default)}, whose fields are in milliseconds; None stays None.

    The task's sample rate stands among the fields of the part, where it is read and written.
    """
    names = {"fs": ("sample_rate", 16_000)} | dict(theirs)

    def read(fs: Any, *samples: Any) -> dict[str, Any]:
        rate = hertz(fs)
        found = zip(theirs.values(), samples, strict=True)
        return {"sample_rate": rate} | {ours: None if n is None else _in_ms(int(n), rate) for (ours, _), n in found}

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        rate = fields["sample_rate"]
        given = {key: fields[ours] for key, (ours, _) in theirs.items()}
        return {"fs": rate} | {key: None if ms is None else int(rate * ms * 0.001) for key, ms in given.items()}

    defaults = {key: default for key, (_, default) in names.items()}
    return Option(defaults, read, write, tuple(ours for ours, _ in names.values()))


def _milliseconds(theirs: str, ours: str, default: int) -> Option:
    """Whole numbers are written as such."""

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        value = float(fields[ours])
        return {theirs: int(value) if value.is_integer() else value}

    return same(theirs, ours, default)._replace(write=write)


def _edge(theirs: str, ours: str) -> Option:
    """Of the mel bands; None is what 0 is here."""
    return Option({theirs: None}, lambda hz: {ours: hz or 0.0}, lambda fields: {theirs: fields[ours] or None}, (ours,))


KALDI_WINDOWS = ("hamming", "povey", "hanning", "blackman", "rectangular")
WAV_FRONTEND = Part(
    "wav_frontend",
    ("WavFrontend", "wav_frontend"),
    (
        _sampled({}),
        same("window", "window", "hamming", {name: name for name in KALDI_WINDOWS}),
        same("n_mels", "num_mels", 80),
        _milliseconds("frame_length", "window_ms", 25),
        _milliseconds("frame_shift", "hop_ms", 10),
        same("lfr_m", "lfr_m", 1),
        same("lfr_n", "lfr_n", 1),
        same("dither", "dither", 1.0),
        same("snip_edges", "snip_edges", True),
        fixed("upsacle_samples", True),
        idle("filter_length_min", -1),
        idle("filter_length_max", -1),
        idle("cmvn_file"),  # read as a file of the folder
    ),
)
WAV_FRONTEND_ONLINE = WAV_FRONTEND.with_options(
    idle("snip_edges", True),  # theirs has no other way
    theirs=("WavFrontendOnline", "wav_frontend_online"),
)
"""The same, fed chunk by chunk."""
_NO_BEAMFORMER = {"use_wpe": False, "use_beamformer": False}


def _beamforming() -> Option:
    """Theirs has the defaults of a beamformer that is not used written out."""

    def read(conf: Any) -> dict[str, Any]:
        used = {key: value for key, value in (conf or {}).items() if key in _NO_BEAMFORMER and value}
        if used:
            raise UnlikeOursError("frontend_conf", used, f"{_NO_BEAMFORMER}, or none")
        return {}

    return Option({"frontend_conf": None}, read, lambda _: {"frontend_conf": None})


def _stacked_by_one() -> Option:
    """Ours leaves the stacking to the encoder where nothing is said; theirs has none."""

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        for name in ("lfr_m", "lfr_n"):
            if fields[name] not in (1, None):
                raise UnlikeOursError(name, fields[name], "1, no stacking")
        return {}

    return Option({}, lambda: {"lfr_m": 1, "lfr_n": 1}, write, ("lfr_m", "lfr_n"))


DEFAULT_FRONTEND = Part(
    "default",
    ("DefaultFrontend", "EspnetFrontend", "default"),
    (
        _sampled({"hop_length": ("hop_ms", 128), "win_length": ("window_ms", None)}),
        same("n_fft", "fft_size", 512),
        same("n_mels", "num_mels", 80),
        _edge("fmin", "low_hz"),
        _edge("fmax", "high_hz"),
        same("htk", "htk", False),
        fixed("window", "hann"),
        fixed("center", True),
        fixed("normalized", False),
        fixed("onesided", True),
        fixed("apply_stft", True),
        _beamforming(),
        _stacked_by_one(),
    ),
    (same("use_channel", "channel", None),),
)
SLIDING_WINDOW = Part(
    "sliding_window",
    ("SlidingWindow", "sliding_window"),
    (
        _sampled({"hop_length": ("hop_ms", 160)}),
        same("win_length", "window", 400),
        fixed("channels", 1),
        idle("padding"),
        _stacked_by_one(),
    ),
)
FRONTENDS = (WAV_FRONTEND, DEFAULT_FRONTEND, SLIDING_WINDOW)
WAV_FRONTENDS = (WAV_FRONTEND, WAV_FRONTEND_ONLINE)
"""Those that normalise by themselves."""

# --- SpecAugment -------------------------------------------------------------------------------------------------


def _range(value: Any) -> list[Any] | None:
    """From, and up to but not; of one number the latter."""
    return None if value is None else list(value) if isinstance(value, list | tuple) else [0, value]


def _frequency_masks() -> Option:
    keys = {"apply_freq_mask": True, "freq_mask_width_range": [0, 20], "num_freq_mask": 2}

    def read(apply: Any, widths: Any, number: Any) -> dict[str, Any]:
        found = {"num_freq_masks": number if apply else 0}
        widths = _range(widths)
        return found if widths is None else found | _widths("freq", widths)

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        number = fields["num_freq_masks"]
        found = {"apply_freq_mask": number > 0, "num_freq_mask": max(number, 1)}
        return found | _written_widths("freq", fields)

    return Option(keys, read, write, ("num_freq_masks", "min_freq_width", "max_freq_width"))


def _time_masks() -> Option:
    keys = {
        "apply_time_mask": True,
        "time_mask_width_range": None,
        "time_mask_width_ratio_range": None,
        "num_time_mask": 2,
    }

    def read(apply: Any, widths: Any, shares: Any, number: Any) -> dict[str, Any]:
        found = {"num_time_masks": number if apply else 0}
        widths, shares = _range(widths), _range(shares)
        if widths is not None:
            return found | _widths("time", widths) | {"max_time_share": None}
        if shares is not None:
            return found | {"min_time_share": shares[0], "max_time_share": shares[1], "max_time_width": None}
        return found  # theirs cannot be made of this, and ours has limits of its own

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        number = fields["num_time_masks"]
        found = {"apply_time_mask": number > 0, "num_time_mask": max(number, 1)}
        if fields["max_time_width"] is None and fields["max_time_share"] is not None:
            return found | {"time_mask_width_ratio_range": [fields["min_time_share"], fields["max_time_share"]]}
        return found | _written_widths("time", fields)

    return Option(keys, read, write, ("num_time_masks", "min_time_width", "max_time_width", "max_time_share"))


def _widths(axis: str, widths: list[Any]) -> dict[str, Any]:
    return {f"min_{axis}_width": widths[0], f"max_{axis}_width": max(widths[1] - 1, widths[0])}


def _written_widths(axis: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    low, high = fields[f"min_{axis}_width"], fields[f"max_{axis}_width"]
    return {} if high is None else {f"{axis}_mask_width_range": [low, high + 1]}


def _time_warp() -> Option:
    def read(apply: Any, window: Any) -> dict[str, Any]:
        return {"time_warp_window": window if apply else 0}

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        window = fields["time_warp_window"]
        return {"apply_time_warp": window > 0, "time_warp_window": window or 5}

    return Option({"apply_time_warp": True, "time_warp_window": 5}, read, write, ("time_warp_window",))


SPECAUG = Part(
    "specaug",
    ("SpecAug", "specaug"),
    (_time_warp(), _frequency_masks(), _time_masks(), idle("time_warp_mode", "bicubic")),
    training=(
        *("num_freq_masks", "min_freq_width", "max_freq_width", "min_freq_share", "max_freq_share"),
        *("num_time_masks", "min_time_width", "max_time_width", "min_time_share", "max_time_share"),
        "time_masks_per_frame",
    ),
)
SPECAUG_LFR = SPECAUG.with_options(idle("lfr_rate"), theirs=("SpecAugLFR", "specaug_lfr"))._replace(ours="specaug_lfr")
SPECAUGS = (SPECAUG, SPECAUG_LFR)

# --- normalisation, pre-encoder, post-encoder --------------------------------------------------------------------

_MVN = (same("norm_means", "mean", True), idle("eps", 1e-20))
GLOBAL_MVN = Part(
    "global_mvn",
    ("GlobalMVN", "global_mvn"),
    (*_MVN, same("norm_vars", "variance", True), idle("stats_file")),  # read as a file of the folder
)
UTTERANCE_MVN = Part("utterance_mvn", ("UtteranceMVN", "utterance_mvn"), (*_MVN, same("norm_vars", "variance", False)))


def _mean_or_variance() -> Option:
    """FunASR's divides by the root of the deviation where it takes off the mean too."""

    def read(mean: Any, variance: Any) -> dict[str, Any]:
        if mean and variance:
            raise UnlikeOursError("norm_vars", variance, "False beside norm_means")
        return {"mean": mean, "variance": variance}

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        if fields["mean"] and fields["variance"]:
            raise UnlikeOursError("variance", True, "False beside the mean")
        return {"norm_means": fields["mean"], "norm_vars": fields["variance"]}

    return Option({"norm_means": True, "norm_vars": False}, read, write, ("mean", "variance"))


NORMALIZERS = (GLOBAL_MVN, UTTERANCE_MVN.with_options(_mean_or_variance()))

LINEAR = Part("linear", ("LinearProjection", "linear"), (same("output_size", "width", 80), idle("input_size")))
SINC = Part(
    "sinc",
    ("LightweightSincConvs", "sinc"),
    (
        same("fs", "sample_rate", 16_000),
        same("out_channels", "width", 256),
        same("activation_type", "activation", "leakyrelu", {name: name for name in ("leakyrelu", "relu")}),
        same("windowing_type", "window", "hamming", {name: name for name in ("hamming", "none")}),
        same("scale_type", "scale", "mel", {name: name for name in ("mel", "bark")}),
        fixed("in_channels", 1),
        idle("dropout_type", "dropout"),
    ),
    training=("first_dropout", "dropout"),
)
PREENCODERS = (LINEAR, SINC)
