"""Training loop on a model small enough to compute by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import DivergedError, InterruptedRunError
from bench.results.history import TIMINGS_AND_MEMORY
from bench.training import loop, saver
from bench.training.checkpoint import State
from bench.training.optimizer import make_optimizer

STEPS_PER_EPOCH, EPOCHS, BATCH = 3, 4, 4
WEIGHT_DECAY = 0.1  # AdamW's factor, of which a step takes away the product with the rate
SETTINGS = loop.LoopSettings(
    epochs=EPOCHS,
    steps_per_epoch=STEPS_PER_EPOCH,
    batch_size=BATCH,
    micro_batch=BATCH,
    lr=0.01,
    warmup_steps=2,
    schedule="cosine",
    clip_norm=1.0,
    validate_every=1,
    patience=0,
)


@dataclass
class Batch:
    images: Tensor
    targets: Tensor


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))


def batches(first_step: int) -> Iterator[Batch]:
    for step in range(first_step, STEPS_PER_EPOCH * EPOCHS):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(BATCH, 5, generator=generator)
        yield Batch(images, images.sum(1, keepdim=True))


Loss = Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]


def squared_error(net: Callable[[Tensor], Tensor]) -> Loss:
    def loss(images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        error = ((net(images) - targets) ** 2).mean()
        return error, {"half": error.detach() / 2, "rest": error.detach() / 2}

    return loss


def fit(net: nn.Module, path: Path, settings: loop.LoopSettings = SETTINGS, **changes: Any) -> State:
    arguments = {
        "loss": squared_error(net),
        "batches": batches,
        "validate": lambda: {"pq": 0.0, "aji": 0.0, "dice": 0.0},
        "state_path": path,
        "enter_training": net.train,
    }
    optimizer = make_optimizer(
        net, lr=settings.lr, encoder_lr=settings.encoder_lr, weight_decay=settings.lr * WEIGHT_DECAY
    )
    return loop.fit(net, optimizer, settings, **(arguments | changes))


def stop_after(step: int) -> Callable[[], bool]:
    steps = iter(range(1, 100))
    return lambda: next(steps) >= step


def repeatable(state: State) -> list[dict[str, Any]]:
    """Rows of the history without what differs between two trainings."""
    return [{name: value for name, value in row.items() if name not in TIMINGS_AND_MEMORY} for row in state.history]


def weights(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def test_training_lowers_the_loss(tmp_path):
    losses: list[float] = []
    settings = replace(SETTINGS, lr=0.1)
    fit(new_model(), tmp_path / "state.pt", settings, progress=lambda numbers: losses.append(numbers["loss"]))
    assert losses[-1] < 0.5 * losses[0]


def test_progress_counts_steps_and_epochs(tmp_path):
    seen: list[Any] = []
    fit(new_model(), tmp_path / "state.pt", progress=seen.append)
    assert [(numbers["step"], numbers["epoch"]) for numbers in seen[:4]] == [(1, 1), (2, 1), (3, 1), (4, 2)]
    assert {(numbers["steps"], numbers["epochs"]) for numbers in seen} == {(12, 4)}
    assert seen[-1]["eta_s"] == 0.0 and seen[0]["images_per_s"] > 0


@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_stopped_training_resumes_bit_for_bit(tmp_path, step):
    undisturbed = new_model()
    expected = fit(undisturbed, tmp_path / "whole.pt")
    with pytest.raises(InterruptedRunError, match=f"after step {step} of 12; the state is saved"):
        fit(new_model(), tmp_path / "state.pt", should_stop=stop_after(step))
    resumed = new_model()
    state = fit(resumed, tmp_path / "state.pt")
    assert state.step == 12
    assert equal(undisturbed, resumed)
    assert repeatable(state) == repeatable(expected)


def test_killed_training_resumes_bit_for_bit_from_its_last_state(tmp_path):
    undisturbed = new_model()
    fit(undisturbed, tmp_path / "whole.pt")

    def killed(numbers):
        if numbers["step"] == 8:
            raise SystemError("power cut")

    with pytest.raises(SystemError):
        fit(new_model(), tmp_path / "state.pt", progress=killed)
    steps: list[int] = []
    resumed = new_model()
    fit(resumed, tmp_path / "state.pt", progress=lambda numbers: steps.append(numbers["step"]))
    assert steps[0] == 7  # the epoch's end at step 6 was saved
    assert equal(undisturbed, resumed)


def test_finished_state_trains_no_further_step(tmp_path):
    first = new_model()
    fit(first, tmp_path / "state.pt")
    steps: list[int] = []
    again = new_model()
    fit(again, tmp_path / "state.pt", progress=lambda numbers: steps.append(numbers["step"]))
    assert steps == []
    assert equal(first, again)


def test_memory_of_gradients_is_freed_and_the_peak_survives_a_resumption(tmp_path):
    net, peaks = new_model(), iter([200, 300, 100, 90, 80, 70, 60, 50])
    with pytest.raises(InterruptedRunError):
        fit(net, tmp_path / "state.pt", should_stop=stop_after(3), peak_bytes=lambda: next(peaks))
    state = fit(net, tmp_path / "state.pt", peak_bytes=lambda: next(peaks))
    assert state.peak_bytes == 300
    assert all(p.grad is None for p in net.parameters())


# --- history ------------------------------------------------------------------------------------------------


def constant_losses(values: list[float]) -> Callable[[nn.Module], Loss]:
    """Losses of given value at each step, whose gradient is zero."""
    left = iter(values)
    return lambda net: lambda images, targets: (net(images).sum() * 0 + next(left), {})


def uneven_batches(first_step: int) -> Iterator[Batch]:
    """Two epochs of batches of 4, 4 and 2 images."""
    for step in range(first_step, 6):
        images = torch.zeros(2 if step % 3 == 2 else 4, 5)
        yield Batch(images, images)


def test_history_holds_the_mean_loss_over_the_images_of_each_epoch(tmp_path):
    net = new_model()
    loss = constant_losses([1.0, 2.0, 8.0, 3.0, 3.0, 3.5])(net)
    state = fit(net, tmp_path / "state.pt", replace(SETTINGS, epochs=2), loss=loss, batches=uneven_batches)
    assert [(row["epoch"], row["step"], row["loss"]) for row in state.history] == [
        (1, 3, (4 * 1.0 + 4 * 2.0 + 2 * 8.0) / 10),
        (2, 6, (4 * 3.0 + 4 * 3.0 + 2 * 3.5) / 10),
    ]
    assert [row["grad_norm"] for row in state.history] == [0.0, 0.0]


def test_epochs_that_are_not_validated_have_a_row_without_scores(tmp_path):
    net = new_model()
    loss = constant_losses([9.0, 9.0, 9.0, 3.0, 3.0, 3.5])(net)
    settings = replace(SETTINGS, epochs=2, validate_every=2)
    state = fit(net, tmp_path / "state.pt", settings, loss=loss, batches=uneven_batches)
    assert [(row["epoch"], row["loss"], row.get("pq")) for row in state.history] == [(1, 9.0, None), (2, 3.1, 0.0)]


def test_history_holds_learning_rate_terms_of_the_loss_norm_speed_and_peak_of_every_epoch(tmp_path):
    norms: list[float] = []
    net = new_model()

    def batches_noting_norms(first_step: int) -> Iterator[Batch]:
        for batch in batches(first_step):
            yield batch
            norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in net.parameters())))

    settings = replace(SETTINGS, clip_norm=1e9)  # what is clipped is not left in the gradients
    state = fit(net, tmp_path / "state.pt", settings, batches=batches_noting_norms, peak_bytes=lambda: 77)
    assert len(state.history) == EPOCHS and len(norms) >= 11
    for number, row in enumerate(state.history, start=1):
        last = number * STEPS_PER_EPOCH - 1
        assert (row["epoch"], row["step"], row["lr"]) == (number, last + 1, settings.learning_rate(last))
        assert row["loss_half"] == row["loss_rest"] == pytest.approx(row["loss"] / 2)
        assert row["images_per_s"] == pytest.approx(BATCH * STEPS_PER_EPOCH / row["seconds"])
        assert row["peak_bytes"] == 77
    assert state.history[0]["grad_norm"] == pytest.approx(sum(norms[:3]) / 3)


def test_shared_device_leaves_no_speed_in_the_history(tmp_path):
    state = fit(new_model(), tmp_path / "state.pt", replace(SETTINGS, is_shared=True))
    assert all("seconds" not in row and "images_per_s" not in row for row in state.history)


def test_seconds_of_an_epoch_hold_those_before_an_interruption_and_no_validation(tmp_path, monkeypatch):
    """A step takes 1 s of the clock, a validation 100 s."""
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    def slow(first_step: int) -> Iterator[Batch]:
        for batch in batches(first_step):
            now[0] += 1.0
            yield batch

    def validate() -> dict[str, float]:
        now[0] += 100.0
        return {"pq": 0.0, "aji": 0.0, "dice": 0.0}

    with pytest.raises(InterruptedRunError):
        fit(new_model(), tmp_path / "state.pt", batches=slow, validate=validate, should_stop=stop_after(2))
    now[0] += 1000.0
    state = fit(new_model(), tmp_path / "state.pt", batches=slow, validate=validate)
    assert [row["seconds"] for row in state.history] == [3.0] * EPOCHS


def test_history_is_handed_out_at_the_start_and_after_every_epoch(tmp_path):
    lengths: list[int] = []
    with pytest.raises(InterruptedRunError):
        fit(
            new_model(), tmp_path / "state.pt", should_stop=stop_after(7), follow=lambda rows: lengths.append(len(rows))
        )
    assert lengths == [0, 1, 2]
    fit(new_model(), tmp_path / "state.pt", follow=lambda rows: lengths.append(len(rows)))
    assert lengths == [0, 1, 2, 2, 3, 4]


def test_interruption_at_the_end_of_an_epoch_comes_before_the_history_which_follows_when_the_run_continues(tmp_path):
    lengths: list[int] = []

    def follow(rows: object) -> None:
        lengths.append(len(rows))
        if len(rows) == 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(InterruptedRunError):
        fit(new_model(), tmp_path / "state.pt", should_stop=stop_after(2 * STEPS_PER_EPOCH), follow=follow)
    assert lengths == [0, 1]
    fit(new_model(), tmp_path / "state.pt", follow=lambda rows: lengths.append(len(rows)))
    assert lengths == [0, 1, 2, 3, 4]


def save_as_earlier(path: Path, *, version: str) -> None:
    """Rewrite a state as an earlier version wrote it: with other sums of the epoch, and a row per validation."""
    content = torch.load(path, weights_only=True)
    del content["state"]["epoch_sums"]
    content["state"] |= {} if version == "0.1.0" else {"epoch_loss_sum": 1.0, "epoch_images": 4}
    rows = content["state"]["history"]
    names = ("epoch", "pq", "aji", "dice")
    old = [{"mean_loss": row["loss"], **{name: row[name] for name in names}} for row in rows]
    content["state"]["history"] = old
    torch.save(content, path)


@pytest.mark.parametrize(("step", "unknown"), [(4, [2]), (6, [])])
@pytest.mark.parametrize("version", ["0.1.0", "0.2.0.dev"])
def test_state_of_an_earlier_version_resumes_and_the_sums_of_its_epoch_are_missing(tmp_path, step, unknown, version):
    undisturbed = new_model()
    expected = fit(undisturbed, tmp_path / "whole.pt")
    with pytest.raises(InterruptedRunError):
        fit(new_model(), tmp_path / "state.pt", should_stop=stop_after(step))
    save_as_earlier(tmp_path / "state.pt", version=version)
    resumed = new_model()
    state = fit(resumed, tmp_path / "state.pt")
    assert equal(undisturbed, resumed)
    for row, whole in zip(state.history, expected.history, strict=True):
        assert row.get("loss") == (None if row["epoch"] in unknown else whole["loss"])
        assert row["pq"] == whole["pq"]


# --- micro-batches and memory -------------------------------------------------------------------------------


def out_of_memory_above(images_at_once: int, net: nn.Module) -> Callable[[Tensor], Tensor]:
    def forward(images: Tensor) -> Tensor:
        if len(images) > images_at_once:
            raise torch.OutOfMemoryError("pretended")
        return net(images)

    return forward


def test_micro_batches_add_up_to_the_batch(tmp_path):
    whole, small = new_model(), new_model()
    whole[2].p = small[2].p = 0.0  # dropout would differ with the micro-batch
    expected = fit(whole, tmp_path / "whole.pt")
    state = fit(small, tmp_path / "small.pt", loss=squared_error(out_of_memory_above(2, small)))
    assert state.micro_batch == 2
    for a, b in zip(weights(whole), weights(small), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    for name in ("loss", "loss_half", "grad_norm"):
        assert [row[name] for row in state.history] == pytest.approx([row[name] for row in expected.history])


class Checkpointed:
    """Stands for the context in which activations are computed again."""

    active = False
    entered = 0

    def __call__(self) -> Checkpointed:
        return self

    def __enter__(self) -> None:
        self.active, self.entered = True, self.entered + 1

    def __exit__(self, *_: object) -> None:
        self.active = False


def test_out_of_memory_halves_the_micro_batch_before_activations_are_computed_again(tmp_path):
    net, context, tried = new_model(), Checkpointed(), []

    def forward(images: Tensor) -> Tensor:
        tried.append((len(images), context.active))
        if len(images) > 1 or not context.active:
            raise torch.OutOfMemoryError("pretended")
        return net(images)

    settings = replace(SETTINGS, memory="auto")
    with pytest.raises(InterruptedRunError):
        fit(
            net,
            tmp_path / "state.pt",
            settings,
            loss=squared_error(forward),
            checkpointed=context,
            should_stop=stop_after(1),
        )
    assert tried == [(4, False), (2, False), (1, False), *[(1, True)] * 4]
    tried.clear()
    state = fit(net, tmp_path / "state.pt", settings, loss=squared_error(forward), checkpointed=context)
    assert set(tried) == {(1, True)}  # a resumed training knows what did not fit
    assert (state.micro_batch, state.checkpointed) == (1, True)


@pytest.mark.parametrize(
    ("memory", "starts", "entered"),
    [("full", False, 0), ("auto", False, 0), ("auto", True, 12), ("checkpoint", True, 12)],
)
def test_activations_are_computed_again_where_the_setting_says_so(tmp_path, memory, starts, entered):
    net, context = new_model(), Checkpointed()
    settings = replace(SETTINGS, memory=memory, starts_checkpointed=starts)
    state = fit(net, tmp_path / "state.pt", settings, checkpointed=context)
    assert (context.entered, state.checkpointed) == (entered, entered > 0)


def test_out_of_memory_at_a_micro_batch_of_one_image_is_raised(tmp_path):
    net = new_model()
    with pytest.raises(torch.OutOfMemoryError):
        fit(net, tmp_path / "state.pt", loss=squared_error(out_of_memory_above(0, net)))


# --- divergence ---------------------------------------------------------------------------------------------


def test_loss_that_is_not_finite_ends_training(tmp_path):
    net = new_model()
    before = weights(net)
    with pytest.raises(DivergedError, match=r"the loss became nan at step 1; try a smaller train\.lr"):
        fit(net, tmp_path / "state.pt", loss=lambda images, targets: (net(images).sum() * math.nan, {}))
    assert all(torch.equal(a, b) for a, b in zip(before, weights(net), strict=True))


def test_gradient_that_is_not_finite_ends_training(tmp_path):
    net = new_model()
    with pytest.raises(DivergedError, match=r"the gradient's norm became nan at step 1; try a smaller train\.lr"):
        fit(net, tmp_path / "state.pt", loss=lambda images, targets: ((net(images) * 0).abs().sqrt().sum(), {}))


def test_weights_that_the_last_step_made_infinite_end_training_before_they_are_validated(tmp_path):
    net = nn.Sequential(nn.Linear(5, 1, bias=False))
    settings = replace(SETTINGS, epochs=1, steps_per_epoch=1, lr=1e30, clip_norm=1e9)

    def validate() -> dict[str, float]:
        raise AssertionError("validated")

    def loss(images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            net[0].weight.fill_(3e38)  # the step of 1e30 times weight decay takes them beyond float32
        return (net[0].weight.flatten()[0] * 0 + net[0].weight.sum() * 1e-38).clamp(max=10.0), {}

    with pytest.raises(DivergedError, match=r"^0\.weight is not finite after step 1; try a smaller train\.lr\.$"):
        fit(net, tmp_path / "state.pt", settings, loss=loss, validate=validate)


class Parts(nn.Module):
    """A model with an encoder; its BatchNorm is trained by the loss, its running statistics are the loop's business."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image_encoder = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8))
        self.head = nn.Linear(8, 1)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.image_encoder(images))
        return out


