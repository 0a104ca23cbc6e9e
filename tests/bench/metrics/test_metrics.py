from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from bench import metrics
from bench.metrics import assignment
from bench.metrics.overlaps import overlaps

GOLDEN = Path(__file__).parents[3].parent / "shared" / "golden"
RATIOS = ("dice", "aji", "aji_plus", "pq", "sq", "dq", "f1", "precision", "recall")


@pytest.fixture(scope="module")
def golden():
    if not (GOLDEN / "metrics_public.json").exists():
        pytest.skip("the golden values (../shared/golden) are not beside this checkout")
    return json.loads((GOLDEN / "metrics_public.json").read_text()), np.load(GOLDEN / "metrics_public.npz")


def a_map(*rows: str) -> np.ndarray:
    return np.array([[int(c) for c in row] for row in rows])


def reference(true: np.ndarray, pred: np.ndarray) -> dict[str, float]:
    """The definitions written out with sets of pixels; slow, and independent of the table of overlaps."""

    def nuclei(label_map):
        return {i: set(np.flatnonzero(label_map == i).tolist()) for i in np.unique(label_map).tolist() if i}

    t, p = nuclei(true), nuclei(pred)
    if not t or not p:
        return dict.fromkeys(RATIOS, float(len(t) == len(p)))
    iou = np.array([[len(a & b) / len(a | b) for b in p.values()] for a in t.values()])
    names_t, names_p = list(t), list(p)

    def ratio(pairs):
        numerator = sum(len(t[a] & p[b]) for a, b in pairs)
        denominator = sum(len(t[a] | p[b]) for a, b in pairs)
        denominator += sum(len(t[a]) for a in t if a not in {a for a, _ in pairs})
        denominator += sum(len(p[b]) for b in p if b not in {b for _, b in pairs})
        return numerator / denominator

    greedy = []
    for a in t:
        overlapping = [(len(t[a] & p[b]) / len(t[a] | p[b]), len(t[a] & p[b]), -b) for b in p if t[a] & p[b]]
        if overlapping:
            greedy.append((a, -max(overlapping)[2]))
    rows, columns = linear_sum_assignment(iou, maximize=True)
    matches = [(len(a & b), len(a | b)) for a in t.values() for b in p.values() if 2 * len(a & b) > len(a | b)]
    tp = len(matches)
    sq = sum(i / u for i, u in matches) / tp if tp else 0.0
    dq = tp / (tp + (len(t) - tp) / 2 + (len(p) - tp) / 2)
    all_t, all_p = set().union(*t.values()), set().union(*p.values())
    return {
        "dice": 2 * len(all_t & all_p) / (len(all_t) + len(all_p)),
        "aji": ratio(greedy),
        "aji_plus": ratio(
            [(names_t[r], names_p[c]) for r, c in zip(rows, columns, strict=True) if t[names_t[r]] & p[names_p[c]]]
        ),
        "assigned_iou": iou[rows, columns].sum(),
        "pq": dq * sq,
        "sq": sq,
        "dq": dq,
        "f1": dq,
        "precision": tp / len(p),
        "recall": tp / len(t),
    }


def test_a_case_by_hand():
    true = a_map("110022", "110022", "000000", "330000")
    pred = a_map("110000", "100022", "000022", "000040")
    # Nucleus 1: 3 of 4 px, IoU 3/4. Nucleus 2: 2 of 4 px, union 6, IoU 1/3. Nucleus 3 (2 px) is missed,
    # prediction 4 (1 px) is false.
    score = metrics.score(true, pred)
    assert score["dice"] == pytest.approx(2 * 5 / (10 + 8), abs=1e-15)
    assert score["aji"] == pytest.approx(5 / (4 + 6 + 2 + 1), abs=1e-15)
    assert score["aji_plus"] == pytest.approx(5 / 13, abs=1e-15)
    assert (score["tp"], score["n_true"], score["n_pred"]) == (1, 3, 3)
    assert score["sq"] == 0.75 and score["iou_sum"] == 0.75
    assert score["dq"] == score["f1"] == score["precision"] == score["recall"] == pytest.approx(1 / 3)
    assert score["pq"] == pytest.approx(0.25)


