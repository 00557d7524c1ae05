"""Views of an input, and predictions that undo them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from data.samples import Placement
from models.predictions import Detections, Masks, Poses
from models.views import AUGMENTED, SINGLE, SIX_VIEWS, Pass, View, choose_passes, look
from tests.tiny_poses import CRANE
from utils.errors import UsageError

scales = st.floats(0.3, 1.7)
sides = st.integers(1, 12).map(lambda blocks: 32 * blocks)


def smooth_images(height: int, width: int) -> Tensor:
    """Return a pair of pictures without sharp edges, so that resizing and going back loses next to nothing."""
    rows = torch.linspace(0, 3, height)[:, None]
    columns = torch.linspace(0, 2, width)[None]
    planes = [torch.sin(rows + columns), torch.cos(rows - 2 * columns), rows * columns / 6]
    return torch.stack([torch.stack(planes), torch.stack(planes[::-1])])


def test_the_published_passes() -> None:
    assert [(each.scale, each.mirrored) for each in AUGMENTED] == [(1.0, False), (0.83, True), (0.67, False)]
    assert [each.leave_out for each in AUGMENTED] == ["coarsest", None, "finest"]
    assert [each.view((640, 480)).area for each in AUGMENTED] == [(0, 640, 0, 480), (0, 531, 0, 398), (0, 428, 0, 321)]


def test_the_six_views() -> None:
    looks = [(each.scale, each.mirrored) for each in SIX_VIEWS]
    assert sorted(looks) == [(scale, mirrored) for scale in (0.5, 1.0, 1.5) for mirrored in (False, True)]
    assert SIX_VIEWS[0].plain and all(each.apart and each.leave_out is None for each in SIX_VIEWS)
    assert [each.view((640, 480)).area for each in SIX_VIEWS[::2]] == [
        (0, 640, 0, 480), (0, 320, 0, 240), (0, 960, 0, 720)
    ]  # fmt: skip


def test_one_kind_of_augmentation_can_be_chosen() -> None:
    assert choose_passes(False, False) is SINGLE
    assert choose_passes(True, False) is AUGMENTED and choose_passes(False, True) is SIX_VIEWS
    with pytest.raises(UsageError, match=r"--augment .* --tta .* give one"):
        choose_passes(True, True)


def test_pictures_that_fill_their_input_fill_a_view_too() -> None:
    image = torch.rand(1, 3, 48, 80)
    for scale, size in ((0.83, (32, 64)), (0.67, (32, 48)), (1.5, (80, 128)), (0.1, (16, 16))):
        view = Pass(scale, mirrored=True).view((48, 80), whole=16)
        assert view.area == (0, size[0], 0, size[1])
        assert look(image, view, 16, torch.zeros(3)).shape[-2:] == size
        # The corners of the view are those of the picture, left and right exchanged.
        seen = Detections(torch.tensor([[[0.0, 0.0, size[1] / 2, size[0]]]]), torch.ones(1, 1, 1))
        assert seen.undo(view).boxes.flatten().tolist() == pytest.approx([40, 0, 80, 48])


def test_half_the_size_is_the_mean_of_four_pixels() -> None:
    images = torch.rand(1, 3, 64, 96)
    seen = look(images, Pass(0.5).view((64, 96)), 16, torch.zeros(3))
    torch.testing.assert_close(seen[..., :32, :48], F.avg_pool2d(images, 2))


def test_the_padding_is_grey_below_and_to_the_right() -> None:
    images = torch.rand(2, 3, 64, 96)
    grey = torch.tensor([0.1, 0.2, 0.3])
    seen = look(images, Pass(0.67).view((64, 96)), 32, grey)
    assert seen.shape == (2, 3, 64, 64)
    expected = F.interpolate(images, (42, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen[..., :42, :64], expected)
    assert torch.equal(seen[:, :, 42:], grey.view(1, 3, 1, 1).expand(2, 3, 22, 64))
    assert seen.is_contiguous(memory_format=torch.channels_last)


def test_a_mirrored_view_is_padded_on_the_right_all_the_same() -> None:
    images = torch.zeros(1, 1, 32, 64)
    images[..., :8] = 1
    seen = look(images, Pass(0.5, mirrored=True).view((32, 64)), 32, torch.tensor([9.0]))
    assert seen.shape == (1, 1, 32, 32)
    assert torch.equal(seen[0, 0, 0], torch.tensor([0.0] * 28 + [1.0] * 4))
    assert (seen[0, 0, 16:] == 9).all()


@given(height=sides, width=sides, scale=scales, mirrored=st.booleans(), data=st.data())
def test_boxes_come_back(height: int, width: int, scale: float, mirrored: bool, data: st.DataObject) -> None:
    view = Pass(scale, mirrored).view((height, width))
    corners = data.draw(st.lists(st.floats(-20, 500), min_size=4, max_size=4))
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    rows, columns = view.area[1], view.area[3]
    seen_x = [(width - x if mirrored else x) * columns / width for x in (x1, x2)]
    seen = [min(seen_x), y1 * rows / height, max(seen_x), y2 * rows / height]
    found = Detections(torch.tensor([[seen]]), torch.rand(1, 1, 3), torch.rand(1, 1))
    back = found.undo(view)
    np.testing.assert_allclose(back.boxes[0, 0], [x1, y1, x2, y2], atol=1e-2)
    assert torch.equal(back.scores, found.scores) and torch.equal(back.objectness, found.objectness)


def test_boxes_come_back_from_a_crop() -> None:
    crop = View(Placement(height=100, width=200, scale_x=2.0, scale_y=1.0, left=-50.0, top=-10.0), mirrored=True)
    seen = Detections(torch.tensor([[[0.0, 0.0, 30.0, 40.0]]]), torch.rand(1, 1, 2))
    assert seen.undo(crop).boxes.tolist() == [[[160.0, 10.0, 175.0, 50.0]]]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.83, 0.67, 1.3])
def test_masks_come_back(scale: float, mirrored: bool) -> None:
    images = smooth_images(160, 96)
    view = Pass(scale, mirrored).view((160, 96))
    seen = look(images, view, 32, torch.full((3,), 99.0))
    back = Masks(seen).undo(view).logits
    assert back.shape == images.shape
    # At the rim resizing repeats pixels. Inside, a shift by half a pixel would make 0.02.
    wrong = (back - images)[..., 3:-3, 3:-3].abs().max()
    assert wrong < (1e-6 if scale == 1 else 2e-3)


@given(height=sides, width=sides, scale=scales, mirrored=st.booleans(), data=st.data())
def test_keypoints_come_back_and_trade_sides(
    height: int, width: int, scale: float, mirrored: bool, data: st.DataObject
) -> None:
    """What lies left in the input is seen right in a mirrored view, and so the head calls it by its partner's name."""
    view = Pass(scale, mirrored).view((height, width))
    values = data.draw(st.lists(st.floats(-50, 500), min_size=10, max_size=10))
    points = np.array(values).reshape(5, 2)
    rows, columns = view.area[1], view.area[3]
    seen = np.column_stack([width - points[:, 0] if mirrored else points[:, 0], points[:, 1], np.arange(5) / 5])
    seen[:, 0] *= columns / width
    seen[:, 1] *= rows / height
    if mirrored:
        seen = seen[list(CRANE.flip)]
    found = poses_of(torch.from_numpy(seen)[None, None])
    back = found.undo(view)
    assert isinstance(back, Poses) and back.spec is CRANE
    np.testing.assert_allclose(back.keypoints[0, 0, :, :2], points, atol=1e-6)
    # The scores were numbered before the partners changed places, so they say who came back where.
    assert (back.keypoints[0, 0, :, 2] * 5).round().tolist() == [0, 1, 2, 3, 4]
    as_boxes = Detections(found.boxes, found.scores, found.objectness).undo(view)
    assert torch.equal(back.boxes, as_boxes.boxes) and torch.equal(back.scores, found.scores)


