"""Makes `release/online_*`: a tiny random streaming Paraformer as FunASR 0.x and 1.x lay it out, and its numbers.

It needs what make_fixtures.py needs, which no test does:

  PYTHONPATH=FUNASR:ESPNET python tests/parity/make_online.py

`expected_online.npz` has what `ParaformerOnline` computes of each sound by itself, over the whole of it, with each of
its two chunk sizes (`0/...`, `1/...`), read from the folder of 0.x.
"""

import argparse
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from funasr.build_utils.build_model import build_model
from funasr.build_utils.build_model_from_file import build_model_from_file
from make_fixtures import drawn

RELEASE = pathlib.Path(__file__).parent / "release"
SEED = 1
"""Of numbers that leave no count of tokens, and no token, to rounding."""
FILES = {"config": "config.yaml", "model": "model.pb", "cmvn": "am.mvn"}
WIDTH = 56
"""Of features: 8 bands of 7 frames."""
STILL = {"dropout_rate": 0.0, "positional_dropout_rate": 0.0}
BLOCKS = {"attention_heads": 2, "linear_units": 16, "num_blocks": 2, "kernel_size": 11, **STILL}
CHUNKS = {
    "chunk_size": [12, 15],
    "stride": [8, 10],
    "pad_left": [0, 0],
    "encoder_att_look_back_factor": [4, 4],
    "decoder_att_look_back_factor": [1, 1],
}
COMMON: dict[str, Any] = {
    "model_conf": {
        "ctc_weight": 0.0,
        "lsm_weight": 0.1,
        "length_normalized_loss": True,
        "predictor_weight": 1.0,
        "predictor_bias": 1,
        "sampling_ratio": 0.75,
    },
    "encoder_conf": {
        "output_size": 12,
        "attention_dropout_rate": 0.0,
        "input_layer": "pe_online",
        "normalize_before": True,
        "sanm_shfit": 0,
        "selfattention_layer_type": "sanm",
        **BLOCKS,
        **CHUNKS,
    },
    "decoder_conf": {
        "self_attention_dropout_rate": 0.0,
        "src_attention_dropout_rate": 0.0,
        "att_layer_num": 2,
        "sanm_shfit": 5,
        **BLOCKS,
    },
    "predictor_conf": {"idim": 12, "threshold": 1.0, "l_order": 1, "r_order": 1, "tail_threshold": 0.45},
    "frontend_conf": {
        "fs": 16000,
        "window": "hamming",
        "n_mels": 8,
        "frame_length": 25,
        "frame_shift": 10,
        "lfr_m": 7,
        "lfr_n": 6,
        "dither": 0.0,
    },
    "ctc_conf": {"dropout_rate": 0.0, "ctc_type": "builtin", "reduce": True, "ignore_nan_grad": True},
    "normalize": None,
}
OLD = {
    "model": "paraformer_online",
    "encoder": "sanm_chunk_opt",
    "decoder": "paraformer_decoder_sanm",
    "predictor": "cif_predictor_v2",
    "frontend": "wav_frontend",
    "specaug": None,
    "input_size": None,
    "split_with_space": True,
    "cmvn_file": "am.mvn",
    "init": None,
}
NEW = {
    "model": "ParaformerStreaming",
    "encoder": "SANMEncoderChunkOpt",
    "decoder": "ParaformerSANMDecoder",
    "predictor": "CifPredictorV2",
    "frontend": "WavFrontendOnline",
    "specaug": "SpecAugLFR",
    "specaug_conf": {
        "apply_time_warp": False,
        "freq_mask_width_range": [0, 30],
        "num_freq_mask": 1,
        "lfr_rate": 6,
        "time_mask_width_range": [0, 12],
        "num_time_mask": 1,
    },
    "tokenizer": "CharTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
}


