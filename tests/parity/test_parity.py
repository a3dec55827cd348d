"""FunASR's own numbers; manifest.json says how each file was made and how near ours must come."""

import functools
import re

import jax
import numpy as np
import pytest

from jaxasr.convert import convert_params, rules_of, rules_of_part
from jaxasr.convert.models import CTC_HEAD
from jaxasr.data.batch import AsrBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import CheckpointError
from jaxasr.nn.ctc import ctc_loss
from jaxasr.nn.decoders import TransformerDecoder
from jaxasr.nn.encoders import SanmEncoder, TransformerEncoder
from jaxasr.nn.frontends import SlidingWindow, StftFrontend, WavFrontend
from jaxasr.nn.frontends.mel import slaney_filterbank
from jaxasr.nn.losses import label_smoothing_loss
from jaxasr.nn.network import AsrNetwork, SpeechOutputs
from jaxasr.nn.normalize import Cmvn, GlobalMvn, UtteranceMvn, read_kaldi_mvn, read_mvn
from jaxasr.optim import Adam, AdamW
from jaxasr.schedules import TriStage, WarmupRsqrt
from jaxasr.search.choices import Fusion, Search
from jaxasr.search.ctc_prefix import emissions, extended, no_tokens, prefix_scores
from jaxasr.search.joint import joint, limits
from jaxasr.state import init_state, make_train_step
from jaxasr.tasks.asr import AsrTask
from jaxasr.tasks.asr_search import speaker_of
from jaxasr.tasks.loss_parts import with_sos_eos

from .fixtures import FIXTURES, HERE, assert_rows_close, assert_trees_close, fixture, shapes_at_init, shapes_of

# --- a: frontend -------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def features_of(frontend, audio, lengths, cmvn=None):
    features, frames = frontend(audio, lengths, sample_rate=16_000)
    return features if cmvn is None else GlobalMvn()(features, frames, cmvn), frames


@pytest.mark.parametrize(
    ("variant", "options", "mvn", "sound"),
    [
        ("fbank_hamming", {}, None, "int16"),
        ("fbank_povey", {"window": "povey"}, None, "int16"),
        ("fbank_hamming_nosnip", {"snip_edges": False}, None, "int16"),
        ("lfr", {"lfr_m": 7, "lfr_n": 6}, None, "int16"),
        ("lfr_cmvn", {"lfr_m": 7, "lfr_n": 6}, "am_560.mvn", "int16"),
        ("lfr_cmvn", {"lfr_m": 7, "lfr_n": 6}, "am_560.mvn", "float32"),
        ("cmvn", {}, "am_80.mvn", "int16"),
    ],
)
def test_wav_frontend(variant, options, mvn, sound):
    arrays, assert_close = fixture("a_wav_frontend")
    audio, lengths, out = arrays["in"]["wav_int16"], arrays["in"]["wav_lengths"], arrays["out"]
    if sound == "float32":
        audio = audio.astype(np.float32) / 32768
    cmvn = None if mvn is None else read_kaldi_mvn(HERE / mvn)
    features, frames = features_of(WavFrontend(**options), audio, lengths, cmvn)
    np.testing.assert_array_equal(frames, out[f"{variant}_lens"])
    assert features.shape == out[variant].shape
    assert_rows_close(assert_close, features, out[variant], frames)


@pytest.mark.parametrize("window", ["hamming", "povey"])
def test_wav_frontend_equals_kaldi(window):
    arrays, assert_close = fixture("a_wav_frontend")
    features, frames = features_of(WavFrontend(window=window), arrays["in"]["wav_int16"], arrays["in"]["wav_lengths"])
    expected = [arrays["out"][f"knf_{window}_utt{row}"] for row in (0, 1)]
    assert [len(x) for x in expected] == frames.tolist()
    assert_rows_close(assert_close, features, expected, frames)


def test_default_frontend():
    """FunASR mirrors the shorter sound where the longer one ends: there its last frames are others."""
    arrays, assert_close = fixture("a_default_frontend_stft_logmel")
    audio, lengths, out = arrays["in"]["wav_int16"], arrays["in"]["wav_lengths"], arrays["out"]
    frontend = StftFrontend(hop_ms=10.0, window_ms=25.0, lfr_m=1, lfr_n=1)
    bank = slaney_filterbank(80, 512, 16_000, 0.0, 0.0, htk=False)
    np.testing.assert_allclose(bank, out["melmat"], rtol=1e-5, atol=1e-8)
    for given in (audio, audio.astype(np.float32) / 32768):
        features, frames = features_of(frontend, given, lengths)
        np.testing.assert_array_equal(frames, out["feats_lens"])
        assert features.shape == out["feats"].shape
        assert_rows_close(assert_close, features, out["feats"], np.where(frames < frames.max(), frames - 2, frames))


