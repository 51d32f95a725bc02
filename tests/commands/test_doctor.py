"""Which released backbones doctor says fit."""

from __future__ import annotations

import pytest

from evalkit.commands import doctor


@pytest.mark.parametrize(("gib", "fit"), [(4.0, "3.9 fits"), (3.0, "3.9 no")])
def test_fits_by_free_memory(gib: float, fit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory", lambda: ("GPU", gib * 2**30))
    lines = doctor.fits().splitlines()
    assert "estimated" in lines[0]
    assert f"{gib:.1f} free on the GPU" in lines[0]
    (flash,) = [line for line in lines if line.startswith("videochat_flash_2b")]
    assert fit in flash
    assert not any(line.startswith("tiny") for line in lines)
