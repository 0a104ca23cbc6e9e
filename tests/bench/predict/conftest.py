"""One results folder of small finished runs, with the outputs that each trained model had when its run ended."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console


@dataclass(frozen=True)
class Finished:
    """Runs of sam_nano: lora_qv on two folds, and zero_shot on the first.

    Attributes:
        results: the results folder.
        data: the dataset's folder.
        outputs: by run id, the logits of the trained model for `image`.
    """

    results: Path
    data: Path
    outputs: dict[str, torch.Tensor]

    def of(self, strategy: str, fold: int = 1) -> str:
        """Id of a run."""
        from bench.results import record

        (found,) = (
            each.id
            for each in record.read_all(self.results)
            if (each.run["strategy"], each.run["fold"]) == (strategy, fold)
        )
        return found


def outputs_of(sam: torch.nn.Module) -> torch.Tensor:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return sam.eval().decode(sam.encode(images))[0]  # type: ignore[operator]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path, tiny_grid: Path) -> Finished:
    from bench.submission import prepare
    from registry import trained

    results, outputs = tmp_path_factory.mktemp("finished") / "results", {}
    grid = results.with_name("without_classical.py")
    grid.write_text(tiny_grid.read_text().replace('name="tiny",', 'name="tiny", classical=False,'))
    save = trained.save

    def save_and_keep(sam: torch.nn.Module, strategy: str, folder: Path) -> int:
        if Path(folder).name == "trained":  # the audit saves too, elsewhere and before the training
            outputs[Path(folder).parent.name] = outputs_of(sam)
        return save(sam, strategy, folder)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "save", save_and_keep)
        for only in (["strategy=lora_qv"], ["strategy=zero_shot", "fold=1"]):
            prepared = prepare.prepare(
                str(grid),
                assignments=("train.epochs=1",),
                only=only,
                data=tiny_data,
                weights_folder=None,
                results=results,
                cluster="inline",
                device="cpu",
            )
            assert prepare.run(prepared, console=Console(file=StringIO(), width=200)) == 0
    return Finished(results, tiny_data, outputs)
