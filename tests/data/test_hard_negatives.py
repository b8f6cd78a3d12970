import numpy as np
import pytest

from handmesh.data.cutouts import CutoutSet
from handmesh.data.detection import Scene, SceneHand, Size
from handmesh.data.mixture import HardNegativeSource, mine, write_hard_negatives
from handmesh.detection import Detection
from handmesh.types import Box

SIZE = Size(160, 120)
HAND = SceneHand("right", np.linspace((30, 40), (60, 70), 21), np.ones(21))


class OneScene:
    def draw(self, size, rng):
        image = np.full((size.height, size.width, 3), 90, np.uint8)
        image[80:100, 110:130] = (200, 30, 30)
        return Scene(image, (HAND,), (np.array([[130.0, 0], [160, 0], [160, 40], [130, 40]]),))


def says(*boxes):
    return lambda image: [Detection(box, "right", 0.4) for box in boxes]


def mined(*boxes):
    return [position for positions in mine(OneScene(), SIZE, 1, says(*boxes), seed=0) for position in positions]


def test_only_what_is_clear_of_hands_and_doubt_is_a_hard_negative():
    on_the_hand, in_doubt = Box((45, 55), 30, 0.3), Box((145, 20), 20, 0.0)
    assert mined(on_the_hand, in_doubt) == []
    (position,) = mined(on_the_hand, Box((120, 90), 20, 0.3), in_doubt)
    assert position.score == 0.4 and position.box.angle_rad == 0.3


def test_the_position_is_in_the_middle_of_its_image():
    (position,) = mined(Box((120, 90), 20, 0.0))
    middle = position.image[90:110, 90:110]
    assert middle.shape == (20, 20, 3) and np.abs(middle.astype(int) - (200, 30, 30)).max() < 5
    assert np.abs(position.image[:8].astype(int) - 90).max() < 5


def test_the_source_draws_them_as_no_hands(tmp_path):
    positions = mined(Box((120, 90), 20, 0.7))
    assert write_hard_negatives(tmp_path / "mined", positions) == 1
    item = HardNegativeSource(tmp_path / "mined").draw(np.random.default_rng(0))
    assert item.joints_px is None
    assert item.box.angle_rad == pytest.approx(0.7) and item.box.size_px == pytest.approx(positions[0].box.size_px)
    assert np.abs(item.image.astype(int) - positions[0].image).mean() < 3


def test_a_folder_without_a_list_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="hard-negatives"):
        HardNegativeSource(tmp_path)


@pytest.mark.parametrize("open_list", [HardNegativeSource, CutoutSet])
@pytest.mark.parametrize("text", ["[" * 100_000, '[{"file": '])
def test_a_damaged_list_is_named(tmp_path, open_list, text):
    for name in ("hard_negatives.json", "cutouts.json"):
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"(hard_negatives|cutouts)\.json (is not JSON|cannot be read)"):
        open_list(tmp_path)
