"""One cached array: its rounding, and files that are truncated or changed."""

from __future__ import annotations

import pytest
import torch

from bench.cache import entry


def test_values_are_rounded_to_float16_by_half_a_unit_in_the_last_place():
    values = torch.randn(16, 8, 8, generator=torch.Generator().manual_seed(0)) * 30
    kept = entry.rounded(values)
    used = entry.as_computed(kept, "float32")
    assert kept.dtype == torch.float16 and used.dtype == torch.float32
    assert bool(((used - values).abs() <= values.abs() * 2**-11 + 2**-25).all())


def test_values_beyond_the_range_of_float16_become_bfloat16():
    kept = entry.rounded(torch.tensor([1.0, 65504.0, -70000.0]))
    assert kept.dtype == torch.bfloat16
    assert entry.as_computed(kept, "float32").tolist() == [1.0, 65536.0, -70144.0]


def test_bfloat16_is_kept_as_it_is():
    values = torch.tensor([1e-30, 3.0, 1e30], dtype=torch.bfloat16)
    assert torch.equal(entry.as_computed(entry.rounded(values), "bfloat16"), values)


def test_what_is_written_is_read_and_outlives_its_file(tmp_path):
    kept = torch.arange(512, dtype=torch.float16).reshape(2, 16, 16)
    entry.write(tmp_path / "a.safetensors", kept)
    values = entry.read(tmp_path / "a.safetensors", verify=True)
    (tmp_path / "a.safetensors").unlink()  # a removed file stays under whoever has opened it
    assert torch.equal(values, kept)
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content[:-100], "."),
        (lambda content: b"", "."),
        (lambda content: content[:-10] + b"\x07" + content[-9:], "its checksum is wrong"),
        (lambda content: content.replace(b'"embedding"', b'"embeddinx"'), "."),
    ],
    ids=["truncated", "empty", "one byte", "other name"],
)
def test_damaged_file_is_recognised(tmp_path, change, problem):
    path = tmp_path / "a.safetensors"
    entry.write(path, torch.ones(256, 4, 4, dtype=torch.float16))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(entry.DamagedEntryError, match=problem):
        entry.read(path, verify=True)