def poses_of(keypoints: torch.Tensor) -> Poses:
    batch, count = keypoints.shape[:2]
    return Poses(
        torch.rand(batch, count, 4),
        torch.rand(batch, count, 1),
        torch.rand(batch, count),
        keypoints=keypoints,
        spec=CRANE,
    )


def test_poses_are_put_side_by_side() -> None:
    parts = [poses_of(torch.rand(2, count, 5, 3)) for count in (4, 6)]
    both = Poses.combine(parts)
    assert isinstance(both, Poses) and both.spec is CRANE
    for name in ("boxes", "scores", "objectness", "keypoints"):
        assert torch.equal(getattr(both, name), torch.cat([getattr(part, name) for part in parts], 1))
    parts[1].objectness = None
    mixed = Poses.combine(parts)
    assert mixed.objectness is None and mixed.keypoints.shape == (2, 10, 5, 3)
    torch.testing.assert_close(mixed.scores[:, :4], parts[0].scores * parts[0].objectness[..., None])


def test_candidates_remember_their_view() -> None:
    parts = [poses_of(torch.rand(2, count, 5, 3)).of_view(view) for view, count in enumerate((4, 6))]
    both = Poses.combine(parts)
    assert isinstance(parts[0], Poses) and both.views.tolist() == [0] * 4 + [1] * 6
    parts[0].objectness = None
    assert Poses.combine(parts).views.tolist() == both.views.tolist()
    parts[0].views = None
    assert Poses.combine(parts).views is None
    masks = Masks(torch.rand(1, 2, 3, 3))
    assert masks.of_view(3) is masks


def random_detections(count: int, objectness: bool = True) -> Detections:
    return Detections(torch.rand(2, count, 4), torch.rand(2, count, 3), torch.rand(2, count) if objectness else None)


def test_boxes_are_put_side_by_side() -> None:
    parts = [random_detections(4), random_detections(6)]
    both = Detections.combine(parts)
    for name in ("boxes", "scores", "objectness"):
        assert torch.equal(getattr(both, name), torch.cat([getattr(part, name) for part in parts], 1))
    assert Detections.combine([random_detections(4, False), random_detections(6, False)]).objectness is None


def test_confidences_stay_where_only_one_part_tells_objectness() -> None:
    told, plain = random_detections(4), random_detections(6, False)
    both = Detections.combine([told, plain])
    assert both.objectness is None
    torch.testing.assert_close(both.scores[:, :4], told.scores * told.objectness[..., None])
    assert torch.equal(both.scores[:, 4:], plain.scores)


def test_masks_are_averaged_as_probabilities() -> None:
    parts = [Masks(torch.randn(2, 5, 4, 6) * size) for size in (1, 10)]
    expected = torch.stack([part.logits.softmax(1) for part in parts]).mean(0)
    before = [part.logits.clone() for part in parts]
    torch.testing.assert_close(Masks.combine(parts).logits.softmax(1), expected)
    assert all(torch.equal(part.logits, old) for part, old in zip(parts, before, strict=True))


def test_one_loud_mask_does_not_outvote_two() -> None:
    quiet, loud = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 500.0]).view(1, 2, 1, 1)
    together = Masks.combine([Masks(quiet), Masks(loud), Masks(quiet)]).logits
    assert torch.isfinite(together).all()
    assert together.argmax(1).item() == 0
