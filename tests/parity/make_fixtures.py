"""Makes `more/*.npz`: what FunASR computes with more of its options, each utterance by itself, on random weights.

It needs FunASR 0.8.8, ESPnet 202511, transformers 5.24 and torch, which no test does:

  PYTHONPATH=FUNASR:ESPNET python tests/parity/make_fixtures.py [NAME...]

Keys are those of the other files: `in/NAME`, `param/STATE_DICT_KEY`, `out/NAME`; `options` holds the JSON of the
constructor's arguments. Every weight is drawn, those too that modules begin with zeros or ones.
"""

import collections
import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from espnet2.asr.postencoder.length_adaptor_postencoder import LengthAdaptorPostEncoder
from funasr.models.ctc import CTC
from funasr.models.decoder.rnn_decoder import RNNDecoder
from funasr.models.decoder.sanm_decoder import ParaformerSANMDecoder
from funasr.models.decoder.transformer_decoder import (
    DynamicConvolution2DTransformerDecoder,
    DynamicConvolutionTransformerDecoder,
    LightweightConvolution2DTransformerDecoder,
    LightweightConvolutionTransformerDecoder,
)
from funasr.models.e2e_asr_paraformer import Paraformer, ParaformerOnline
from funasr.models.encoder.branchformer_encoder import BranchformerEncoder
from funasr.models.encoder.conformer_encoder import ConformerEncoder
from funasr.models.encoder.e_branchformer_encoder import EBranchformerEncoder
from funasr.models.encoder.rnn_encoder import RNNEncoder
from funasr.models.encoder.sanm_encoder import SANMEncoder, SANMEncoderChunkOpt
from funasr.models.encoder.transformer_encoder import TransformerEncoder
from funasr.models.postencoder.hugging_face_transformers_postencoder import HuggingFaceTransformersPostEncoder
from funasr.models.predictor.cif import CifPredictorV2, CifPredictorV3
from funasr.models.preencoder.linear import LinearProjection
from funasr.models.preencoder.sinc import LightweightSincConvs
from funasr.modules.embedding import SinusoidalPositionEncoder
from transformers import AutoModel, BertConfig, BertForMaskedLM, RobertaConfig, RobertaModel
from transformers.models.roberta_prelayernorm import RobertaPreLayerNormConfig, RobertaPreLayerNormForMaskedLM

HERE = pathlib.Path(__file__).parent / "more"
FEATURES, FRAMES = 20, (37, 26, 11)
VOCABULARY, TOKENS = 19, (9, 6, 2)
SMALL: dict[str, Any] = {"output_size": 16, "attention_heads": 2, "num_blocks": 2}
STILL = {"dropout_rate": 0.0, "positional_dropout_rate": 0.0, "attention_dropout_rate": 0.0}
LATEST = {"rel_pos_type": "latest"}
ADDED = {"selfattention_layer_type": "selfattn"}