def test_both_rates_follow_one_schedule_and_stand_in_the_history(tmp_path):
    settings = replace(SETTINGS, lr=0.01, encoder_lr=0.001)
    state = fit(Parts(), tmp_path / "state.pt", settings)
    rates = [(row["lr"], row["encoder_lr"]) for row in state.history]
    assert rates == [(settings.learning_rate(last), settings.learning_rate(last, 0.001)) for last in (2, 5, 8, 11)]
    assert all(encoder == pytest.approx(lr / 10) for lr, encoder in rates)
    assert "encoder_lr" not in fit(new_model(), tmp_path / "one.pt").history[0]


def with_buffers(net: Parts) -> dict[str, Any]:
    """Let the loop keep the running statistics, which forward passes change."""
    return {"buffers": {name: b for name, b in net.named_buffers() if b.is_floating_point()}}


@pytest.mark.parametrize("step", [1, 7])
def test_buffers_belong_to_the_state_and_to_the_best_checkpoint(tmp_path, step):
    scores = iter([0.1, 0.9, 0.2, 0.3])

    def validate() -> dict[str, float]:
        seen.append(net.image_encoder[1].running_mean.clone())
        return {"pq": next(scores), "aji": 0.0, "dice": 0.0}

    seen: list[Tensor] = []
    whole = net = Parts()
    fit(whole, tmp_path / "whole.pt", validate=validate, **with_buffers(whole))
    assert torch.equal(whole.image_encoder[1].running_mean, seen[1])  # of the best epoch
    assert not torch.equal(seen[1], seen[3])
    first, resumed, scores = Parts(), Parts(), iter([0.1, 0.9, 0.2, 0.3])
    net = first
    with pytest.raises(InterruptedRunError):
        stopped = {"validate": validate, "should_stop": stop_after(step)}
        fit(first, tmp_path / "state.pt", **stopped, **with_buffers(first))
    net = resumed
    fit(resumed, tmp_path / "state.pt", validate=validate, **with_buffers(resumed))
    assert equal(whole, resumed)
    assert torch.equal(whole.image_encoder[1].running_var, resumed.image_encoder[1].running_var)


