"""Makes `release/espnet_*`: tiny random models as ESPnet's recipes leave them, and what ESPnet computes with them.

It needs ESPnet 202511, FunASR 0.8.8 (for make_fixtures.py) and torch, which no test does:

  PYTHONPATH=FUNASR:ESPNET python tests/parity/make_espnet.py [NAME...]

Each sound is computed by itself. Of the features every `STRIDE`th frame is kept.
"""

import io
import os
import pathlib
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import numpy as np
import sentencepiece
import soundfile
import torch
from espnet2 import __version__
from espnet2.tasks.asr import ASRTask
from espnet2.text.build_tokenizer import build_tokenizer
from espnet2.text.token_id_converter import TokenIDConverter
from espnet2.utils.yaml_no_alias_safe_dump import yaml_no_alias_safe_dump
from make_fixtures import drawn

RELEASE = pathlib.Path(__file__).parent / "release"
STRIDE = 16
TOKENS = (3, 9, 5, 5, 11, 4)
TEXT = """enter six two four five
erase c q q f seven
go rubout g m e nine four
repeat k help one w yes no start stop
november eleven nineteen ninety two p o box
my house is near the corner of forbes and thirty eighth"""
READ = "my house is near the corner of zürich and <unk> nine"
"""What tokenizers are tried on, in and out of their tokens."""
CHARACTERS = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
WORDS = sorted({*TEXT.split()})

ENCODER: dict[str, Any] = {"output_size": 24, "attention_heads": 4, "num_blocks": 2, "dropout_rate": 0.1}
DECODER: dict[str, Any] = {"attention_heads": 4, "linear_units": 48, "num_blocks": 2, "dropout_rate": 0.1}
RECIPES: dict[str, dict[str, Any]] = {
    "espnet_conformer": {
        "token_type": "bpe",
        "bpemodel": "data/en_token_list/bpe_unigram30/bpe.model",
        "frontend_conf": {"n_fft": 512, "win_length": 400, "hop_length": 160, "fs": "16k"},
        "normalize": "global_mvn",
        "normalize_conf": {"stats_file": "exp/asr_stats_raw_en_bpe30_sp/train/feats_stats.npz"},
        "encoder": "conformer",
        "encoder_conf": ENCODER
        | {
            "linear_units": 48,
            "positional_dropout_rate": 0.1,
            "attention_dropout_rate": 0.1,
            "input_layer": "conv2d",
            "normalize_before": True,
            "macaron_style": True,
            "rel_pos_type": "latest",
            "pos_enc_layer_type": "rel_pos",
            "selfattention_layer_type": "rel_selfattn",
            "activation_type": "swish",
            "use_cnn_module": True,
            "cnn_module_kernel": 15,
        },
        "decoder": "transformer",
        "decoder_conf": DECODER
        | {
            "positional_dropout_rate": 0.1,
            "self_attention_dropout_rate": 0.1,
            "src_attention_dropout_rate": 0.1,
        },
        "model_conf": {"ctc_weight": 0.3, "lsm_weight": 0.1, "length_normalized_loss": False},
        "specaug": "specaug",
        "specaug_conf": {
            "apply_time_warp": True,
            "time_warp_window": 5,
            "time_warp_mode": "bicubic",
            "apply_freq_mask": True,
            "freq_mask_width_range": [0, 27],
            "num_freq_mask": 2,
            "apply_time_mask": True,
            "time_mask_width_ratio_range": [0.0, 0.05],
            "num_time_mask": 10,
        },
        "optim": "adam",
        "optim_conf": {"lr": 0.0025, "weight_decay": 1.0e-06},
        "scheduler": "warmuplr",
        "scheduler_conf": {"warmup_steps": 40000},
    },
    "espnet_transformer": {
        "token_type": "char",
        "frontend_conf": {"fs": "16k"},
        "normalize": "utterance_mvn",
        "encoder": "transformer",
        "encoder_conf": ENCODER
        | {
            "linear_units": 48,
            "input_layer": "conv2d8",
            "interctc_layer_idx": [1],
            "interctc_use_conditioning": True,
        },
        "decoder": "dynamic_conv",
        "decoder_conf": DECODER | {"conv_wshare": 4, "conv_kernel_length": [5, 5]},
        "model_conf": {"ctc_weight": 0.4, "interctc_weight": 0.5, "lsm_weight": 0.1, "length_normalized_loss": True},
    },
    "espnet_e_branchformer": {
        "token_type": "word",
        "frontend_conf": {"fs": 16000, "n_mels": 40, "fmin": 80, "fmax": 7600, "htk": True},
        "normalize": "global_mvn",
        "normalize_conf": {"stats_file": "exp/asr_stats_raw_en_word/train/feats_stats.npz", "norm_vars": False},
        "encoder": "e_branchformer",
        "encoder_conf": ENCODER
        | {
            "cgmlp_linear_units": 48,
            "cgmlp_conv_kernel": 15,
            "use_ffn": True,
            "macaron_ffn": True,
            "linear_units": 48,
            "input_layer": "conv2d2",
        },
        "decoder": "rnn",
        "decoder_conf": {
            "hidden_size": 24,
            "num_layers": 2,
            "att_conf": {"atype": "location", "adim": 16, "aconv_chans": 3, "aconv_filts": 4},
        },
        "model_conf": {"ctc_weight": 0.5},
    },
}
FOLDERS = {"espnet_conformer": "exp/asr_train_asr_conformer_raw_en_bpe30_sp"}
"""Where in its folder a model of ESPnet's zoo has its files; another has them at the top."""