def test_sliding_window():
    """By hand: each frame is a slice of the sound."""
    arrays, _ = fixture("a_wav_frontend")
    audio, lengths = arrays["in"]["wav_int16"], arrays["in"]["wav_lengths"]
    frames, counts = features_of(SlidingWindow().for_encoder(1), audio, lengths)
    assert counts.tolist() == ((lengths - 400) // 160 + 1).tolist()
    for row, count in enumerate(counts):
        for t in (0, 1, count // 2, count - 1):
            np.testing.assert_array_equal(frames[row, t], audio[row, 160 * t : 160 * t + 400] / np.float32(32768))


def test_mvn_files():
    arrays, _ = fixture("a_wav_frontend")
    cmvn = read_kaldi_mvn(HERE / "am_560.mvn")
    np.testing.assert_array_equal(cmvn.shift, arrays["in"]["cmvn_add_shift"])
    np.testing.assert_array_equal(cmvn.scale, arrays["in"]["cmvn_rescale"])
    assert read_kaldi_mvn(HERE / "am_80.mvn").shift.shape == (80,)


# --- b, d: encoder and decoder -----------------------------------------------------------------------------------

SANM = SanmEncoder(num_layers=3, d_model=64, num_heads=4, d_ff=128)
TRANSFORMER = TransformerDecoder(num_layers=2, d_model=32, num_heads=4, d_ff=64)


@jax.jit
def encoded_by_sanm(params, x, lengths):
    return SANM.apply({"params": params}, x, lengths, train=False)


def test_sanm_encoder():
    arrays, assert_close = fixture("b_sanm_encoder")
    params = convert_params(arrays["param"], rules_of_part("encoder", SANM))
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    y, y_lengths = encoded_by_sanm(params, x, lengths)
    np.testing.assert_array_equal(y_lengths, arrays["out"]["y_lens"])
    assert_rows_close(assert_close, y, arrays["out"]["y"], lengths)
    assert_rows_close(assert_close, y, [arrays["out"][f"y_alone_{row}"][0] for row in range(3)], lengths)
    alone, _ = encoded_by_sanm(params, x[1:2, : lengths[1]], lengths[1:2])
    assert_close(alone, arrays["out"]["y_alone_1"])


TRANSFORMER_ENCODERS = {
    "conv2d": {},
    "linear_postnorm": {"subsampling": "linear", "norm_first": False, "concat_after": True},
}


@pytest.mark.parametrize("name", TRANSFORMER_ENCODERS)
def test_transformer_encoder(name):
    """Each row as FunASR has it alone; in a batch its convolutions let the padding leak."""
    arrays, assert_close = fixture(f"c_transformer_encoder_{name}")
    options = {"num_layers": 2, "d_model": 32, "num_heads": 4, "d_ff": 64} | TRANSFORMER_ENCODERS[name]
    encoder = TransformerEncoder(**options)
    params = convert_params(arrays["param"], rules_of_part("encoder", encoder))
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    y, y_lengths = jax.jit(functools.partial(encoder.apply, train=False))({"params": params}, x, lengths)
    expected = [arrays["out"][f"y_alone_{row}"][0] for row in range(3)]
    assert y_lengths.tolist() == [len(frames) for frames in expected]
    assert y_lengths[0] == arrays["out"]["y_lens"][0]
    assert_rows_close(assert_close, y, expected, y_lengths)


@jax.jit
def decoded(params, tokens, memory, lengths):
    return TRANSFORMER.apply({"params": params}, tokens, memory, lengths, vocab_size=37, train=False)[0]


@jax.jit
def decoded_step(params, token, memory, lengths, cache, position):
    logits, cache = TRANSFORMER.apply(
        {"params": params}, token, memory, lengths, vocab_size=37, train=False, cache=cache, position=position
    )
    return jax.nn.log_softmax(logits[:, 0]), cache


def test_transformer_decoder():
    arrays, assert_close = fixture("d_transformer_decoder")
    params = convert_params(arrays["param"], rules_of_part("decoder", TRANSFORMER))
    ys, hs, hs_lengths = (arrays["in"][k] for k in ("ys", "hs", "hs_lens"))
    logits = decoded(params, ys, hs, hs_lengths)
    assert_rows_close(assert_close, logits, arrays["out"]["logits"], arrays["in"]["ys_lens"])


def test_transformer_decoder_step_by_step():
    arrays, assert_close = fixture("d_transformer_decoder")
    params = convert_params(arrays["param"], rules_of_part("decoder", TRANSFORMER))
    ys, hs, hs_lengths = (arrays["in"][k][:1] for k in ("ys", "hs", "hs_lens"))
    expected = arrays["out"]["incremental_logp_utt0"]
    cache = TRANSFORMER.empty_cache(1, len(expected), np.float32)
    for position, log_probs in enumerate(expected):
        found, cache = decoded_step(params, ys[:, position, None], hs, hs_lengths, cache, position)
        assert_close(found[0], log_probs, err_msg=f"position {position}")


# --- g: the whole model ------------------------------------------------------------------------------------------

VOCABULARY = Vocabulary(("<blank>", "<s>", "</s>", *(f"t{i}" for i in range(27)), "<unk>"))
TASK = AsrTask(
    encoder=SanmEncoder(num_layers=2, d_model=32, num_heads=4, d_ff=64),
    decoder=TRANSFORMER,
    ctc_weight=0.3,
    label_smoothing=0.1,
    vocabulary=VOCABULARY,
)
RULES = rules_of(TASK)
PER_TOKEN = AsrTask(ctc_weight=0.3, label_smoothing=0.1, length_normalized_loss=True, vocabulary=VOCABULARY)


def text_of(arrays, weights=(1.0, 1.0, 1.0)):
    """The batch without its audio."""
    tokens = arrays["in"]["text"].astype(np.int32)
    return AsrBatch(
        np.zeros((3, 0), np.int16), np.zeros(3, np.int32), tokens, arrays["in"]["text_lengths"], np.float32(weights)
    )


@functools.cache
def run_of_model():
    """The loss of the batch with metrics and outputs, its gradient, and our parameters."""
    arrays, _ = fixture("g_aed_sanm_transformer")
    params = convert_params(arrays["param"], RULES)
    network = TASK.network()

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss_and_gradient(params, speech, lengths, batch):
        tokens_in, _, _ = with_sos_eos(batch.tokens, batch.token_lengths)
        outputs = network.apply({"params": params}, speech, lengths, tokens_in, train=False)
        loss, metrics = TASK.loss_of(outputs, batch)
        return loss, (metrics, outputs)

    speech, lengths = arrays["in"]["speech"], arrays["in"]["speech_lengths"]
    (loss, (metrics, outputs)), gradient = loss_and_gradient(params, speech, lengths, text_of(arrays))
    return loss, metrics, outputs, gradient


loss_per_utterance = jax.jit(TASK.loss_of)
loss_per_token = jax.jit(PER_TOKEN.loss_of)


def test_aed_losses():
    arrays, assert_close = fixture("g_aed_sanm_transformer")
    loss, metrics, outputs, _ = run_of_model()
    for norm, (found, parts) in enumerate([(loss, metrics), loss_per_token(outputs, text_of(arrays))]):
        expected = {k.removesuffix(f"_norm{norm}"): v[0] for k, v in arrays["out"].items() if k.endswith(f"norm{norm}")}
        assert_close(found, expected["loss"])
        assert_close(parts["loss"].value, expected["loss"])
        assert_close(parts["loss/ctc"].value, expected["loss_ctc"])
        assert_close(parts["loss/att"].value, expected["loss_att"])
        assert_close(parts["acc/token"].value, expected["acc"])
        assert parts["loss/att"].count == expected["weight"]
        assert parts["infeasible"].total == 0


def test_aed_loss_of_each_utterance_alone():
    arrays, assert_close = fixture("g_aed_sanm_transformer")
    outputs = run_of_model()[2]
    for row, expected in enumerate(arrays["out"]["loss_alone_per_utt"]):
        assert_close(loss_per_utterance(outputs, text_of(arrays, np.arange(3) == row))[0], expected)


def test_aed_outputs():
    arrays, assert_close = fixture("g_aed_sanm_transformer")
    outputs, lengths = run_of_model()[2], arrays["in"]["speech_lengths"]
    np.testing.assert_array_equal(outputs.lengths, arrays["out"]["encoder_out_lens"])
    assert_rows_close(assert_close, outputs.encoded, arrays["out"]["encoder_out"], lengths)
    log_probs = jax.jit(jax.nn.log_softmax)(outputs.ctc_logits)
    assert_rows_close(assert_close, log_probs, arrays["out"]["ctc_log_probs"], lengths)
    _, targets, target_lengths = jax.jit(with_sos_eos)(text_of(arrays).tokens, text_of(arrays).token_lengths)
    nll = jax.jit(label_smoothing_loss, static_argnums=3)(outputs.attention_logits, targets, target_lengths, 0.0)
    assert_close(nll, arrays["out"]["nll"])


def test_aed_gradient():
    arrays, assert_close = fixture("g_aed_sanm_transformer")
    expected = convert_params(arrays["grad"], RULES)
    assert_trees_close(assert_close, run_of_model()[3], expected)


# --- j: scores of what a beam search finds -----------------------------------------------------------------------


def test_ctc_scores_of_whole_texts():
    arrays, assert_close = fixture("j_beam_search_aed_sanm")
    prefixes = [prefix[1:] for prefix in FIXTURES["j_beam_search_aed_sanm"]["config"]["ctc_prefix"]["prefixes"]]
    tokens = np.array([prefix + [0] * (3 - len(prefix)) for prefix in prefixes], np.int32)
    frames = arrays["in"]["encoder_out_lens"][0]
    logits = np.repeat(arrays["in"]["ctc_log_probs"][:1, :frames], len(prefixes), axis=0)
    nll = jax.jit(ctc_loss)(logits, np.full(len(prefixes), frames), tokens, np.array([len(p) for p in prefixes]))
    assert_close(-nll, arrays["out"]["ctc_prefix_log_psi"][:, Vocabulary.EOS])


def test_ctc_scores_of_prefixes():
    arrays, assert_close = fixture("j_beam_search_aed_sanm")
    log_probs = arrays["in"]["ctc_log_probs"][:1]
    emitted = emissions(log_probs, arrays["in"]["encoder_out_lens"][:1])
    every = np.arange(log_probs.shape[2])[None, None]
    heard = no_tokens(emitted, 1)
    longest = FIXTURES["j_beam_search_aed_sanm"]["config"]["ctc_prefix"]["prefixes"][-1][1:]
    for expected, token in zip(arrays["out"]["ctc_prefix_log_psi"], [*longest, 0], strict=True):
        found = prefix_scores(heard, emitted, every, eos=Vocabulary.EOS)[0, 0]
        assert_close(found[1:], expected[1:])  # of blank it means nothing
        heard = extended(heard, emitted, np.zeros((1, 1), int), np.full((1, 1), token))


@pytest.mark.parametrize("name", ["b5_ctc0.3", "b5_ctc0.5_pen0.4", "b3_att"])
def test_joint_beam_search(name):
    """The three best of each utterance, ids where scores are further apart than FunASR's own may be."""
    arrays, assert_close = fixture("j_beam_search_aed_sanm")
    config = FIXTURES["j_beam_search_aed_sanm"]["config"][name]
    params = convert_params(fixture("g_aed_sanm_transformer")[0]["param"], RULES)
    given = (arrays["in"][key] for key in ("encoder_out", "encoder_out_lens", "ctc_log_probs"))
    search = Search("joint", config["beam_size"], 3, config["maxlenratio"])
    network = AsrNetwork(TASK.encoder, TASK.decoder, arrays["in"]["ctc_log_probs"].shape[2], has_ctc=True)

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def decode(params, outputs, fusion):
        bounds = limits(search, outputs.lengths, outputs.encoded.shape[1])
        speaker = speaker_of(network, {"params": params}, outputs, fusion, bounds.room + 1)
        emitted = emissions(outputs.ctc_logits, outputs.lengths)
        # FunASR may say sos
        return joint(speaker, emitted, bounds, search, fusion, eos=Vocabulary.EOS, forbidden=(Vocabulary.BLANK,)).nbest

    found = decode(params, SpeechOutputs(*given), Fusion(config["ctc_weight"], config["penalty"]))
    for row in range(3):
        scores, ids = (arrays["out"][f"{name}_utt{row}_{key}"] for key in ("scores", "ids"))
        assert_close(found.scores[row], scores)
        for k in range(3):
            if np.min(np.abs(np.delete(scores, k) - scores[k])) > 1e-3:
                tokens = np.asarray(found.tokens[row, k, : found.lengths[row, k]])
                assert tokens.tolist() == [i for i in ids[k].tolist() if i > Vocabulary.EOS]


# --- i: normalisation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("variance", [True, False])
def test_global_mvn(mean, variance):
    arrays, assert_close = fixture("i_mvn")
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    count, total, squares = (arrays["in"][f"stats_{k}"] for k in ("count", "sum", "sum_square"))
    cmvn = Cmvn.from_sums(float(count), total, squares)
    y = jax.jit(GlobalMvn(mean, variance))(x, lengths, cmvn)
    assert_rows_close(assert_close, y, arrays["out"][f"glob_mean{mean:d}_var{variance:d}"], lengths)


def test_global_mvn_by_espnets_file():
    arrays, assert_close = fixture("i_mvn")
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    y = jax.jit(GlobalMvn())(x, lengths, read_mvn(HERE / "i_feats_stats.npz"))
    assert_rows_close(assert_close, y, arrays["out"]["glob_mean1_var1"], lengths)


@pytest.mark.parametrize(("mean", "variance"), [(True, False), (False, True)])
def test_utterance_mvn(mean, variance):
    arrays, assert_close = fixture("i_mvn")
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    y = jax.jit(UtteranceMvn(mean, variance))(x, lengths, None)
    assert_rows_close(assert_close, y, arrays["out"][f"utt_mean{mean:d}_var{variance:d}"], lengths)


def test_utterance_mvn_of_mean_and_variance():
    """FunASR divides by the root of the deviation, and has counted each padded frame as one of 0 before the mean."""
    arrays, assert_close = fixture("i_mvn")
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    rows = [np.float64(row[:length]) for row, length in zip(x, lengths, strict=True)]
    y = jax.jit(UtteranceMvn(True, True))(x, lengths, None)
    assert_rows_close(assert_close, y, [(row - row.mean(axis=0)) / row.std(axis=0) for row in rows], lengths)
    padded = [row.var(axis=0) + (x.shape[1] - len(row)) / len(row) * row.mean(axis=0) ** 2 for row in rows]
    theirs = [(row - row.mean(axis=0)) / variance**0.25 for row, variance in zip(rows, padded, strict=True)]
    assert_rows_close(assert_close, arrays["out"]["utt_mean1_var1"], theirs, lengths)


# --- k: optimizers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("adam", Adam(learning_rate=2e-3, clip_norm=5.0, beta2=0.999)),
        ("adam_wd", Adam(learning_rate=2e-3, clip_norm=5.0, beta2=0.999, weight_decay=1e-2)),
        ("adamw", AdamW(learning_rate=2e-3, clip_norm=5.0, beta2=0.999, weight_decay=1e-2)),
    ],
)
def test_optimizer(name, optimizer):
    arrays, assert_close = fixture("k_optim_warmup_clip")
    out = arrays["out"]

    def loss_fn(params, gradient, key):
        return (params["w"] * gradient).sum(), {}

    state = init_state(lambda key, batch: {"w": arrays["in"]["p0"]}, optimizer, None, jax.random.key(0))
    step = jax.jit(make_train_step(loss_fn, optimizer, WarmupRsqrt(warmup_steps=10)))
    for i, gradient in enumerate(arrays["in"]["grads"]):
        state, metrics = step(state, gradient)
        assert_close(metrics["learning_rate"].value, out[f"{name}_lr"][i], err_msg=f"step {i}")
        assert_close(metrics["grad_norm"].value, out[f"{name}_gradnorm"][i], err_msg=f"step {i}")
        assert_close(state.params["w"], out[f"{name}_params"][i], err_msg=f"step {i}")


