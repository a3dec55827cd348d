"""The same work in plain PyTorch: on a CPU as it is written, on a GPU also through `torch.compile`.

Imported where `--peer=torch` asks for it. SAN-M has PyTorch's own fused attention and FunASR's FSMN, a depthwise
convolution; the decoder is `torch.nn.TransformerDecoder`. float32 products are TF32 on a GPU, as JAX's are.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.measure import Case
from benchmarks.sizes import RATE, Size, feature_batch, sanm
from jaxasr.data.batch import AsrBatch
from jaxasr.nn.frontends.mel import mel_filterbank

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DROPOUT, KERNEL, FEATURES = 0.1, 11, 560
SOS, EOS = 1, 2

torch.set_float32_matmul_precision("high" if DEVICE == "cuda" else "highest")


def placed(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.as_tensor(a, dtype=torch.int64 if a.dtype == np.int32 else None, device=DEVICE) for a in arrays]


def waited(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns when the device is done."""

    def call(*arguments: Any) -> Any:
        found = function(*arguments)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return found

    return call


def sides(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The function as it is and, on a GPU, compiled; by the name of their side."""
    return {"torch": function} | ({"torch.compile": torch.compile(function)} if DEVICE == "cuda" else {})


# --- features and CTC --------------------------------------------------------------------------------------------


def fbank(batch: AsrBatch, size: Size) -> list[Case]:
    """Of the padded batch; and by torchaudio, where there is one, which takes one utterance after the other."""
    (bank,) = placed(mel_filterbank(80, 512, RATE, 20.0, 0.0))
    (sound,) = placed(batch.audio)
    window = torch.hamming_window(400, periodic=False, device=DEVICE)
    work = {"amount": size.audio_s, "unit": "audio s", "foreign": True}

    @torch.inference_mode()
    def features(sound: torch.Tensor) -> torch.Tensor:
        x = sound.float().unfold(1, 400, 160)
        x = x - x.mean(-1, keepdim=True)
        x = (x - 0.97 * torch.cat([x[..., :1], x[..., :-1]], dim=-1)) * window
        power = torch.fft.rfft(x, n=512).abs().square()[..., :256]
        return (power @ bank).clamp(min=torch.finfo(torch.float32).eps).log()

    cases = [Case("log-mel, 80", waited(how), (sound,), side=side, **work) for side, how in sides(features).items()]
    if importlib.util.find_spec("torchaudio") is not None:
        from torchaudio.compliance import kaldi

        rows = [row[None, :n].float() for row, n in zip(sound, batch.audio_lengths.tolist(), strict=True)]
        options = {"num_mel_bins": 80, "window_type": "hamming", "energy_floor": 0.0, "dither": 0.0}
        run = waited(torch.inference_mode()(lambda: [kaldi.fbank(row, **options) for row in rows]))
        cases.append(Case("log-mel, 80", run, side="torchaudio", **work))
    return cases


def ctc(name: str, batch: tuple[np.ndarray, ...], size: Size) -> Case:
    logits, lengths, tokens, token_lengths = placed(*batch)
    logits.requires_grad_(True)

    def loss() -> torch.Tensor | None:
        logits.grad = None
        log_probs = logits.log_softmax(-1).transpose(0, 1)
        F.ctc_loss(log_probs, tokens, lengths, token_lengths, reduction="sum").backward()
        return logits.grad

    return Case(name, waited(loss), (), size.rows, "utterances", side="torch", foreign=True)


# --- networks ----------------------------------------------------------------------------------------------------


class SanmBlock(nn.Module):
    """Attention with an FSMN memory over the values, and a feed-forward network; norms before both."""

    def __init__(self, width_in: int, size: Size):
        super().__init__()
        D = size.width
        self.heads = size.heads
        self.attention_norm, self.ff_norm = nn.LayerNorm(width_in), nn.LayerNorm(D)
        self.qkv, self.out = nn.Linear(width_in, 3 * D), nn.Linear(D, D)
        self.memory = nn.Conv1d(D, D, KERNEL, padding=KERNEL // 2, groups=D, bias=False)
        self.ff = nn.Sequential(nn.Linear(D, size.inner), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(size.inner, D))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        B, T, _ = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        heads = [y.view(B, T, self.heads, -1).transpose(1, 2) for y in (q, k, v)]
        p = DROPOUT if self.training else 0.0
        y = F.scaled_dot_product_attention(*heads, attn_mask=real[:, None, None], dropout_p=p)
        v = v * real[..., None]
        memory = (self.memory(v.transpose(1, 2)).transpose(1, 2) + v) * real[..., None]
        y = self.dropout(self.out(y.transpose(1, 2).reshape(B, T, -1)) + self.dropout(memory))
        x = x + y if x.shape == y.shape else y
        return x + self.dropout(self.ff(self.ff_norm(x)))


class Sanm(nn.Module):
    """An encoder of such blocks, with sinusoids."""

    def __init__(self, size: Size):
        super().__init__()
        widths = [FEATURES, *[size.width] * (size.layers - 1)]
        self.blocks = nn.ModuleList(SanmBlock(width, size) for width in widths)
        self.norm, self.scale = nn.LayerNorm(size.width), size.width**0.5

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        x = x * self.scale + sinusoids(*x.shape[1:]).to(x)
        real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        for block in self.blocks:
            x = block(x, real)
        return self.norm(x)


class JointModel(nn.Module):
    """The loss of joint CTC and attention."""

    def __init__(self, size: Size):
        super().__init__()
        D = size.width
        self.encoder, self.ctc = Sanm(size), nn.Linear(D, size.symbols)
        layer = nn.TransformerDecoderLayer(D, size.heads, size.inner, DROPOUT, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, size.decoder_layers, nn.LayerNorm(D))
        self.embed, self.head = nn.Embedding(size.symbols, D), nn.Linear(D, size.symbols)

    def forward(
        self, x: torch.Tensor, lengths: torch.Tensor, tokens: torch.Tensor, token_lengths: torch.Tensor
    ) -> torch.Tensor:
        encoded, B = self.encoder(x, lengths), len(x)
        log_probs = self.ctc(encoded).float().log_softmax(-1).transpose(0, 1)
        ctc = F.ctc_loss(log_probs, tokens.clamp(min=0), lengths, token_lengths, reduction="sum")
        said, targets = F.pad(tokens, (1, 0), value=SOS), F.pad(tokens, (0, 1), value=-1)
        targets = targets.scatter(1, token_lengths[:, None], EOS)
        U, D = said.shape[1], encoded.shape[2]
        padding = torch.arange(U, device=x.device) > token_lengths[:, None]
        decoded = self.decoder(
            self.embed(said.clamp(min=0)) * D**0.5 + sinusoids(U, D).to(x),
            encoded,
            tgt_mask=torch.ones(U, U, dtype=torch.bool, device=x.device).triu(1),
            memory_key_padding_mask=torch.arange(x.shape[1], device=x.device) >= lengths[:, None],
            tgt_key_padding_mask=padding,
        )
        options = {"ignore_index": -1, "label_smoothing": 0.1, "reduction": "sum"}
        attention = F.cross_entropy(self.head(decoded).float().flatten(0, 1), targets.flatten(), **options)
        return (0.3 * ctc + 0.7 * attention) / B


def sinusoids(size: int, width: int) -> torch.Tensor:
    angles = torch.arange(size)[:, None] * torch.exp(-torch.arange(width // 2) * (np.log(1e4) / (width // 2 - 1)))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def lowered(dtype: str) -> Any:
    """Products in bfloat16, where that is wanted, as PyTorch's users have them."""
    return torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == "bfloat16")


