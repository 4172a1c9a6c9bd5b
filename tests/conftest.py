"""What several test files share."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

os.environ.pop("TQDM_DISABLE", None)  # which a process that runs tests in others has set for them below
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as below, for the processes that tests start

import pytest
import torch
from tqdm import tqdm  # noqa: F401 (before it is switched off)

from pii import progress
from pii.decoder import precision

os.environ["TQDM_DISABLE"] = "1"  # where errors and warnings are counted, in the processes that tests start ...
display, progress.Lines.display = progress.Lines.display, lambda *_: True  # ... and here, but for test_progress.py
precision.BF16_GAIN = float("inf")  # bits and sums are compared: float32 on every CPU, but where a test says otherwise
torch.set_num_threads(1)  # matrices this small are many times as fast on one thread where the cores are shared


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each one that is there: `make test` on a machine with a GPU proves there what it proves on the CPU."""
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def ctrl_c_raises():
    """Also where the tests run in the background of a shell, which then ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """write_rows(rows, name="rows.jsonl") → the path of a JSON Lines file; a row is a dict, or a string taken as is."""

    def write(rows: list, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def prepare_rows(tmp_path: Path, write_rows: Callable[..., Path]) -> Callable[..., Path]:
    """prepare_rows(rows, *flags) → the prepared folder that `prepare.py --input FILE --output FOLDER *flags` wrote."""

    def prepare_them(rows: list, *flags: str, name: str = "rows.jsonl", output: str = "prepared") -> Path:
        import prepare

        prepare.main(["--input", str(write_rows(rows, name)), "--output", str(tmp_path / output), *flags])
        return tmp_path / output

    return prepare_them


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared folder of `prepare_sentences`; tests only read it."""
    from tests.corpus.test_invariants import prepare_sentences

    return prepare_sentences(tmp_path_factory.mktemp("sound"))


# What test_train.py and the tests of its room share. A file with other needs has fixtures of these names of its own


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its final norm is enlarged, so that some gradients are longer than 1 and clipping shows."""
    from tests.decoder.test_backbone import save_tiny_backbone
    from tests.test_train import DEPTH, with_weights

    folder = save_tiny_backbone(
        tmp_path_factory.mktemp("train") / "backbone", vocab_size=131072, num_hidden_layers=DEPTH
    )
    return with_weights(folder, lambda weights: weights["norm.weight"].mul_(2))


@pytest.fixture
def copied_backbone(backbone: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(backbone, tmp_path / "copied-backbone"))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.test_train import write_prepared

    return write_prepared(tmp_path_factory.mktemp("train") / "small", 80, "--validation-fraction", "0.1")


@pytest.fixture
def command(prepared: Path, backbone: Path, capfd: pytest.CaptureFixture) -> object:
    from tests.test_train import Command

    return Command(prepared, backbone, capfd)


@pytest.fixture
def older_run(tmp_path: Path) -> Path:
    """Something that stands where the run will go."""
    folder = tmp_path / "runs" / "mine"
    (folder / "documented").mkdir(parents=True)
    (folder / "config.json").write_text('{"run_version": 1}\n')
    (folder / "summary.json").write_text('{"steps": 7}\n')
    (folder / "documented" / "head.safetensors").write_bytes(b"older weights")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, prepared: Path, backbone: Path) -> Callable[..., Path]:
    """trained(**flags) → the run folder of a command that nothing disturbed; the same flags train once."""
    import train
    from tests.test_train import Command

    folder, done = tmp_path_factory.mktemp("trained"), {}

    def train_it(**flags) -> Path:
        key = json.dumps(flags, default=str)
        if key not in done:
            command = Command(prepared, backbone, None)
            done[key] = folder / str(len(done))
            train.main(command.arguments(done[key], **flags))
        return done[key]

    return train_it


@pytest.fixture
def short_stretches(monkeypatch) -> None:
    import train

    monkeypatch.setitem(train.STEPS_AHEAD, "cpu", 3)


# Pages in a browser


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory):
    """A headless Chromium, of Debian's packages chromium and chromium-driver."""
    webdriver = pytest.importorskip("selenium.webdriver")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("pages are not opened: no chromium and chromedriver here (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    profile = f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", profile):
        options.add_argument(flag)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def open_page(chromium) -> Callable[..., object]:
    """open_page(path, width=1280, dark=False) → the browser with that page; what its console complains of fails."""

    def open_it(path: Path, width: int = 1280, dark: bool = False):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        chromium.get(path.resolve().as_uri())
        return chromium

    chromium.get_log("browser")  # what an earlier test left
    yield open_it
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