def made(folder: pathlib.Path) -> Any:
    """FunASR's model of a 0.x folder that has no parameters yet."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config |= {"cmvn_file": str(folder / "am.mvn"), "task_name": "asr"}
    return build_model(argparse.Namespace(**config)).eval()


def talkative(model: Any) -> Any:
    """Random numbers that make a text of more than one token: of drawn ones biases are too loud."""
    for name, tensor in drawn(model, SEED).state_dict().items():
        tensor.mul_(0.2 if name.endswith("bias") else 1.8 if tensor.dim() > 1 else 1.0)
    return model


def sounds() -> list[torch.Tensor]:
    clips = (RELEASE / "clips.txt").read_text().split()
    return [torch.from_numpy(soundfile.read(RELEASE / clip, dtype="float32")[0])[None] for clip in clips]


def features(model: Any, sound: torch.Tensor) -> torch.Tensor:
    return model.frontend(sound, torch.tensor([sound.shape[1]]))[0][0]


def statistics(mean: torch.Tensor, deviation: torch.Tensor) -> str:
    """Kaldi's form of them."""
    rows, width = {"AddShift": -mean, "Rescale": 1 / deviation}, len(mean)
    lines = ["<Nnet>", f"<Splice> {width} {width}", "[ 0 ]"]
    for name, row in rows.items():
        numbers = " ".join(f"{number:.6f}" for number in row.tolist())
        lines += [f"<{name}> {width} {width}", f"<LearnRateCoef> 0 [ {numbers} ]"]
    return "\n".join([*lines, "</Nnet>", ""])


def write(folder: pathlib.Path, config: dict[str, Any]) -> pathlib.Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return folder


def expected(model: Any, choice: int) -> Iterator[tuple[str, np.ndarray]]:
    for row, sound in enumerate(sounds()):
        encoded, lengths = model.encode(sound, torch.tensor([sound.shape[1]]), ind=choice)
        embeddings, counts, alphas, _ = model.calc_predictor(encoded.clone(), lengths)
        said, _ = model.cal_decoder_with_predictor(encoded.clone(), lengths, embeddings, counts.floor().long())
        chunks = model.encoder.overlap_chunk_cls
        frames, _ = chunks.remove_chunk(encoded, lengths, None)
        weights, _ = chunks.remove_chunk(alphas[:, :-1, None], lengths, None)
        count = int(counts)
        margin = torch.topk(said[0, :count], 2).values.diff().abs().min()
        print(choice, row, frames.shape[1], count, f"{alphas.sum() % 1:.3f} {margin:.4f}", said[0].argmax(-1).tolist())
        if choice == 0:
            yield f"{choice}/encoder_out_{row}", frames[0].numpy()
            yield f"{choice}/alphas_{row}", weights[0, :, 0].numpy()
        yield f"{choice}/count_{row}", np.array(count)
        yield f"{choice}/log_probs_{row}", said[0, :count].numpy()


@torch.no_grad()
def main() -> None:
    tokens = json.loads((RELEASE / "paraformer_1x/tokens.json").read_text(encoding="utf-8"))
    old = write(RELEASE / "online_0x", OLD | COMMON | {"token_list": tokens})
    new = write(RELEASE / "online_1x", NEW | COMMON)
    (old / "am.mvn").write_text(statistics(torch.zeros(WIDTH), torch.ones(WIDTH)))
    model = talkative(made(old))
    x = torch.cat([features(model, sound) for sound in sounds()])
    (old / "am.mvn").write_text(statistics(x.mean(0), x.std(0)))
    torch.save(model.state_dict(), old / "model.pb")
    for name, source in {"model.pt": old / "model.pb", "am.mvn": old / "am.mvn"}.items():
        shutil.copy(source, new / name)
    for name in ("tokens.json", "seg_dict"):
        shutil.copy(RELEASE / "paraformer_1x" / name, new / name)
    files = {f"{name}_file": str(old / file) for name, file in FILES.items()}
    model = build_model_from_file(**files)[0].eval()
    arrays = {f"feats_{row}": features(model, sound).numpy() for row, sound in enumerate(sounds())}
    for choice in range(2):
        arrays |= dict(expected(model, choice))
    np.savez_compressed(RELEASE / "expected_online.npz", **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
