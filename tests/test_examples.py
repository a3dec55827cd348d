import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parent.parent


def load(name: str, folder: str = "examples"):
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_compose_learns(capsys):
    losses = load("compose").main()
    assert losses[-1] < 0.7 * losses[0]
    assert "encoded frames (8," in capsys.readouterr().out


def test_an_encoder_of_ones_own_is_a_choice():
    from jaxasr import command_line
    from jaxasr.nn.encoders import ENCODERS
    from jaxasr.train_config import TrainConfig

    module = load("gated_conv")
    try:
        argv = ["--encoder=gated_conv", "--encoder.num_layers=2", "--interctc_layers=1"]
        cfg = command_line.parse(TrainConfig, argv, prog="test", description="")
        cfg.check()
        assert cfg.task.encoder == module.GatedConvEncoder(num_layers=2)
    finally:
        ENCODERS._entries.pop("gated_conv")


def test_the_page_of_parts_is_what_the_registries_hold():
    parts = load("parts", "docs")
    assert parts.PAGE.read_text(encoding="utf-8") == parts.page(), "python docs/parts.py writes it anew"