def test_a_prediction_may_be_used_twice_in_aji_and_once_in_aji_plus():
    true, pred = a_map("1122"), a_map("1111")
    score = metrics.score(true, pred)
    assert score["aji"] == 4 / 8  # both nuclei take it: (2 + 2) / (4 + 4)
    assert score["aji_plus"] == 2 / 6  # one takes it, the other's 2 px are alone
    assert score["pq"] == 0.0  # exactly half is no match


def test_iou_of_exactly_half_does_not_match_and_one_pixel_more_does():
    assert metrics.score(a_map("1100"), a_map("1000"))["tp"] == 0
    assert metrics.score(a_map("111"), a_map("110"))["tp"] == 1


def test_equal_iou_goes_to_the_larger_intersection():
    # Prediction 1 has IoU 2/6, prediction 2 has 3/9. Taking the second leaves 2 px alone: 3 / (9 + 2).
    true, pred = a_map("111111000"), a_map("112220222")
    assert metrics.score(true, pred)["aji"] == pytest.approx(3 / 11, abs=1e-15)


@pytest.mark.parametrize(("left", "right", "aji"), [(1, 2, 3 / 11), (2, 1, 3 / 8)])
def test_equal_iou_and_intersection_goes_to_the_lower_id(left, right, aji):
    # Nucleus 1 ties between both predictions; nucleus 3 has the left one only. So the left one is taken
    # twice if its id is the lower: 3 / (5 + 3 + 3 alone) instead of 3 / (5 + 3).
    true, pred = a_map("311110"), np.array([[left, left, left, right, right, right]])
    assert metrics.score(true, pred)["aji"] == pytest.approx(aji, abs=1e-15)


def test_an_object_may_lie_in_pieces():
    assert metrics.score(a_map("101"), a_map("202"))["pq"] == 1.0
    assert metrics.score(a_map("101"), a_map("102"))["n_pred"] == 2


@pytest.mark.parametrize(("true", "pred", "value"), [("00", "00", 1.0), ("11", "00", 0.0), ("00", "11", 0.0)])
def test_empty_maps(true, pred, value):
    score = metrics.score(a_map(true), a_map(pred))
    assert [score[name] for name in RATIOS] == [value] * len(RATIOS)
    assert (score["tp"], score["iou_sum"]) == (0, 0)


def test_a_map_without_pixels_is_empty():
    assert metrics.score(np.zeros((0, 4), int), np.zeros((0, 4), int))["pq"] == 1.0


def test_golden_pairs_within_1e_9(golden):
    values, maps = golden
    assert len(values["pairs"]) == 25
    for pair in values["pairs"]:
        true, pred = maps[f"{pair['name']}__gt"], maps[f"{pair['name']}__pred"]
        score, swapped = metrics.score(true, pred), metrics.score(pred, true)
        expected = dict(pair["expected"])
        assert swapped["aji"] == pytest.approx(expected.pop("aji_args_swapped"), abs=1e-9), pair["name"]
        for name, value in expected.items():
            assert score[name] == pytest.approx(value, abs=1e-9), (pair["name"], name)
        assert score["tp"] == pair["integers"]["tp"], pair["name"]
        assert score["n_true"] == pair["integers"]["n_gt"] and score["n_pred"] == pair["integers"]["n_pred"]
        assert score["iou_sum"] == pytest.approx(pair["sum_iou"], abs=1e-9)


def test_pooling_the_golden_pairs(golden):
    values, maps = golden
    pooled = metrics.pool(metrics.score(maps[f"{p['name']}__gt"], maps[f"{p['name']}__pred"]) for p in values["pairs"])
    assert pooled["pooled_pq"] == pytest.approx(values["dataset"]["pooled"]["pq"], abs=1e-9)
    for name, value in values["dataset"]["weighted_by_n_gt"].items():
        assert pooled[f"weighted_{name}"] == pytest.approx(value, abs=1e-9)
    assert (pooled["n_empty_both"], pooled["n_images"]) == (1, 25)


def test_pooling_by_hand():
    perfect, missed = (metrics.score(a_map("1122"), a_map(pred), aji_plus=False) for pred in ("1122", "0000"))
    pooled = metrics.pool([perfect, perfect, missed])
    assert pooled["pooled_dq"] == 2 * 4 / (6 + 4) and pooled["pooled_sq"] == 1.0
    assert pooled["weighted_pq"] == pytest.approx(4 / 6)
    assert "weighted_aji_plus" not in pooled