def test_tri_stage():
    arrays, assert_close = fixture("k_optim_warmup_clip")
    schedule = TriStage((0.1, 0.4, 0.5), initial_share=0.01, final_share=0.05)
    updates = np.arange(1, 31)  # FunASR wrote the rate down after each step: that of the next one
    share = jax.jit(jax.vmap(schedule, in_axes=(0, None)))(updates, np.int32(30))
    assert_close(1e-3 * share, arrays["out"]["tri_stage_lr_after_step"])


# --- parameters --------------------------------------------------------------------------------------------------


def test_every_parameter_is_filled():
    arrays, _ = fixture("b_sanm_encoder")
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    assert shapes_of(convert_params(arrays["param"], rules_of_part("encoder", SANM))) == shapes_at_init(
        SANM, x, lengths
    )

    arrays, _ = fixture("d_transformer_decoder")
    found = convert_params(arrays["param"], rules_of_part("decoder", TRANSFORMER))
    inputs = [arrays["in"][k] for k in ("ys", "hs", "hs_lens")]
    assert shapes_of(found) == shapes_at_init(TRANSFORMER, *inputs, vocab_size=37)

    arrays, _ = fixture("g_aed_sanm_transformer")
    found = convert_params(arrays["param"], RULES)
    inputs = [arrays["in"][k] for k in ("speech", "speech_lengths", "text")]
    assert shapes_of(found) == shapes_at_init(TASK.network(), *inputs)


