"""Recorded clips: every hand of every frame with all its parameters, as files that can be read back."""

from handmesh.runtime.media.clips.clip import Clip, ClipError, FrameHead
from handmesh.runtime.media.clips.files import read_clip, save_clip, save_rigged_hand

__all__ = ["Clip", "ClipError", "FrameHead", "read_clip", "save_clip", "save_rigged_hand"]