def test_pooling_images_without_nuclei():
    pooled = metrics.pool([metrics.score(a_map("00"), a_map("00"))] * 2)
    assert pooled["pooled_pq"] == 1.0 and pooled["weighted_pq"] is None and pooled["n_empty_both"] == 2
    assert metrics.pool([metrics.score(a_map("11"), a_map("00"))])["pooled_pq"] == 0.0
    spurious = metrics.pool([metrics.score(a_map("00"), a_map(pred)) for pred in ("00", "11", "12")])
    assert (spurious["n_empty_both"], spurious["n_empty_true"]) == (1, 3)
    with pytest.raises(ValueError, match="no scores to pool"):
        metrics.pool([])


def test_aji_plus_is_absent_when_not_asked_for():
    score = metrics.score(a_map("1"), a_map("1"), aji_plus=False)
    assert set(score) == (set(RATIOS) - {"aji_plus"}) | {"n_true", "n_pred", "tp", "iou_sum"}


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">u2"])
def test_every_integer_type(dtype):
    true, pred = a_map("1100", "0022"), a_map("1110", "0020")
    assert metrics.score(true.astype(dtype), pred.astype(dtype)) == metrics.score(true, pred)


@pytest.mark.parametrize("top", [65535, 2**31, 2**63 - 1])
def test_large_ids_with_gaps(top):
    true, pred = a_map("1100", "0022").astype(np.uint64), a_map("1110", "0020").astype(np.uint64)
    large_true, large_pred = true.copy(), pred.copy()
    large_true[true == 2], large_pred[pred == 2], large_pred[pred == 1] = top, top, top - 2
    assert metrics.score(large_true, large_pred) == metrics.score(true, pred)


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2), int), "the true map is float64; a label map holds integers"),
        (np.zeros((2, 2), int), np.zeros((2, 2), bool), "the predicted map is bool"),
        (np.zeros((2, 2), int), np.zeros((2, 3), int), r"true map is \(2, 2\) and the predicted one \(2, 3\)"),
        (np.zeros(4, int), np.zeros(4, int), r"shape \(4,\); a label map is \(h, w\)"),
        (np.zeros((2, 2), int), np.full((2, 2), -3), "the predicted map holds the id -3"),
    ],
)
def test_what_is_no_pair_of_label_maps(true, pred, message):
    with pytest.raises(ValueError, match=message):
        metrics.score(true, pred)


def test_a_fragmented_prediction_needs_no_dense_matrix():
    pred = np.arange(1, 512 * 512 + 1).reshape(512, 512)  # 256 × 262,144 entries would take 512 MiB
    true = np.kron(np.arange(1, 257).reshape(16, 16), np.ones((32, 32), int))
    score = metrics.score(true, pred)
    assert score["aji_plus"] == pytest.approx(256 / (2 * 512**2 - 256)) and score["dice"] == 1.0


def label_maps(side: int = 6, ids: int = 4):
    return hnp.arrays(np.int32, (side, side), elements=st.integers(0, ids))


@settings(max_examples=150, deadline=None)
@given(label_maps(), label_maps())
def test_agrees_with_the_definitions(true, pred):
    score, expected = metrics.score(true, pred), reference(true, pred)
    for name in (*RATIOS[:2], *RATIOS[3:]):
        assert score[name] == pytest.approx(expected[name], abs=1e-12), name
    # Ties leave the assignment open, not its summed IoU.
    table = overlaps(true, pred)
    union = table.true_area[table.true] + table.pred_area[table.pred] - table.inter
    assigned = (table.inter / union)[metrics._one_to_one(table, union)].sum() if len(union) else 0.0
    assert assigned == pytest.approx(expected.get("assigned_iou", 0.0), abs=1e-5)