class TooLarge:
    """A loss that does not fit the memory with more than some images."""

    def __init__(self, net: nn.Module, fits: int) -> None:
        self.loss, self.fits = squared_error(net), fits

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if len(images) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.loss(images, targets)


def test_batches_that_must_stay_whole_are_not_divided_and_the_failure_says_what_to_do(tmp_path):
    net = new_model()
    assert fit(net, tmp_path / "divided.pt", loss=TooLarge(net, 2)).micro_batch == 2
    with pytest.raises(
        torch.OutOfMemoryError, match=r"all 4 images of a batch, which train\.batchnorm=trained"
    ) as raised:
        fit(net, tmp_path / "whole.pt", replace(SETTINGS, whole_batches=True), loss=TooLarge(net, 2))
    assert "choose train.batchnorm=settled, or a smaller train.batch_size. (CUDA out of memory)" in str(raised.value)


# --- numbers that are read late -----------------------------------------------------------------------------


def fused(net: nn.Module) -> torch.optim.Optimizer:
    return make_optimizer(net, lr=SETTINGS.lr, weight_decay=SETTINGS.lr * WEIGHT_DECAY, fused=True)


def fit_late(net: nn.Module, path: Path, *, is_late: bool = True, **changes: Any) -> State:
    arguments = {
        "loss": squared_error(net),
        "batches": batches,
        "validate": lambda: {"pq": 0.0, "aji": 0.0, "dice": 0.0},
        "state_path": path,
        "enter_training": net.train,
    }
    return loop.fit(net, fused(net), replace(SETTINGS, is_late=is_late), **(arguments | changes))