CONFORMERS = {
    "latest": LATEST | {"macaron_style": True},
    "legacy": {"macaron_style": True},
    "absolute": {"pos_enc_layer_type": "abs_pos", "selfattention_layer_type": "selfattn", "activation_type": "relu"},
    "scaled": {
        "pos_enc_layer_type": "scaled_abs_pos",
        "selfattention_layer_type": "selfattn",
        "activation_type": "tanh",
    },
    "plain": LATEST | {"use_cnn_module": False, "input_layer": "linear", "activation_type": "selu"},
    "norms_last": LATEST | {"normalize_before": False, "concat_after": True, "input_layer": "conv2d2"},
    "conv2d6": LATEST | {"macaron_style": True, "input_layer": "conv2d6", "activation_type": "hardtanh"},
}
TRANSFORMERS = {"conv2d8": {"input_layer": "conv2d8"}, "embed": {"input_layer": "embed"}}
LONGER = (37, 26, 17)
CONDITIONED = {
    "transformer": (TransformerEncoder, {"input_layer": "linear", "linear_units": 24}),
    "sanm": (SANMEncoder, {"input_layer": "pe", "linear_units": 24, "kernel_size": 5}),
}
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
BERTS = {
    "post_norm": (BertConfig, BertForMaskedLM, {"vocab_size": 11}),
    "relu": (RobertaConfig, RobertaModel, {"vocab_size": 11, "hidden_act": "relu", "layer_norm_eps": 1e-3}),
    "pre_norm": (RobertaPreLayerNormConfig, RobertaPreLayerNormForMaskedLM, {"vocab_size": 11, "layer_norm_eps": 1e-5}),
}
GATING = {"cgmlp_linear_units": 24, "cgmlp_conv_kernel": 5}
BRANCHFORMERS = {
    "concat": {},
    "legacy": {"rel_pos_type": "legacy"},
    "learned_average": {"merge_method": "learned_ave", "use_linear_after_conv": True, "gate_activation": "tanh"},
    "fixed_average": {"merge_method": "fixed_ave", "cgmlp_weight": 0.3, "input_layer": "linear"},
    "absolute": {"pos_enc_layer_type": "abs_pos", "attention_layer_type": "selfattn"},
}
FEED_FORWARD = {"linear_units": 24, "use_ffn": True}
E_BRANCHFORMERS = {
    "macaron": FEED_FORWARD | {"macaron_ffn": True},
    "one_feed_forward": FEED_FORWARD | {"merge_conv_kernel": 5, "ffn_activation_type": "relu"},
    "none": {"input_layer": "linear"},
}

RNNS = {
    "blstm": {"subsample": (2, 2, 1)},
    "gru": {"rnn_type": "gru", "bidirectional": False, "subsample": (1, 3)},
    "bgru_without_projection": {"rnn_type": "gru", "use_projection": False},
    "lstm_without_projection": {"bidirectional": False, "use_projection": False},
}
SANM = SMALL | STILL | {"linear_units": 24, "input_layer": "pe", "kernel_size": 5}
SANMS = {"one_block": {"num_blocks": 1}, "causal": {"kernel_size": 7, "sanm_shfit": 3}}
SANM_CHUNKS = {
    "look_ahead": {"chunk_size": (8,), "stride": (5,)},
    "look_back_2": {"chunk_size": (6,), "stride": (6,), "encoder_att_look_back_factor": (2,)},
    "pad_left": {"chunk_size": (9,), "stride": (4,), "pad_left": (3,)},
}
CONVOLUTION = {
    "attention_heads": 2,
    "linear_units": 24,
    "num_blocks": 2,
    "dropout_rate": 0.0,
    "positional_dropout_rate": 0.0,
    "conv_wshare": 4,
    "conv_kernel_length": (5, 5),
}
RNN = {"hidden_size": 12, "num_layers": 2}
ATTENTION = {"adim": 8, "aconv_chans": 3, "aconv_filts": 4}
DECODERS = {
    "rnn_location": (RNNDecoder, RNN | {"att_conf": ATTENTION}),
    "rnn_add": (RNNDecoder, RNN | {"context_residual": True, "att_conf": ATTENTION | {"atype": "add"}}),
    "rnn_dot": (RNNDecoder, RNN | {"rnn_type": "gru", "att_conf": ATTENTION | {"atype": "dot"}}),
    "lightweight_conv": (LightweightConvolutionTransformerDecoder, CONVOLUTION),
    "lightweight_conv2d": (LightweightConvolution2DTransformerDecoder, CONVOLUTION | {"conv_usebias": True}),
    "dynamic_conv": (DynamicConvolutionTransformerDecoder, CONVOLUTION | {"conv_usebias": True}),
    "dynamic_conv2d": (DynamicConvolution2DTransformerDecoder, CONVOLUTION),
}
OTHERS: dict[str, Any] = {
    "linear": (LinearProjection, {"input_size": 20, "output_size": 7}, 20),
    "sinc": (LightweightSincConvs, {"fs": 16000, "out_channels": 256}, 400),
    "sinc_relu": (
        LightweightSincConvs,
        {"fs": 8000, "out_channels": 128, "activation_type": "relu", "windowing_type": "none", "scale_type": "bark"},
        400,
    ),
    "length_adaptor": (LengthAdaptorPostEncoder, {"input_size": 12, "length_adaptor_n_layers": 2}, 12),
    "length_adaptor_linear": (
        LengthAdaptorPostEncoder,
        {"input_size": 12, "length_adaptor_n_layers": 1, "input_layer": "linear", "output_size": 8},
        12,
    ),
}
WIDTH = 12
CIF_V3 = {
    "cnn": {"upsample_times": 5, "upsample_type": "cnn", "smooth_factor2": 0.25, "noise_threshold2": 0.01},
    "blstm": {"upsample_times": 3, "upsample_type": "cnn_blstm", "use_cif1_cnn": False},
    "smooth": {"upsample_times": 2, "upsample_type": "cnn", "smooth_factor": 0.8, "noise_threshold": 0.1, "l_order": 2},
    "attention": {"upsample_times": 2, "upsample_type": "cnn_attn"},
}
WITH_GRADIENT = ("look_ahead", "blstm", "latest", "legacy", "learned_average", "macaron")


