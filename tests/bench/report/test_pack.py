"""Packs: what is in them and what is not, the same bytes twice, and what `bench verify` says of altered ones."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest
from fabricated import record, run
from hostile_study import HOME, HOST
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import BenchError
from bench.report import pack, pack_tables, verify, verify_archive
from bench.report.pack_redaction import Redaction
from bench.results.record import write


@pytest.fixture(scope="module")
def packed(study_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, _ = pack.write_pack(study_results, tmp_path_factory.mktemp("pack") / "pack.zip")
    return path


def altered(packed: Path, target: Path, change: Callable[[dict[str, bytes]], None], *, sign: bool = False) -> Path:
    """A pack with its files changed; `sign`: with a manifest that fits them."""
    with zipfile.ZipFile(packed) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    change(files)
    if sign:
        manifest = json.loads(files.pop(pack.MANIFEST))
        manifest["files"] = {name: pack.entry(content) for name, content in files.items()}
        files[pack.MANIFEST] = json.dumps({**manifest, "digest": pack.manifest_digest(manifest)}).encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def first(files: Mapping[str, bytes], ending: str) -> str:
    return next(name for name in sorted(files) if name.endswith(ending))


def test_a_pack_holds_records_scores_folds_and_tables_and_its_manifest_names_them(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("manifest.json"))
    assert sorted(manifest["files"]) == names[1:] == sorted(names[1:])
    kinds = [name.rsplit("/", 1)[-1] for name in names]
    assert {name: kinds.count(name) for name in ("record.json", "scores.parquet", "history.parquet")} == {
        "record.json": 9,
        "scores.parquet": 8,
        "history.parquet": 6,
    }
    tables = [f"tables/{name}" for name in sorted(pack_tables.TABLES)]
    assert names[-len(tables) :] == tables
    assert {"README.txt", "baselines.csv", "results/folds/nuinsseg-0123456789ab-2-19.csv"} <= set(names)


def test_paths_and_hosts_are_taken_out(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
    for name, content in texts.items():
        for secret in (HOST, HOME, "jdoe", "/data/images"):
            assert secret.encode() not in content, name
    failed = next(text for name, text in texts.items() if name.endswith("record.json") and b"out_of_memory" in text)
    values = json.loads(failed)
    assert values["provenance"]["host"] == values["provenance"]["node"] == "host-1"
    assert values["traceback"] == 'Traceback …\n  File "…/run.py", line 1\nOutOfMemoryError on host-1'
    assert values["provenance"]["dataset"]["root"] == "images"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/jdoe/nuclei", "nuclei"),
        ("C:\\Users\\jdoe\\nuclei", "nuclei"),
        ("can't read /home/jdoe/a.png: no", "can't read …/a.png: no"),
        ("'/home/j doe/a b.png' is missing", "'…/a b.png' is missing"),
        ("see https://example.org/a/b and 3/4 of 1 / 2", "see https://example.org/a/b and 3/4 of 1 / 2"),
        ("path=/scratch/x/y, D:\\data\\z.tif", "path=…/y, …/z.tif"),
        ("on node-1 and node-10, not xnode-1", "on host-1 and node-10, not xnode-1"),
        ("liver/a", "liver/a"),
        ("see file:///home/alice/data/x.png", "see file:…/x.png"),
        ("</home/alice/a/b>", "<…/b>"),
        ("alice@lab-7:/home/alice/x", "…:…/x"),
        ("ssh://bob:secret@lab-7/x", "ssh://…@lab-7/x"),
        ("/home/alice", ""),
        ("cwd is /home/alice", "cwd is …/"),
        ("C:\\Users\\alice", ""),
    ],
)
def test_texts_without_paths_and_hosts(text: str, expected: str) -> None:
    redaction = Redaction()
    redaction.record({"provenance": {"host": "node-1"}})
    assert redaction.text(text) == expected


def test_hosts_in_records_that_are_read_earlier_and_in_sentences_alone_are_taken_out(tmp_path: Path) -> None:
    lost = "node failed: job 12_3 on gpu-07 ended with it"
    write(tmp_path, record(run(fold=1), status="failed", reason=f"{lost}, then job 4 on gpu-09."))
    write(tmp_path, record(run(fold=2), status="failed", reason="failed like job 9 on gpu-07"))
    for number, path in enumerate(sorted(tmp_path.glob("runs/*/record.json"))):
        values = json.loads(path.read_bytes())
        host = {} if number == 0 else {"host": "gpu-11.cluster.example", "node": "gpu-11"}
        attempt = {"status": "failed", "reason": "slow on gpu-11", "failure": {"kind": "error", "text": "on gpu-11"}}
        path.write_text(json.dumps({**values, "provenance": host, "attempts": [attempt]}))
    path, _ = pack.write_pack(tmp_path)
    with zipfile.ZipFile(path) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert b"gpu-" not in content
    assert b"job 12_3 on host-" in content


def test_hosts_that_are_called_like_words_of_the_schema_change_nothing_else() -> None:
    values = {
        "run": {},
        "status": "ok",
        "provenance": {"host": "ok", "node": "gpu", "gpu": "gpu"},
        "cost": {"gpu_seconds": 3, "device": "gpu"},
        "attempts": [{"status": "failed", "failure": {"kind": "error", "text": "on gpu"}}],
    }
    assert Redaction().record(values) == {
        **values,
        "provenance": {"host": "host-1", "node": "host-2", "gpu": "gpu"},
        "attempts": [{"status": "failed", "failure": {"kind": "error", "text": "on host-2"}}],
    }


def test_numbers_that_are_not_finite_are_null_and_never_end_a_pack(tmp_path: Path) -> None:
    for fold in (1, 2):
        write(tmp_path, record(run(fold=fold, n_splits=2), pq=0.5, official=False))
    first_path, second_path = sorted(tmp_path.glob("runs/*/record.json"))
    values = json.loads(first_path.read_bytes())
    values["cost"] = {**(values["cost"] or {}), "x": [float("nan"), float("inf")]}
    first_path.write_text(json.dumps(values))
    values = json.loads(second_path.read_bytes())
    second_path.write_text(json.dumps({**values, "run": {**values["run"], "scale": float("nan")}}))
    path, _ = pack.write_pack(tmp_path)
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("record.json")]
        assert json.loads(archive.read(name))["cost"]["x"] == [None, None]
    (sentence,) = verify.verify(path).left_out
    assert sentence.startswith(f"runs/{second_path.parent.name}: the record can't be written (")


def test_files_below_the_root_keep_their_path_there() -> None:
    redaction = Redaction(Path("/home/jdoe/results"))
    assert redaction.text("/home/jdoe/results/runs/a is damaged, /home/jdoe/b too") == (
        "results/runs/a is damaged, …/b too"
    )


def test_settings_stay_as_they_are_because_their_digest_is_the_id() -> None:
    values = {"run": {"options": {"file": "/a/b"}}, "provenance": {"plugins": {"/a/b.py": "12"}, "host": None}}
    assert Redaction().record(values) == {
        "run": {"options": {"file": "/a/b"}},
        "provenance": {"plugins": {"b.py": "12"}, "host": None},
    }


def test_the_same_records_give_the_same_pack(study_results: Path, packed: Path, tmp_path: Path) -> None:
    path, digest = pack.write_pack(study_results, tmp_path / "again.zip")
    assert path.read_bytes() == packed.read_bytes()
    assert digest == verify.verify(packed).sha256


def test_a_pack_as_it_was_written_holds(packed: Path) -> None:
    done = CliRunner().invoke(app, ["verify", str(packed)])
    assert done.exit_code == 0
    assert "Digests: all 30 files are as the manifest says." in done.output
    for name in pack_tables.TABLES:
        assert f"{name}: equal" in done.output
    assert "The pack agrees with its own manifest, and its tables follow from its records. Compare the" in done.output


def test_a_forged_pack_agrees_with_itself_and_only_the_published_digest_tells_it(packed: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        _better_record(files)
        for name, content in files.items():
            path = tmp_path / "forged" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        tables, _ = pack_tables.compute(tmp_path / "forged" / "results", tmp_path / "forged" / pack.BASELINES)
        files.update({f"tables/{name}": text.encode() for name, text in tables.items()})

    published = verify.verify(packed).sha256
    forged = altered(packed, tmp_path / "p.zip", change, sign=True)
    assert verify.verify(forged).ok
    for path, exit_code, sentence in (
        (forged, 1, f"It is another file than the one that was published: {published} was given."),
        (packed, 0, "It is the file whose SHA-256 was given."),
    ):
        done = CliRunner().invoke(app, ["verify", str(path), "--sha256", published.upper()])
        assert done.exit_code == exit_code
        assert sentence in done.output
    with pytest.raises(BenchError, match="'abc' is no SHA-256 digest; give the 64 hexadecimal digits"):
        verify.verify(packed, sha256="abc")
    with zipfile.ZipFile(packed) as archive:
        readme = archive.read("README.txt").decode()
    assert "proves that the file was not changed" not in readme
    assert "bench verify FILE --sha256 DIGEST" in readme


def _better_scores(files: dict[str, bytes]) -> None:
    name = first(files, "scores.parquet")
    table = pd.read_parquet(io.BytesIO(files[name]))
    files[name] = table.assign(pq=table["pq"] + 0.1).to_parquet()


def _better_record(files: dict[str, bytes]) -> None:
    name = next(name for name in sorted(files) if name.endswith("record.json") and b'"ok"' in files[name])
    values = json.loads(files[name])
    values["scores"]["pq"] += 0.1
    files[name] = json.dumps(values).encode()


def test_a_changed_score_is_found_and_its_tables_differ(packed: Path, tmp_path: Path) -> None:
    verdict = verify.verify(altered(packed, tmp_path / "p.zip", _better_scores))
    assert [sentence.split("/")[-1] for sentence in verdict.altered] == ["scores.parquet was changed."]
    assert verdict.tables["organs.csv"][0].startswith("row ")
    assert not verdict.ok


def test_a_changed_record_is_found_even_if_the_manifest_is_made_to_fit(packed: Path, tmp_path: Path) -> None:
    path = altered(packed, tmp_path / "p.zip", _better_record, sign=True)
    done = CliRunner().invoke(app, ["verify", str(path)])
    assert done.exit_code == 1
    assert "Digests: all 30 files are as the manifest says." in done.output
    assert "leaderboard.csv: differs\n  row " in done.output
    assert done.output.endswith("The pack does not hold: see above.\n")


def test_changed_manifests_tables_and_added_and_removed_files_are_found(packed: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        files["manifest.json"] = json.dumps({**manifest, "program": "9.9"}).encode()
        files["tables/leaderboard.csv"] = files["tables/leaderboard.csv"].replace(b"mobile_sam", b"tiny_sam")
        files["results/note.txt"] = b"added"
        del files["README.txt"], files["tables/organs.csv"], files[first(files, "scores.parquet")]

    verdict = verify.verify(altered(packed, tmp_path / "p.zip", change))
    problems = " ".join(verdict.altered)
    assert "manifest.json was changed." in problems
    assert "tables/leaderboard.csv was changed." in problems
    assert "README.txt is missing." in problems
    assert "scores.parquet is missing." in problems
    assert "results/note.txt was added: the manifest does not name it." in problems
    assert "tiny_sam in the pack, mobile_sam computed" in " ".join(verdict.tables["leaderboard.csv"])
    assert verdict.tables["organs.csv"][0].startswith("it can't be computed: ")


def test_records_that_break_the_computation_are_an_outcome(packed: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        name = first(files, "record.json")
        files[name] = json.dumps({"schema_version": 1, "id": "x", "status": "ok", "run": [1]}).encode()

    verdict = verify.verify(altered(packed, tmp_path / "p.zip", change))
    assert all(sentences[0].startswith("it can't be computed (") for sentences in verdict.tables.values())


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", "C:evil", "a//b", "./a", "a/", "a\nb"]
)
def test_names_that_lead_elsewhere_are_refused(packed: Path, tmp_path: Path, name: str) -> None:
    path = altered(packed, tmp_path / "p.zip", lambda files: files.update({name: b"x"}))
    with pytest.raises(BenchError, match="is refused: the name"):
        verify.verify(path)
    assert CliRunner().invoke(app, ["verify", str(path)]).exit_code != 0
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_twice_and_links_are_refused(packed: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("README.txt", "readme.TXT")):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(packed.read_bytes())
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, "other")
        with pytest.raises(BenchError, match=f"it holds '{name}' twice"):
            verify.verify(path)
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    path = altered(packed, tmp_path / "p.zip", lambda files: None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(BenchError, match="the name 'link' is a link or a device"):
        verify.verify(path)


def test_bombs_are_refused_before_they_are_unpacked(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = altered(packed, tmp_path / "p.zip", lambda files: files.update({"zeros": bytes(2_000_000)}))
    monkeypatch.setattr(verify_archive, "MOST_BYTES_OF_A_FILE", 1_000_000)
    with pytest.raises(BenchError, match=r"'zeros' unpacks to 2,000,000 bytes"):
        verify.verify(path)
    monkeypatch.setattr(verify_archive, "MOST_BYTES_OF_A_FILE", 3_000_000)
    monkeypatch.setattr(verify_archive, "MOST_BYTES", 2_000_000)
    with pytest.raises(BenchError, match=r"it unpacks to 2,\d\d\d,\d\d\d bytes, and 2,000,000 are the most"):
        verify.verify(path)
    monkeypatch.setattr(verify_archive, "MOST_FILES", 10)
    with pytest.raises(BenchError, match="it holds 32 files, and 10 are the most"):
        verify.verify(path)


def test_files_that_are_no_pack_are_refused(packed: Path, tmp_path: Path) -> None:
    truncated, text, other = tmp_path / "truncated.zip", tmp_path / "text.zip", tmp_path / "other.zip"
    truncated.write_bytes(packed.read_bytes()[:-500])
    text.write_text("text")
    for path in (truncated, text):
        with pytest.raises(BenchError, match="is no zip file, or a truncated one"):
            verify.verify(path)
    with pytest.raises(BenchError, match="does not exist; give the zip file that `bench report --pack` wrote"):
        verify.verify(tmp_path / "none.zip")
    altered(packed, other, lambda files: files.pop("manifest.json") and None)
    with pytest.raises(BenchError, match=r"is no pack: it holds no manifest.json"):
        verify.verify(other)
    for manifest, sentence in (("[]", "is no pack"), ("{", "can't be read"), ("[" * 100_000, "can't be read")):
        altered(packed, other, lambda files, text=manifest: files.update({"manifest.json": text.encode()}))
        with pytest.raises(BenchError, match=sentence):
            verify.verify(other)
    newer = json.dumps({"format": pack.FORMAT, "version": 99})
    altered(packed, other, lambda files: files.update({"manifest.json": newer.encode()}))
    with pytest.raises(BenchError, match="is of version 99, and this program reads 1; update nuclei-bench"):
        verify.verify(other)


def test_a_damaged_file_within_is_refused(packed: Path, tmp_path: Path) -> None:
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        info = archive.getinfo("tables/leaderboard.csv")
    middle = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    content[middle : middle + 8] = bytes(8)
    path = tmp_path / "p.zip"
    path.write_bytes(bytes(content))
    with pytest.raises(BenchError, match=r"'tables/leaderboard.csv' can't be unpacked .*; copy the pack again"):
        verify.verify(path)


def test_tables_that_cannot_be_made_and_records_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write(tmp_path, record(run(n_splits=1), official=False))
    damaged = tmp_path / "runs" / "abc" / "record.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    path, _ = pack.write_pack(tmp_path)
    verdict = verify.verify(path)
    assert verdict.ok
    assert set(verdict.not_made) == {"organs.csv", "comparison.csv"}
    assert "results/runs/" in verdict.not_made["organs.csv"]
    lines = verify.report(verdict)
    assert any(line.startswith("Left out when it was packed: runs/abc: the record can't be read") for line in lines)


def test_packs_need_records_and_the_name_of_a_zip_file(study_results: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no records below .*; run `bench run --grid quick` first"):
        pack.write_pack(tmp_path, tmp_path / "p.zip")
    for name in ("-", "pack", str(tmp_path)):
        with pytest.raises(BenchError, match="a pack is a zip file"):
            pack.write_pack(study_results, Path(name))


def test_tables_are_equal_up_to_the_last_digits() -> None:
    assert pack_tables.differences("a,b\n0.1,x\n", "a,b,new\n0.10000000000000002,x,1\n") == []
    assert pack_tables.differences("a,b\n0.1,x\n", "a\n0.2\n") == [
        "the column b is not computed any more",
        "row 1, a: 0.1 in the pack, 0.2 computed",
    ]
    assert pack_tables.differences("a\n1\n2\n", "a\n1\n") == ["2 rows in the pack, 1 computed"]