@settings(max_examples=150, deadline=None)
@given(label_maps(side=7, ids=9), label_maps(side=7, ids=9))
def test_certain_pairs_first_and_clusters_alone_give_the_same_aji_plus(true, pred):
    table = overlaps(true, pred)
    union = table.true_area[table.true] + table.pred_area[table.pred] - table.inter
    weight = table.inter / (union + 1e-6)
    chosen = assignment.best_assignment(table.true, table.pred, weight)
    plain = assignment.solved_by_cluster(table.true, table.pred, weight)
    assert weight[chosen].sum() == pytest.approx(weight[plain].sum(), abs=1e-12)
    assert len(set(table.true[chosen])) == len(set(table.pred[chosen])) == len(chosen)
    if len(union):
        values = [metrics._aji(table, union, pairs) for pairs in (chosen, plain)]
        assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_chain_in_which_two_weak_pairs_outweigh_a_strong_one():
    # Nucleus 0 with predictions 0 and 1, nucleus 1 with prediction 1 alone: 0.5 + 0.4 is more than 0.6.
    true, pred = np.array([0, 0, 1]), np.array([0, 1, 1])
    chosen = assignment.best_assignment(true, pred, np.array([0.5, 0.6, 0.4]))
    assert sorted(chosen.tolist()) == [0, 2]


def test_chain_longer_than_the_rounds_is_solved_to_its_end():
    # Each pair outweighs the one before it, so a round is certain of the last pair alone: every other one is taken.
    true, pred = np.arange(1, 81) // 2, np.arange(80) // 2
    chosen = assignment.best_assignment(true, pred, np.linspace(0.1, 0.9, 80))
    assert sorted(chosen.tolist()) == list(range(1, 80, 2))


@settings(max_examples=100, deadline=None)
@given(label_maps(side=5), label_maps(side=5))
def test_invariants(true, pred):
    score = metrics.score(true, pred)
    assert all(0.0 <= score[name] <= 1.0 for name in RATIOS)
    jaccard = score["dice"] / (2 - score["dice"])
    # Intersections of the pairs are at most that of the foregrounds, unions together at least theirs.
    assert score["aji"] <= jaccard + 1e-12 and score["aji_plus"] <= jaccard + 1e-12
    assert score["pq"] == pytest.approx(score["dq"] * score["sq"], abs=1e-15)
    assert score["pq"] <= score["dq"] and score["f1"] == score["dq"]
    assert score["sq"] == 0.0 or score["sq"] > 0.5
    assert (
        min(score["precision"], score["recall"])
        <= score["f1"] + 1e-12
        <= max(score["precision"], score["recall"]) + 2e-12
    )
    assert score["tp"] <= min(score["n_true"], score["n_pred"])
    if score["tp"]:
        assert score["iou_sum"] == pytest.approx(score["sq"] * score["tp"])


@settings(max_examples=60, deadline=None)
@given(label_maps())
def test_a_map_matches_itself(label_map):
    assert [metrics.score(label_map, label_map)[name] for name in RATIOS] == [1.0] * len(RATIOS)


@settings(max_examples=60, deadline=None)
@given(label_maps(), label_maps(), st.permutations([1, 2, 3, 4]))
def test_numbering_does_not_matter(true, pred, order):
    score = metrics.score(true, pred)
    # In the same order everything stays; in another, exact ties may fall otherwise, which AJI alone feels.
    assert metrics.score(true * 1000, pred * 77_777) == score
    renumbered = metrics.score(np.array([0, *order])[true], np.array([0, *order])[pred])
    for name in ("dice", "pq", "sq", "dq", "precision", "recall", "n_true", "n_pred", "tp"):
        assert renumbered[name] == pytest.approx(score[name], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(label_maps(), label_maps())
def test_where_the_pixels_lie_does_not_matter(true, pred):
    score = metrics.score(true, pred)
    assert metrics.score(true.T, pred.T) == score
    assert metrics.score(true[::-1, ::2], pred[::-1, ::2]) == metrics.score(true[:, ::2], pred[:, ::2])
    assert metrics.score(np.pad(true, 3), np.pad(pred, 3)) == score


@settings(max_examples=60, deadline=None)
@given(label_maps(), label_maps())
def test_swapping_the_maps_swaps_precision_and_recall(true, pred):
    score, swapped = metrics.score(true, pred), metrics.score(pred, true)
    for name, other in (("dice", "dice"), ("pq", "pq"), ("precision", "recall"), ("n_true", "n_pred")):
        assert score[name] == pytest.approx(swapped[other], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(label_maps(side=8, ids=6), label_maps(side=8, ids=6))
def test_dense_and_sorted_tables_agree(true, pred):
    assert metrics.score(true * 100_003, pred * 90_001) == metrics.score(true, pred)
