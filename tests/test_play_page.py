"""The page of `play` in a real browser: an episode by keys, and the belief read off the page."""

import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from omg_lightning.cli import run

pytestmark = pytest.mark.slow
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
if CHROMIUM is None or DRIVER is None:
    pytest.skip("needs Chromium and its driver (Debian: chromium, chromium-driver)", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
for package in ("fastapi", "uvicorn", "websockets"):
    pytest.importorskip(package, reason=f"needs {package}, of the extra play")

OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--window-size=1100,900",
)  # fmt: skip
TINY = (
    "--trainer.max_epochs=1", "--data.offline.rounds=1", "--data.num_envs=4", "--data.training.steps_per_epoch=2",
    "--data.evaluation.episodes=2", "--model.opponent=Declared", "--model.algorithm.trees=1",
    "--model.algorithm.simulations=4",
)  # fmt: skip
BELIEF = """Object.fromEntries(
    [...document.querySelectorAll(".belief .row")].map(row => [row.dataset.name, Number(row.dataset.p)]))"""
STATUS = "document.getElementById('status').textContent"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder of an agent that was hardly trained."""
    root = tmp_path_factory.mktemp("run")
    run(["fit", "--config", "configs/smoke.yaml", *TINY, "--trainer.default_root_dir", str(root)])
    return next(root.glob("**/last.ckpt")).parent


@pytest.fixture
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in OPTIONS:
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield made
    errors = [
        entry for entry in made.get_log("browser") if entry["level"] == "SEVERE" and "WebSocket" not in entry["message"]
    ]
    made.quit()
    assert not errors, errors


def read(browser, script):
    return browser.execute_script(f"return {script}")


def wait(browser, script, seconds=30):
    """Wait until a script is true."""
    end = time.monotonic() + seconds
    while not read(browser, script):
        assert time.monotonic() < end, f"waited in vain for {script}: {read(browser, 'document.body.innerText')}"
        time.sleep(0.05)


BELIEF = (
    "Object.fromEntries([...document.querySelectorAll('.belief .row')].map(e => [e.dataset.name, Number(e.dataset.p)]))"
)
STATUS = "document.getElementById('status').textContent"


def test_a_whole_episode_is_played_by_keys_and_the_belief_is_on_the_page(trained, browser, tmp_path):
    command = [sys.executable, "-m", "omg_lightning", "play", "--agent", str(trained), "--seat", "0", "--port", "0"]
    command += ["--no-browser", "--folder", str(tmp_path / "played"), "--seed", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            browser.get(re.search(r"http://\S+\d", server.stdout.readline()).group())
            wait(browser, "document.querySelectorAll('.belief .row').length")
            assert read(browser, BELIEF) == {"stag": 0.5, "hare": 0.5}
            keys = browser.switch_to.active_element
            beliefs, steps = [], 0
            while "your turn" in read(browser, STATUS):
                keys.send_keys([" ", "e", "d", "w"][steps % 4])  # stay, hunt, right, up: what is illegal is not sent
                if steps % 4:
                    keys.send_keys(" ")
                time.sleep(0.1)
                wait(browser, "!busy")
                beliefs.append(read(browser, BELIEF))
                steps += 1
                assert steps < 60
            wait(browser, f"{STATUS}.includes('game over')")
            assert any(belief not in ({}, beliefs[0]) for belief in beliefs), beliefs
            assert all(abs(sum(belief.values()) - 1) < 1e-2 for belief in beliefs if belief)
            assert (tmp_path / "played" / "episode_0001.pt").is_file()
            keys.send_keys("n")
            wait(browser, f"{STATUS}.startsWith('step 0')")
            read(browser, "document.getElementById('hide').click()")
            assert read(browser, "document.querySelectorAll('.mind').length") == 0
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(20) == 130
        assert "interrupted by SIGINT: the page is closed" in server.stderr.read()


def test_an_exported_file_replays_without_a_server(trained, browser, tmp_path):
    target = tmp_path / "replay.html"
    sides = [f"{name}={trained}" for name in ("one", "two")]
    subprocess.run([sys.executable, "-m", "omg_lightning", "replay", *sides, "--html", str(target)], check=True)
    browser.get(target.as_uri())
    wait(browser, "document.querySelectorAll('canvas.board').length == 2")
    last = read(browser, "latest()")
    read(browser, "document.getElementById('run').click()")
    wait(browser, f"at == {last}")
    read(browser, "document.getElementById('back').click()")
    assert read(browser, "at") == last - 1
    drawn = "document.querySelector('canvas.board').getContext('2d').getImageData(40, 40, 1, 1).data[3]"
    wait(browser, f"{drawn} == 255")


def test_the_controls_are_in_sight_beside_the_beliefs_of_several_agents(browser, tmp_path):
    target = tmp_path / "four.html"
    words = ["replay", "zoo:4h1s_4x4", "--episodes", "1", "--html", str(target)]
    subprocess.run([sys.executable, "-m", "omg_lightning", *words], check=True)
    browser.get(target.as_uri())
    wait(browser, "document.querySelectorAll('.mind').length == 3")

    def edge(selector, side):
        return read(browser, f"document.querySelector('{selector}').getBoundingClientRect().{side}")

    wait(browser, "document.querySelector('canvas.board').clientHeight > 300")
    assert edge("#time", "bottom") <= read(browser, "innerHeight")
    assert read(browser, "(e => e.scrollHeight > e.clientHeight)(document.querySelector('.minds'))")
    browser.set_window_size(500, 900)  # a phone: board, controls, beliefs
    assert edge("canvas.board", "bottom") < edge("#time", "top") < edge(".minds", "top")
