"""`python -m tests.parity`: runs the comparisons with FunASR and prints, per module, the largest deviation seen."""

import pathlib
import sys

import pytest

from .fixtures import DEVIATIONS, Close, close_of

MODULES = {
    "frontend `wav_frontend`": "a_wav_frontend",
    "frontend `default`": "a_default_frontend_stft_logmel",
    "normalizers": "i_mvn",
    "preencoder `linear`": "linear",
    "preencoder `sinc`": "sinc",
    "encoder `sanm`": "b_sanm_encoder sanm_one_block sanm_causal sanm_conv2d",
    "encoder `sanm_chunk`": "sanm_chunk_",
    "encoder `transformer`": "c_transformer_encoder_ transformer_",
    "encoder `conformer`": "c_conformer_encoder_latest conformer_",
    "encoder `branchformer`": "branchformer_",
    "encoder `e_branchformer`": "e_branchformer_",
    "encoder `rnn`": "rnn_blstm rnn_gru rnn_bgru rnn_lstm",
    "postencoder `length_adaptor`": "length_adaptor",
    "postencoder `transformer`": "bert_",
    "decoder `transformer`": "d_transformer_decoder",
    "decoder `sanm`": "d_fsmn_decoder_scama_opt",
    "decoder `rnn`": "rnn_location rnn_add rnn_dot",
    "decoders `lightweight_conv`, `dynamic_conv` and their 2-d forms": "lightweight_conv dynamic_conv",
    "decoder `paraformer_sanm`": "d_paraformer_sanm_decoder",
    "decoder `paraformer_san`": "d_paraformer_decoder_san",
    "predictor `cif`": "e_cif_v1",
    "predictor `cif_v2`": "e_cif_v2",
    "predictor `cif_v3`": "cif_v3_",
    "integrate-and-fire": "e_cif_raw",
    "CTC": "f_ctc",
    "self-conditioned CTC": "conditioned_",
    "label smoothing, accuracy, number of tokens": "f_label_smoothing_mae_acc",
    "CTC and attention: outputs, losses, gradient": "g_aed_sanm_transformer",
    "Paraformer: outputs, losses, gradients": "h_paraformer paraformer",
    "Paraformer in chunks: outputs, losses": "online_",
    "scores of hypotheses": "j_beam_search_aed_sanm",
    "released folders: features": "release_features",
    "released folders: CTC and attention": "release_asr",
    "released folders: Paraformer": "release_paraformer",
    "released folders: Paraformer in chunks": "release_online",
    "ESPnet's folders: features": "espnet_features",
    "ESPnet's folders: encoded frames, CTC and attention": "espnet_conformer espnet_transformer espnet_e_branchformer",
    "optimizers, schedules": "k_optim_warmup_clip",
}
"""What the table has in its lines, and what the names of its files begin with."""


def main() -> int:
    status = pytest.main(["-q", "-n0", "-p", "no:cacheprovider", "--durations=0", str(pathlib.Path(__file__).parent)])
    print("\n| module | largest deviation | of numbers up to | tolerance |\n|---|---|---|---|")
    left = dict(DEVIATIONS)
    for module, beginnings in MODULES.items():
        files = [name for name in DEVIATIONS if name.startswith(tuple(beginnings.split()))]
        deviation, largest = max(left.pop(name) for name in files)
        close: Close = max((close_of(name) for name in files), key=lambda close: close.atol)
        print(f"| {module} | {deviation:.1e} | {largest:.3g} | {close.rtol:g} x, {close.atol:g} |")
    if left:
        sys.exit(f"no line of the table has {sorted(left)}; add them to MODULES in tests/parity/__main__.py.")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