CONV = {"embed.conv.0": (8, 1, 3, 3), "embed.conv.2": (8, 8, 3, 3)}


@pytest.mark.parametrize(
    ("toolkit", "subsampling", "weights"),
    [
        ("funasr", "conv2d2", CONV | {"embed.out.0": (8, 8 * 17)}),
        ("funasr", "conv2d6", CONV | {"embed.conv.2": (8, 8, 5, 5), "embed.out.0": (8, 8 * 5)}),
        ("funasr", "conv2d8", CONV | {"embed.conv.4": (8, 8, 3, 3), "embed.out.0": (8, 8 * 4)}),
        ("espnet", "conv2d8", CONV | {"embed.conv.4": (8, 8, 3, 3), "embed.out": (8, 8 * 4)}),
        ("funasr", "none", {"embed": (8, 40)}),
    ],
)
def test_every_subsampling_is_filled(toolkit, subsampling, weights):
    """By the names and shapes that FunASR's and ESPnet's modules have for 40 features and a width of 8."""
    state_dict = {f"{name}.weight": np.zeros(shape, np.float32) for name, shape in weights.items()}
    state_dict |= {f"{name}.bias": np.zeros(8, np.float32) for name in weights}
    encoder = TransformerEncoder(num_layers=2, d_model=8, num_heads=2, d_ff=16, subsampling=subsampling)
    expected = shapes_at_init(encoder, np.zeros((1, 40, 40), np.float32), np.array([40]))
    embedding = {name: expected[name] for name in expected if name in ("subsampling", "input")}
    assert shapes_of(convert_params(state_dict, rules_of_part("encoder", encoder, toolkit))) == embedding


