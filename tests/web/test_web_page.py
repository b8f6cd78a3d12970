"""What people do with the tracker's page, in a browser: it loads, they choose sources, cameras go, files come again."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Event

import pytest
from test_web_browser import ALONE, NO_GESTURE, PATIENCE_S, keep
from web_workspace import serving

from handmesh.assets import DEMO_CLIP

chromium = pytest.importorskip("chromium", reason="needs websockets: pip install 'handmesh[stream]'")

READY = "handmesh.ready && document.getElementById('state').textContent == 'ready'"
CAMERAS = ("--use-fake-device-for-media-stream=device-count=2", "--use-fake-ui-for-media-stream", NO_GESTURE)
ASKED = """
  if (navigator.mediaDevices) {  // the empty page before has none
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.streams = [];
    navigator.mediaDevices.getUserMedia = async (wanted) => {
      await window.prompt;  // as long as the user has not answered
      const stream = await ask(wanted);
      window.streams.push(stream);
      return stream;
    };
    window.endedTracks = () => window.streams.map((stream) => stream.getVideoTracks()[0].readyState);
    window.prompt = new Promise((resolve) => (window.allow = resolve));
  }
"""


def click(page, control: str) -> None:
    page.value(f"document.getElementById('{control}').click()")


def choose(page, control: str, value: str) -> None:
    page.value(f"{{ const c = document.getElementById('{control}'); c.value = {value}; void c.onchange() }}")


def says(text: str) -> str:
    return f"document.getElementById('state').textContent == {text!r}"


def test_files_come_side_by_side_and_again_after_a_break_and_are_kept(built):
    """Three files of 23 MB; the second visit needs no server."""
    files = [
        f"/assets/{next(built.glob(f'assets/{name}')).name}" for name in ("fast-*", "detector-*", "*threaded-*.wasm")
    ]
    with serving(built) as site, chromium.browsing(ALONE) as page:
        site.held = {path: Event() for path in files}
        site.cut = [files[1]]
        page.open(f"{site.address}?provider=wasm&threads=1&model=fast", width=390, height=780)
        for path in files:
            site.wait_for(path)  # none has come whole yet
        bar, said = "document.getElementById('progress').value", "document.getElementById('state').textContent"
        page.wait_for(f"{bar} > 0.45 && {bar} < 0.6 && / of 23 MB/.test({said})", PATIENCE_S)  # all sizes are known
        # a half of 22.5 is 11.3: 11 where all of it has come, less while the file that was cut off begins anew
        state = page.value(said)
        assert re.fullmatch(r"loading, 1[012] of 23 MB", str(state))
        keep(page.image(), "page_loading.png")
        for event in site.held.values():
            event.set()
        page.wait_for(READY, PATIENCE_S)
        assert {path: site.asked.count(path) for path in files} == dict(zip(files, (1, 2, 1), strict=True))
        keep(page.image(), "page_ready.png")
        page.wait_for("navigator.serviceWorker.controller", PATIENCE_S)
        page.complaints.clear()  # of the connection that broke
        site.shutdown()
        site.socket.close()
        page.open(f"{site.address}?provider=wasm&threads=1&model=fast")
        page.wait_for(READY, PATIENCE_S)
        assert page.complaints == []


def test_it_is_ready_before_that_which_draws_has_come(built):
    """A clip that is chosen meanwhile plays as soon as it can be drawn."""
    drawing = next(built.glob("assets/overlay-*.js")).name
    with serving(built) as site, chromium.browsing(ALONE, NO_GESTURE) as page:
        site.held = {drawing: Event()}
        page.open(f"{site.address}?provider=wasm&threads=1&model=fast")
        page.wait_for(READY, PATIENCE_S)
        click(page, "clip")
        page.wait_for(says("clip"), PATIENCE_S)
        state = "document.getElementById('stage').dataset.state"
        assert page.value(state) == "empty"
        site.held[drawing].set()
        page.wait_for(f"{state} == 'playing'", PATIENCE_S)
        assert page.complaints == []


def test_what_does_not_come_is_told(built, tmp_path):
    for path in built.rglob("*.*"):
        copy = tmp_path / path.relative_to(built)
        copy.parent.mkdir(exist_ok=True)
        if not path.name.startswith("detector"):
            copy.symlink_to(path)
    with serving(tmp_path) as site, chromium.browsing(ALONE) as page:
        page.open(f"{site.address}?provider=wasm&threads=1")
        page.wait_for("document.getElementById('state').dataset.tone == 'wrong'", PATIENCE_S)
        assert str(page.value("document.getElementById('state').textContent")).endswith("the server answers 404")
        assert page.value("document.getElementById('again').hidden") is False


@pytest.fixture(scope="module")
def page(built):
    """The page with two cameras, whose prompts can be left open."""
    with serving(built) as site, chromium.browsing(ALONE, *CAMERAS) as page:
        page.call("Page.enable")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=ASKED)
        page.open(f"{site.address}?provider=wasm&threads=1&model=fast", width=1100, height=800)
        page.wait_for(READY, PATIENCE_S)
        yield page


def test_a_camera_that_is_no_longer_wanted_is_let_go(page):
    """Its prompt was answered when something else already played."""
    click(page, "camera")
    page.wait_for(says("opening"))
    click(page, "clip")
    page.wait_for(says("clip"), PATIENCE_S)
    page.value("window.allow()")
    page.wait_for("endedTracks().includes('ended')", PATIENCE_S)
    assert page.value(says("clip"))


def test_as_many_hands_as_are_asked_for(page):
    count = "document.querySelectorAll('#hands li').length"
    page.wait_for(f"{count} == 2", PATIENCE_S)
    keep(page.image(), "page_desktop.png")
    choose(page, "number", "1")
    page.wait_for(f"{count} == 1", PATIENCE_S)
    choose(page, "number", "2")
    page.wait_for(f"{count} == 2", PATIENCE_S)


def test_a_file_plays_and_stops_and_plays_again(page):
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    for _ in range(2):
        page.call("DOM.setFileInputFiles", nodeId=node, files=[str(Path(DEMO_CLIP))])
        page.wait_for(says(Path(DEMO_CLIP).name), PATIENCE_S)
        page.wait_for("document.getElementById('stage').dataset.state == 'playing'", PATIENCE_S)
        click(page, "stop")
        assert page.value(says("ready")) and page.value("document.getElementById('stop').hidden")


def test_cameras_are_chosen_lost_and_stopped(page):
    page.value("window.streams = []")
    click(page, "camera")
    page.wait_for("document.querySelectorAll('#cameras option').length == 2", PATIENCE_S)
    assert page.value("document.getElementById('cameras').hidden") is False
    page.wait_for("document.getElementById('stage').dataset.state == 'playing'", PATIENCE_S)
    keep(page.image(), "page_cameras.png")
    other = "[...document.querySelectorAll('#cameras option')].find((option) => !option.selected).value"
    wanted = page.value(other)
    choose(page, "cameras", repr(wanted))
    page.wait_for("endedTracks().join() == 'ended,live'", PATIENCE_S)
    assert page.value("streams[1].getVideoTracks()[0].getSettings().deviceId") == wanted
    page.wait_for(says("camera"), PATIENCE_S)
    page.value("streams[1].getVideoTracks()[0].dispatchEvent(new Event('mute'))")
    assert page.value(says("no images come from the camera"))
    page.value("streams[1].getVideoTracks()[0].dispatchEvent(new Event('unmute'))")
    assert page.value(says("camera"))
    page.value("streams[1].getVideoTracks()[0].dispatchEvent(new Event('ended'))")  # as when it is unplugged
    page.wait_for("document.getElementById('state').dataset.tone == 'wrong'")
    assert "the camera is gone" in str(page.value("document.getElementById('state').textContent"))
    click(page, "camera")
    page.wait_for(says("camera"), PATIENCE_S)
    click(page, "stop")
    page.wait_for("endedTracks().join() == 'ended,ended,ended'")


def test_the_worker_can_be_closed(page):
    page.value("handmesh.close()")
    frame = "{ url: document.createElement('canvas').toDataURL(), timeS: 0 }"
    page.value(f"handmesh.run([{frame}]).catch((error) => (window.reason = error.message)).then(() => 0)")
    assert page.value("window.reason") == "the engine is closed"
    assert page.complaints == []