def test_numbers_that_are_read_late_change_nothing_in_parameters_and_history(tmp_path):
    at_once, late = new_model(), new_model()
    expected = fit_late(at_once, tmp_path / "at_once.pt", is_late=False)
    seen: list[Any] = []
    state = fit_late(late, tmp_path / "late.pt", progress=seen.append)
    assert equal(at_once, late)
    assert repeatable(state) == repeatable(expected)
    assert [numbers["step"] for numbers in seen] == list(range(1, 13))


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_training_whose_numbers_are_read_late_resumes_bit_for_bit(tmp_path, step):
    undisturbed, resumed = new_model(), new_model()
    expected = fit_late(undisturbed, tmp_path / "whole.pt")
    with pytest.raises(InterruptedRunError, match=f"after step {step} of 12"):
        fit_late(new_model(), tmp_path / "state.pt", should_stop=stop_after(step))
    state = fit_late(resumed, tmp_path / "state.pt")
    assert equal(undisturbed, resumed)
    assert repeatable(state) == repeatable(expected)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_divergence_that_is_read_late_leaves_the_parameters_of_the_last_good_step(tmp_path, what):
    net, good = new_model(), []
    calls = iter(range(1, 100))

    def loss(images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        number = next(calls)
        if number == 2:
            good.extend(weights(net))
            broken = net(images).sum() * math.nan if what == "loss" else (net(images) * 0).abs().sqrt().sum()
            return broken, {}
        return squared_error(net)(images, targets)[0], {}

    reason = "the loss" if what == "loss" else "the gradient's norm"
    with pytest.raises(DivergedError, match=f"{reason} became nan at step 2"):
        fit_late(net, tmp_path / "state.pt", loss=loss)
    assert next(calls) == 4  # step 3 was queued before the numbers of step 2 were read
    assert all(torch.equal(a, b) for a, b in zip(good, weights(net), strict=True))
    assert not (tmp_path / "state.pt").exists()


# --- best checkpoint and early stopping ---------------------------------------------------------------------


@pytest.mark.parametrize(("choose_by", "best_epoch"), [("pq", 1), ("searched_pq", 3), ("loss", 2)])
def test_best_checkpoint_is_chosen_by_the_score_that_was_set(tmp_path, choose_by, best_epoch):
    names = ("pq", "searched_pq", "validation_loss")
    epochs = [(0.4, 0.4, 0.3), (0.2, 0.5, 0.1), (0.3, 0.6, 0.2), (0.1, 0.1, 0.4)]
    values = iter({**dict(zip(names, epoch, strict=True)), "aji": 0.0, "dice": 0.0} for epoch in epochs)
    settings = replace(SETTINGS, choose_by=choose_by)
    state = fit(new_model(), tmp_path / "state.pt", settings, validate=lambda: next(values))
    assert state.best_step == best_epoch * STEPS_PER_EPOCH
    assert [tuple(row[name] for name in names) for row in state.history] == epochs


def test_best_checkpoint_is_loaded_at_the_end_and_patience_ends_training(tmp_path):
    net, seen = new_model(), []
    scores = iter([0.1, 0.5, 0.3, 0.2])

    def validate():
        seen.append(weights(net))
        return {"pq": next(scores), "aji": 0.0, "dice": 0.0}

    state = fit(net, tmp_path / "state.pt", replace(SETTINGS, patience=2), validate=validate)
    assert (state.best_step, state.step, state.stopped) == (6, 12, True)
    assert [entry["pq"] for entry in state.history] == [0.1, 0.5, 0.3, 0.2]
    assert all(torch.equal(a, b) for a, b in zip(seen[1], weights(net), strict=True))


def test_last_checkpoint_is_kept_if_all_scores_are_equal(tmp_path):
    assert fit(new_model(), tmp_path / "state.pt").best_step == 12


def test_state_of_other_parameters_is_refused(tmp_path):
    fit(new_model(), tmp_path / "state.pt")
    with pytest.raises(ValueError, match="belongs to other parameters; remove it"):
        fit(nn.Sequential(nn.Linear(5, 1)), tmp_path / "state.pt")


def test_damaged_state_is_kept_aside_and_training_starts_anew(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"torn")
    assert fit(new_model(), tmp_path / "state.pt").step == 12
    assert (tmp_path / "state.pt.damaged").read_bytes() == b"torn"


def test_saves_that_take_long_are_rarer(tmp_path, monkeypatch):
    """Each save takes 2 s of a clock that each step advances by 1 s: the next one is due after 40 s."""
    now, saved = [0.0], []

    def save(path, state, *_):
        saved.append(state.step)
        now[0] += 2.0

    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(saver, "save", save)
    settings = replace(SETTINGS, epochs=1, steps_per_epoch=100, save_every_s=5.0)

    def many(first_step: int) -> Iterator[Batch]:
        for _ in range(100):
            now[0] += 1.0
            yield Batch(torch.zeros(1, 5), torch.zeros(1, 1))

    fit(new_model(), tmp_path / "state.pt", settings, batches=many)
    assert saved == [6, 47, 88, 100]
