"""Addresses of live sources: what they are, what they are called, and what of them may be shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import UsageError
from utils.streams.live_source import is_live_address, live_sources


@pytest.mark.parametrize(
    ("text", "live"), [("0", True), ("12", True), ("rtsp://a", True), ("a.mp4", False), ("²", False)]
)
def test_what_is_live(text: str, live: bool) -> None:
    assert is_live_address(text) is live


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("0", "webcam0"),
        ("007", "webcam7"),
        ("rtsp://192.168.0.7:8554/door/live", "192-168-0-7-8554_door_live"),
        ("HTTPS://user:secret@cam.example/a.mjpg?key=1", "cam-example_a-mjpg"),
        ("http://host/" + "x" * 200, "host_" + "x" * 75),
        ("http://höst/", "h-st"),
    ],
)
def test_names_are_those_of_files(address: str, name: str) -> None:
    assert [source.name for source in live_sources([address])] == [name]


def test_names_are_unique_and_addresses_come_once() -> None:
    found = live_sources(["rtsp://a/b", "rtsp://a/B", "rtsp://a/b", "RTSP://a/b", "http://a/b", "0", "00"])
    assert [source.address for source in found] == ["rtsp://a/b", "rtsp://a/B", "http://a/b", "0"]
    assert [source.name for source in found] == ["a_b", "a_B_2", "a_b_3", "webcam0"]


def test_secrets_are_not_shown() -> None:
    source = live_sources(["rtsp://admin:pass@word@10.0.0.2/live?token=abc"])[0]
    assert source.shown == "rtsp://10.0.0.2/live?..." and source.address.endswith("?token=abc")
    assert live_sources(["3"])[0].shown == "webcam 3"
    with pytest.raises(UsageError) as caught:
        live_sources(["ftp://admin:password@host/a"])
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("rstp://host/live", r"rstp://host/live: streams begin with rtsp://, .*Did you mean 'rtsp'\?"),
        ("file:///etc/passwd", "streams begin with"),
        ("rtsp://", r"names no host; write rtsp://HOST\[:PORT\]/PATH"),
        ("http://[bad/", "names no host"),
        ("http://host:99999/", "names no host"),
        ("http://host:port/", "names no host"),
    ],
)
def test_wrong_addresses_are_one_sentence(address: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        live_sources([address])
    assert "\n" not in str(caught.value)


@given(st.lists(st.text(min_size=1, max_size=30), max_size=6))
@settings(max_examples=50)
def test_any_path_gives_a_name_that_every_file_system_takes(paths: list[str]) -> None:
    found = live_sources([f"http://host/{path}" for path in paths])
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", source.name) for source in found)
    assert len({source.name.lower() for source in found}) == len(found) == len(set(paths))