def test_a_tensor_without_a_place_is_refused():
    state_dict = dict(fixture("b_sanm_encoder")[0]["param"])
    state_dict["encoders.0.self_attn.linear_pos.weight"] = np.zeros((64, 32), np.float32)
    message = r"^Tensors: 1 without a place: encoders\.0\.self_attn\.linear_pos\.weight \(64, 32\); "
    with pytest.raises(CheckpointError, match=message):
        convert_params(state_dict, rules_of_part("encoder", SANM))


@pytest.mark.parametrize("name", ["xafter_norm.weight", "after_norm.weight.more", "after_normXweight"])
def test_names_must_agree_to_the_letter(name):
    with pytest.raises(CheckpointError, match=rf"1 without a place: {re.escape(name)} \(3,\); "):
        convert_params({name: np.zeros(3)}, rules_of_part("encoder", SANM))


@pytest.mark.parametrize("missing", ["encoders.0.", "encoders.0.norm1.weight"])
def test_a_gap_in_the_layers_is_refused(missing):
    kept = {k: v for k, v in fixture("b_sanm_encoder")[0]["param"].items() if not k.startswith(missing)}
    with pytest.raises(CheckpointError, match=r"blocks/.*: layers \[1\]; numbers from 0 without a gap were expected; "):
        convert_params(kept, rules_of_part("encoder", SANM))


def test_layouts():
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((5, 3), np.float32), rng.standard_normal(5, np.float32)
    found = convert_params({"ctc_lo.weight": weight, "ctc_lo.bias": bias}, CTC_HEAD)
    np.testing.assert_array_equal(found["kernel"], weight.T)
    np.testing.assert_array_equal(found["bias"], bias)
    # layers go by number, not by the order in which they come or by their names' alphabet
    layers = {
        f"encoders.{i}.self_attn.fsmn_block.weight": rng.standard_normal((4, 1, 11), np.float32)
        for i in (10, *range(10))
    }
    kernel = convert_params(layers, rules_of_part("encoder", SANM))["blocks"]["attention"]["memory"]["kernel"]
    assert kernel.shape == (11, 11, 4)
    for i in range(11):
        np.testing.assert_array_equal(kernel[i], layers[f"encoders.{i}.self_attn.fsmn_block.weight"][:, 0].T)