def encoder(name: str, size: Size, dtypes: Sequence[str]) -> list[Case]:
    batch = feature_batch(size, sanm(size))
    x, lengths = placed(batch.features, batch.feature_lengths)
    work = {"arguments": (x, lengths), "amount": size.audio_s, "unit": "audio s", "foreign": True}

    def case(side: str, network: Callable[..., torch.Tensor], dtype: str) -> Case:
        @torch.inference_mode()
        def forward(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            with lowered(dtype):
                return network(x, lengths)

        return Case(name, waited(forward), side=side, dtype=dtype, **work)

    found = sides(Sanm(size).to(DEVICE).eval())
    return [case(side, network, dtype) for dtype in dtypes for side, network in found.items()]


def train_step(name: str, size: Size, dtypes: Sequence[str]) -> list[Case]:
    batch = feature_batch(size, sanm(size))
    given = placed(batch.features, batch.feature_lengths, batch.tokens, batch.token_lengths)

    def case(side: str, model: nn.Module, loss_of: Callable[..., torch.Tensor], dtype: str) -> Case:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=DEVICE == "cuda")

        def step(*arrays: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            with lowered(dtype):
                loss = loss_of(*arrays)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            return loss.detach()

        work = size.audio_s, "audio s"
        return Case(name, waited(step), tuple(given), *work, side=side, dtype=dtype, foreign=True)

    model = JointModel(size).to(DEVICE).train()
    return [case(side, model, loss_of, dtype) for dtype in dtypes for side, loss_of in sides(model).items()]