def drawn(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module with every parameter and running statistic drawn."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = (
                torch.randn(tensor.shape, generator=generator) / max(tensor[0].numel() if tensor.dim() else 1, 1) ** 0.5
            )
            positive = name.endswith("running_var") or ("norm" in name and name.endswith("weight"))
            tensor.copy_(1 + noise.abs() / 4 if positive else noise / 2)
    return module.eval()


def encoded(module: torch.nn.Module, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Encoded frames, those of overlapping chunks put back into their order."""
    y, y_lengths, _ = module(x, lengths)
    chunks = getattr(module, "overlap_chunk_cls", None)
    return y if chunks is None else chunks.remove_chunk(y, y_lengths, None)[0]


def encoder_case(
    make: Callable[..., torch.nn.Module], options: dict[str, Any], *, gradient: bool
) -> Iterator[tuple[str, np.ndarray]]:
    module = drawn(make(FEATURES, **options))
    generator = torch.Generator().manual_seed(1)
    lengths = LONGER if options.get("input_layer") == "conv2d8" else FRAMES
    x = torch.randn(len(lengths), max(lengths), FEATURES, generator=generator)
    if options.get("input_layer") == "embed":
        x = torch.randint(0, FEATURES, x.shape[:2], generator=generator)
    yield from (("in/x", x.numpy()), ("in/x_lens", np.array(lengths, np.int32)))
    yield from ((f"param/{name}", tensor.numpy().copy()) for name, tensor in module.state_dict().items())
    for row, frames in enumerate(lengths):
        with torch.set_grad_enabled(gradient):
            y = encoded(module, x[row : row + 1, :frames].clone(), torch.tensor([frames]))
            slope = torch.randn(y.shape[1:], generator=generator)
            if gradient:
                torch.sum(y[0] * slope).backward()
        yield from ((f"out/y_alone_{row}", y.detach().numpy()), (f"in/cotangent_{row}", slope.numpy()))
    if gradient:
        yield from ((f"grad/{name}", p.grad.numpy()) for name, p in module.named_parameters() if p.grad is not None)
    if any("running_mean" in name for name in module.state_dict()):
        module.train()
        full = torch.tensor([max(FRAMES)] * len(FRAMES))
        yield "out/y_train", encoded(module, x, full).numpy()
        running = ((n, t) for n, t in module.state_dict().items() if "running" in n)
        yield from ((f"out/after/{name}", tensor.numpy().copy()) for name, tensor in running)


def decoder_case(make: Callable[..., torch.nn.Module], options: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    module = drawn(make(VOCABULARY, 16, **options))
    generator = torch.Generator().manual_seed(1)
    memory = torch.randn(len(FRAMES), max(FRAMES), 16, generator=generator)
    tokens = torch.randint(0, VOCABULARY, (len(FRAMES), max(TOKENS)), generator=generator)
    yield from (("in/hs", memory.numpy()), ("in/hs_lens", np.array(FRAMES, np.int32)))
    yield from (("in/ys", tokens.numpy().astype(np.int32)), ("in/ys_lens", np.array(TOKENS, np.int32)))
    yield from ((f"param/{name}", tensor.numpy().copy()) for name, tensor in module.state_dict().items())
    logits, _ = module(memory, torch.tensor(FRAMES), tokens, torch.tensor(TOKENS))
    yield "out/logits", logits.numpy()


class Positions(torch.nn.Module):
    """Those that SAN-M has without convolutions, behind them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return SinusoidalPositionEncoder()(x * x.shape[2] ** 0.5)


def sanm_conv2d() -> torch.nn.Module:
    """With convolutions before it, for which features must be as wide as the model; its positions are another's."""
    module = SANMEncoder(FEATURES, **SANM | {"output_size": FEATURES, "input_layer": "conv2d"})
    module.embed.out[1] = Positions()
    return module


def conditioned_case(make: Callable[..., torch.nn.Module], options: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """An encoder with a CTC head that it looks at after its second block of attention, as models put them together."""
    model = torch.nn.Module()
    model.encoder, model.ctc = make(FEATURES, **options), CTC(VOCABULARY, 16)
    model.encoder.conditioning_layer = torch.nn.Linear(VOCABULARY, 16)
    drawn(model)
    x = torch.randn(len(FRAMES), max(FRAMES), FEATURES, generator=torch.Generator().manual_seed(1))
    yield from (("in/x", x.numpy()), ("in/x_lens", np.array(FRAMES, np.int32)))
    yield from ((f"param/{name}", tensor.numpy().copy()) for name, tensor in model.state_dict().items())
    for row, frames in enumerate(FRAMES):
        (y, between), _, _ = model.encoder(x[row : row + 1, :frames], torch.tensor([frames]), ctc=model.ctc)
        yield f"out/y_alone_{row}", y.numpy()
        yield f"out/log_probs_{row}", model.ctc.log_softmax(y).numpy()
        yield f"out/between_{row}", model.ctc.log_softmax(between[0][1]).numpy()


def bert_case(name: str) -> Iterator[tuple[str, np.ndarray]]:
    """The model goes to a folder, as Hugging Face keeps it, of which FunASR's post-encoder is made."""
    make_config, make, options = BERTS[name]
    folder = HERE / f"bert_{name}"
    model = make(make_config(max_position_embeddings=8, **BERT, **options))
    drawn(model.base_model)
    model.save_pretrained(folder)
    module = HuggingFaceTransformersPostEncoder(12, str(folder))
    last = getattr(AutoModel.from_pretrained(folder), "LayerNorm", torch.nn.Identity())  # FunASR leaves it out
    module.linear_in = drawn(module.linear_in)
    module.eval()
    x = torch.randn(len(FRAMES), max(FRAMES), 12, generator=torch.Generator().manual_seed(1))
    yield from (("in/x", x.numpy()), ("in/x_lens", np.array(FRAMES, np.int32)))
    yield from ((f"param/{name}", tensor.numpy().copy()) for name, tensor in module.state_dict().items())
    yield from ((f"param/transformer.LayerNorm.{name}", tensor.numpy()) for name, tensor in last.state_dict().items())
    y, _ = module(x.clone(), torch.tensor(FRAMES))
    yield "out/y", last(y).numpy()


def other_case(module: torch.nn.Module, width: int) -> Iterator[tuple[str, np.ndarray]]:
    """What stands before or behind an encoder."""
    drawn(module)
    x = torch.randn(len(FRAMES), max(FRAMES), width, generator=torch.Generator().manual_seed(1))
    yield from (("in/x", x.numpy()), ("in/x_lens", np.array(FRAMES, np.int32)))
    yield from ((f"param/{name}", tensor.numpy().copy()) for name, tensor in module.state_dict().items())
    for row, frames in enumerate(FRAMES):
        given = x[row : row + 1, :frames]
        given = given[:, :, None] if isinstance(module, LightweightSincConvs) else given  # its channel
        yield f"out/y_alone_{row}", module(given, torch.tensor([frames]))[0].numpy()


def predictor_case(make: Callable[..., torch.nn.Module], options: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    module = drawn(make(WIDTH, **options))
    if options["upsample_type"] == "cnn_attn":  # it is given the mask of fewer frames than there are, and fails
        attend = module.self_attn.forward
        module.self_attn.forward = lambda x, mask: attend(x, None)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(FRAMES), max(FRAMES), WIDTH, generator=generator)
    yield from (("in/x", x.numpy()), ("in/x_lens", np.array(FRAMES, np.int32)))
    yield from ((f"param/{name}", tensor.numpy().copy()) for name, tensor in module.state_dict().items())
    for row, frames in enumerate(FRAMES):
        given, mask = x[row : row + 1, :frames], torch.ones(1, 1, frames)
        embeddings, counts, alphas, _, fine_counts = module(given, mask=mask)
        fine = module.get_upsample_timestamp(given, mask=mask)[2]
        named = {"embeds": embeddings, "counts": counts, "alphas": alphas, "fine": fine, "fine_counts": fine_counts}
        yield from ((f"out/{name}_{row}", value[0].numpy()) for name, value in named.items())


VARIANTS: dict[str, dict[str, Any]] = {
    "nosampler": {"sampling_ratio": 0.0, "predictor_bias": 1},
    "sampler": {"sampling_ratio": 0.75, "predictor_bias": 1},
    "nobias_norm": {"sampling_ratio": 0.0, "predictor_bias": 0, "length_normalized_loss": True},
}


def paraformer(weights: dict[str, torch.Tensor], options: dict[str, Any]) -> Paraformer:
    sizes = {"attention_heads": 4, "linear_units": 64, "num_blocks": 2, "kernel_size": 11, "sanm_shfit": 0}
    still = {"dropout_rate": 0.0, "positional_dropout_rate": 0.0}
    model = Paraformer(
        vocab_size=31,
        token_list=["<blank>", "<s>", "</s>", *(f"t{i}" for i in range(27)), "<unk>"],
        frontend=None,
        specaug=None,
        normalize=None,
        encoder=SANMEncoder(80, output_size=32, input_layer="pe", **sizes, **still),
        decoder=ParaformerSANMDecoder(31, 32, att_layer_num=2, **sizes, **still),
        predictor=CifPredictorV2(32, 1, 1, dropout=0.0, tail_threshold=0.45),
        predictor_weight=1.0,
        ctc_weight=0.0,
        lsm_weight=0.1,
        ctc=None,
        **options,
    )
    model.load_state_dict(weights)
    return model.eval()


def paraformer_case() -> Iterator[tuple[str, np.ndarray]]:
    """Each utterance of ../h_paraformer.npz by itself: in a batch the predictor's convolution sees the padding.

    It fires a little early, so that rounding costs no row its last token. The gradient is of the losses with the
    sampler, added up.
    """
    torch.randperm, torch.Tensor.cuda = torch.arange, lambda x: x  # type: ignore[assignment]  # as the file was made
    file = np.load(HERE.parent / "h_paraformer.npz")
    weights = {k.removeprefix("param/"): torch.tensor(file[k]) for k in file if k.startswith("param/")}
    given = [torch.tensor(file[f"in/{name}"]) for name in ("speech", "speech_lengths", "text", "text_lengths")]
    for variant, options in VARIANTS.items():
        model = paraformer(weights, options)
        model.predictor.threshold = 1.0 - 1e-5
        for row, (frames, tokens) in enumerate(zip(given[1], given[3], strict=True)):
            alone = [x[row : row + 1] for x in given]
            alone[0], alone[2] = alone[0][:, :frames], alone[2][:, :tokens]
            with torch.set_grad_enabled(variant == "sampler"):
                loss, stats, _ = model(*(x.clone() for x in alone))
                if variant == "sampler":
                    loss.sum().backward()
            parts = (loss, *(stats[name] for name in ("loss_att", "loss_pre", "acc")))
            yield f"out/loss_{variant}_{row}", np.array([float(part.detach()) for part in parts])
            if variant == "nosampler":
                encoded, encoded_lengths = model.encode(alone[0].clone(), alone[1])
                embeddings, counts, alphas, _ = model.calc_predictor(encoded, encoded_lengths)
                said, _ = model.cal_decoder_with_predictor(encoded, encoded_lengths, embeddings, counts.round().long())
                named = {"embeds": embeddings, "alphas": alphas, "log_probs": said, "counts": counts}
                yield from ((f"out/{name}_{row}", found[0].numpy()) for name, found in named.items())
        if variant == "sampler":
            yield from ((f"grad/{name}", p.grad.numpy()) for name, p in model.named_parameters())


ONLINE = {
    "look_ahead": {"chunk_size": (8,), "stride": (5,), "encoder_att_look_back_factor": (2,)},
    "look_back_2": {"chunk_size": (7,), "stride": (6,), "decoder_att_look_back_factor": (2,)},
    "pad_left": {"chunk_size": (9,), "stride": (4,), "pad_left": (3,), "decoder_att_look_back_factor": (0,)},
}


def online_case(options: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Each utterance by itself, its losses too: what tokens see depends on the chunk that they end in."""
    still = {"dropout_rate": 0.0, "positional_dropout_rate": 0.0}
    sizes = {"attention_heads": 2, "linear_units": 24, "num_blocks": 2, "att_layer_num": 2, "kernel_size": 5}
    model = ParaformerOnline(
        vocab_size=VOCABULARY,
        token_list=["<blank>", "<s>", "</s>", *(f"t{i}" for i in range(VOCABULARY - 4)), "<unk>"],
        frontend=None,
        specaug=None,
        normalize=None,
        encoder=SANMEncoderChunkOpt(FEATURES, **SANM, **options),
        decoder=ParaformerSANMDecoder(VOCABULARY, 16, sanm_shfit=2, **sizes, **still),
        predictor=CifPredictorV2(16, 1, 1, dropout=0.0, tail_threshold=0.45),
        predictor_weight=1.0,
        predictor_bias=1,
        sampling_ratio=0.0,
        ctc_weight=0.0,
        lsm_weight=0.1,
        ctc=None,
    )
    drawn(model).predictor.threshold = 1.0 - 1e-5  # so that rounding costs no row its last token
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(FRAMES), max(FRAMES), FEATURES, generator=generator)
    tokens = torch.randint(3, VOCABULARY, (len(FRAMES), max(TOKENS)), generator=generator)
    yield from (("in/x", x.numpy()), ("in/x_lens", np.array(FRAMES, np.int32)))
    yield from (("in/ys", tokens.numpy().astype(np.int32)), ("in/ys_lens", np.array(TOKENS, np.int32)))
    yield from ((f"param/{name}", tensor.numpy().copy()) for name, tensor in model.state_dict().items())
    for row, (frames, count) in enumerate(zip(FRAMES, TOKENS, strict=True)):
        given = x[row : row + 1, :frames], torch.tensor([frames])
        model.eval()
        encoded, lengths = model.encode(given[0].clone(), given[1])
        embeddings, counts, _, _ = model.calc_predictor(encoded, lengths)
        said, _ = model.cal_decoder_with_predictor(encoded, lengths, embeddings, counts.round().long())
        named = {"embeds": embeddings, "log_probs": said, "counts": counts}
        yield from ((f"out/{name}_{row}", found[0].numpy()) for name, found in named.items())
        model.train()
        _, stats, _ = model(given[0].clone(), given[1], tokens[row : row + 1, :count], torch.tensor([count]))
        yield f"out/loss_{row}", np.array([float(stats[name]) for name in ("loss_att", "loss_pre", "acc")])


def saved_by_torch() -> None:
    """Files of torch itself, in its two formats, for tests/test_torch_file.py."""
    table = torch.arange(24.0).reshape(4, 6)
    state = collections.OrderedDict(
        table=table,
        column=table[:, 2],
        turned=table.T[1:3],
        half=table[0].half(),
        brain=table[1].bfloat16(),
        double=table[2].double(),
        numbers=torch.arange(3),
        flags=torch.tensor([True, False]),
        scalar=torch.tensor(3, dtype=torch.int32),
        nothing=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )
    linear = torch.nn.Linear(2, 1).state_dict()  # whose dictionary has attributes
    state["linear"] = linear["weight"].fill_(7.0)
    linear["bias"].fill_(8.0)
    torch.save({"model": state, "epoch": 3, "history": [1.5, "x", None, True], "other": linear}, HERE / "torch_zip.pt")
    torch.save(linear, HERE / "torch_linear.pt")
    torch.save(linear, HERE / "torch_old.pt", _use_new_zipfile_serialization=False)


def save(name: str, options: dict[str, Any], arrays: Iterator[tuple[str, np.ndarray]]) -> None:
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    HERE.mkdir(exist_ok=True)
    np.savez_compressed(HERE / f"{name}.npz", options=np.array(json.dumps(options)), **dict(arrays))
    print(name)


@torch.no_grad()
def main() -> None:
    if not sys.argv[1:] or "torch" in sys.argv[1:]:
        saved_by_torch()
    families = {
        "conformer": (ConformerEncoder, SMALL | STILL | {"linear_units": 24, "cnn_module_kernel": 7}, CONFORMERS),
        "branchformer": (BranchformerEncoder, SMALL | STILL | GATING, BRANCHFORMERS),
        "e_branchformer": (EBranchformerEncoder, SMALL | STILL | GATING, E_BRANCHFORMERS),
        "transformer": (TransformerEncoder, SMALL | STILL | {"linear_units": 24}, TRANSFORMERS),
        "sanm": (SANMEncoder, SANM, SANMS),
        "sanm_chunk": (SANMEncoderChunkOpt, SANM, SANM_CHUNKS),
        "rnn": (RNNEncoder, {"num_layers": 3, "hidden_size": 12, "output_size": 16}, RNNS),
    }
    for family, (make, common, cases) in families.items():
        for case, changes in cases.items():
            options = common | changes
            arrays = encoder_case(make, options, gradient=case in WITH_GRADIENT)
            save(f"{family}_{case}", options, arrays)
    save("paraformer", {}, paraformer_case())
    for case, options in ONLINE.items():
        save(f"online_{case}", options, online_case(options))
    save("sanm_conv2d", SANM, encoder_case(lambda _, **options: sanm_conv2d(), SANM, gradient=False))
    for case, (make, changes) in CONDITIONED.items():
        options = (
            SMALL | STILL | changes | {"num_blocks": 3, "interctc_layer_idx": [1], "interctc_use_conditioning": True}
        )
        save(f"conditioned_{case}", options, conditioned_case(make, options))
    for case in BERTS:
        save(f"bert_{case}", {}, bert_case(case))
    for case, changes in CIF_V3.items():
        options = {"l_order": 1, "r_order": 1, "tail_threshold": 0.45} | changes
        save(f"cif_v3_{case}", options, predictor_case(CifPredictorV3, options))
    for name, (make, options, width) in OTHERS.items():
        save(name, options, other_case(make(**options), width))
    for name, (make, options) in DECODERS.items():
        save(name, options, decoder_case(make, options))


if __name__ == "__main__":
    main()
