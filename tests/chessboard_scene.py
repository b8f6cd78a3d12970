"""Images of a chessboard as a camera with a bent lens sees it, ray by ray, for tests of calibration."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.app.calibrate_camera import Board
from handmesh.types import Camera

_PER_SQUARE = 48  # pixels of the board's own image


class Photographer:
    """Takes images of a board at given poses with a camera whose distortion is known."""

    def __init__(self, board: Board, camera: Camera, distortion: tuple[float, ...], finer: int = 2) -> None:
        """finer: rays along each side of a pixel."""
        self.board, self._finer = board, finer
        self._shape = (camera.height, camera.width)
        # Rays through the middle of each part of a pixel, in the units of the undistorted image.
        v, u = (np.mgrid[: finer * camera.height, : finer * camera.width] + 0.5) / finer - 0.5
        pixels = np.stack([u, v], axis=-1).reshape(-1, 1, 2).astype(np.float32)
        self._rays = cv2.undistortPoints(pixels, camera.K, np.array(distortion)).reshape(*u.shape, 2)
        squares = np.add.outer(np.arange(board.rows + 1), np.arange(board.columns + 1)) % 2
        texture = np.kron(squares, np.ones((_PER_SQUARE, _PER_SQUARE))) * 200 + 25
        self._texture = np.pad(texture, _PER_SQUARE, constant_values=225).astype(np.uint8)

    def render_scene(self, rotation_deg: tuple[float, float, float], at_m: tuple[float, float, float]) -> np.ndarray:
        """(H, W, 3) uint8, the board's middle at `at_m`, turned about the camera's x, y and z axes."""
        rotation = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
        middle = self.board.points_m.mean(0)
        # A point (x, y) of the board is seen at H (x, y, 1).
        homography = np.stack([rotation[:, 0], rotation[:, 1], at_m - rotation @ middle], axis=1)
        rays = np.concatenate([self._rays, np.ones_like(self._rays[..., :1])], axis=-1)
        on_board = rays @ np.linalg.inv(homography).T
        spot = on_board[..., :2] / on_board[..., 2:] / self.board.square_m  # in squares, from the first inner corner
        x, y = np.moveaxis((spot + 2) * _PER_SQUARE - 0.5, -1, 0).astype(np.float32)
        seen = cv2.remap(self._texture, x, y, cv2.INTER_LINEAR, borderValue=120)
        grey = cv2.resize(seen, self._shape[::-1], interpolation=cv2.INTER_AREA)
        return np.repeat(grey[..., None], 3, axis=2)
