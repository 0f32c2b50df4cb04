"""Progress bars that come late."""

import pytest

from piip import progress
from piip.progress import show_progress


@pytest.mark.parametrize(("seconds", "visible"), [(0.0, True), (0.0, False), (60.0, True)])
def test_a_bar_for_what_takes_long(seconds, visible, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SILENT_SECONDS", seconds)
    assert list(show_progress(iter("abc"), 3, "reading", visible=visible)) == ["a", "b", "c"]
    assert ("reading" in capsys.readouterr().err) is (visible and not seconds)
