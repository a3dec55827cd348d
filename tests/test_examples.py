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


def test_the_page_of_dependencies_is_that_of_setup_cfg():
    """With the licence of each, as long as it is the version of the page that is installed."""
    page = load("dependencies", "docs")
    written, now = page.rows(page.PAGE.read_text(encoding="utf-8")), page.rows(page.page())
    said = "python docs/dependencies.py writes it anew"
    for name, (least, use, version, licence) in page.rows("\n".join(page.direct())).items():
        assert written.get(name, [])[:2] == [least, use], said
        assert version != written[name][2] or licence == written[name][3], said
    assert {name for name, row in written.items() if len(row) == 4} <= now.keys(), said
