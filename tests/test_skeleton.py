"""The permutations that are derived from names agree with the published numbers."""

from __future__ import annotations

from handmesh import skeleton


def test_keypoints_from_mano_with_tips():
    # FreiHAND's order from MANO's joints followed by the tips thumb, index, middle, ring, little
    published = [0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]
    assert list(skeleton.MANO_TO_KEYPOINTS) == published


def test_parents_are_mano_s():
    assert list(skeleton.PARENTS) == [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]


def test_levels_cover_the_fingers_parents_first():
    seen = {0}
    for level in skeleton.LEVELS:
        assert all(skeleton.PARENTS[joint] in seen for joint in level)
        seen |= set(level)
    assert seen == set(range(16))


def test_root_and_tips():
    assert skeleton.ROOT == 9
    assert skeleton.KEYPOINT_TIPS == (4, 8, 12, 16, 20)
    assert skeleton.BONES[0] == (0, 1) and len(skeleton.BONES) == 20


def test_anatomical_names_follow_the_bones():
    """Each finger's four points from the palm to its tip, in the order of KEYPOINTS."""
    assert [joint.value for joint in skeleton.Joint] == list(range(21))
    for joint, name in zip(skeleton.Joint, skeleton.KEYPOINTS, strict=True):
        assert joint.name.partition("_")[0].lower() == name.rstrip("1234")
    assert [skeleton.Joint[f"{finger.upper()}_TIP"] for finger in skeleton.FINGERS] == list(skeleton.KEYPOINT_TIPS)