def token_list(recipe: dict[str, Any]) -> list[str]:
    if recipe["token_type"] != "bpe":
        inside = WORDS if recipe["token_type"] == "word" else ["<space>", *CHARACTERS]
    else:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT.splitlines()),
            model_writer=model,
            vocab_size=30,
            normalization_rule_name="identity",  # the default one is a quarter of a megabyte
            minloglevel=2,
        )
        path = pathlib.Path(recipe["bpemodel"])
        path.parent.mkdir(parents=True)
        path.write_bytes(model.getvalue())
        pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        inside = [pieces.id_to_piece(i) for i in range(3, pieces.vocab_size())]
    return ["<blank>", "<unk>", *inside, "<sos/eos>"]


def arguments(recipe: dict[str, Any]) -> Namespace:
    """What `espnet2.bin.asr_train --config` makes of a recipe's file."""
    parser = ASRTask.get_parser()
    parser.set_defaults(**recipe, token_list=token_list(recipe), output_dir="exp", max_epoch=50, keep_nbest_models=10)
    args = parser.parse_args([])
    return Namespace(**vars(args), version=__version__, distributed=False)


def statistics(recipe: dict[str, Any], sounds: list[torch.Tensor]) -> None:
    """The file of sums that ESPnet's stage 10 makes, of these sounds."""
    if "stats_file" not in recipe.get("normalize_conf", {}):
        return
    frontend = ASRTask.class_choices_list[0].get_class("default")(**recipe["frontend_conf"])
    frames = np.concatenate([frontend(x[None], torch.tensor([len(x)]))[0][0].numpy() for x in sounds])
    path = pathlib.Path(recipe["normalize_conf"]["stats_file"])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, count=len(frames), sum=frames.sum(axis=0), sum_square=np.square(frames).sum(axis=0))


def expected(model: Any, args: Namespace, sounds: list[torch.Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    tokenizer = build_tokenizer(args.token_type, args.bpemodel)
    yield "tokens", np.array(TOKENS)
    yield "token_list", np.array(args.token_list)
    text = READ.upper() if args.token_type == "char" else READ
    converter = TokenIDConverter(args.token_list)
    yield "read", np.array(text)
    yield "read_ids", np.array(converter.tokens2ids(tokenizer.text2tokens(text)))
    for number, sound in enumerate(sounds):
        given = sound[None], torch.tensor([len(sound)])
        features, frames = model._extract_feats(*(x.clone() for x in given))
        features, _ = model.normalize(features, frames)
        encoded, lengths = model.encode(*given)
        between = []
        if isinstance(encoded, tuple):
            encoded, between = encoded
        tokens = torch.tensor([[model.sos, *TOKENS]])
        logits, _ = model.decoder(encoded, lengths, tokens, torch.tensor([tokens.shape[1]]))
        said = model.ctc.log_softmax(encoded)
        ids = torch.unique_consecutive(said[0].argmax(-1))
        said_text = tokenizer.tokens2text(converter.ids2tokens(ids[ids > 0].numpy()))
        yield f"frames_{number}", np.arange(0, features.shape[1], STRIDE)
        yield f"features_{number}", features[0, ::STRIDE].numpy()
        yield f"encoded_{number}", encoded[0].numpy()
        yield f"ctc_{number}", said[0].numpy()
        yield from ((f"ctc_{layer}_{number}", model.ctc.log_softmax(x)[0].numpy()) for layer, x in between)
        yield f"attention_{number}", torch.log_softmax(logits[0], -1).numpy()
        yield f"text_{number}", np.array(said_text)


def make(name: str, sounds: list[torch.Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    shutil.rmtree(RELEASE / name, ignore_errors=True)
    (RELEASE / name).mkdir()
    os.chdir(RELEASE / name)
    recipe = RECIPES[name]
    args = arguments(recipe)
    statistics(recipe, sounds)
    model = ASRTask.build_model(args)
    for part in (model.encoder, model.decoder, model.ctc):
        drawn(part)
    for head in (model.ctc.ctc_lo, getattr(model.decoder, "output_layer", None) or model.decoder.output):
        head.weight.mul_(4.0)  # so that some tokens are likelier than others
    model.eval()
    folder = pathlib.Path(FOLDERS.get(name, "."))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "config.yaml").open("w", encoding="utf-8") as file:
        yaml_no_alias_safe_dump(vars(args), file, indent=4, sort_keys=False)
    torch.save(model.state_dict(), folder / "valid.acc.ave_10best.pth")
    yield from ((f"{name}/{key}", array) for key, array in expected(model, args, sounds))


@torch.no_grad()
def main() -> None:
    clips = (RELEASE / "clips.txt").read_text().split()
    sounds = [torch.from_numpy(soundfile.read(RELEASE / clip, dtype="float32")[0]) for clip in clips]
    path = RELEASE / "expected_espnet.npz"
    arrays = dict(np.load(path)) if path.exists() else {}
    for name in sys.argv[1:] or RECIPES:
        arrays |= dict(make(name, sounds))
        print(name)
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main()
