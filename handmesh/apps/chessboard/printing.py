"""The board on paper, in true size: PDF, SVG or PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw

from handmesh.apps.chessboard.board import Board
from handmesh.apps.lettering import font
from handmesh.runtime.media.pictures import OutputError, write_whole

Paper = Literal["a4", "a3", "letter"]

PAPERS_MM: dict[Paper, tuple[float, float]] = {"a4": (297.0, 210.0), "a3": (420.0, 297.0), "letter": (279.4, 215.9)}
"""Width and height of the sheets, lying."""

_DPI = 300
_FOOT_MM = 12.0  # room under the board for the ruler and the text
_RULER_MM = 100.0


def board_text(board: Board) -> str:
    """What stands under the board."""
    size = f"{board.columns}x{board.rows} inner corners, squares of {1000 * board.square_m:g} mm"
    return f"{size}. Print at 100 %, then measure: the line is {_RULER_MM:g} mm long."


def write_board(path: Path, board: Board, paper: Paper = "a4") -> None:
    """Write the sheet as the suffix says. Raises OutputError for another suffix, ValueError for a board too large."""
    origin_mm = _origin_mm(board, paper)
    suffix = path.suffix.lower()
    if suffix == ".svg":
        return write_whole(path, _svg(board, paper, origin_mm).encode())
    if suffix not in (".pdf", ".png"):
        raise OutputError(f"cannot write {path}: boards are written as .pdf, .svg, .png")
    data = io.BytesIO()
    sheet = _sheet(board, paper, origin_mm)
    if suffix == ".pdf":
        sheet.save(data, "PDF", resolution=_DPI, title="handmesh calibration board")
    else:
        sheet.save(data, "PNG", dpi=(_DPI, _DPI))
    write_whole(path, data.getvalue())


def _size_mm(board: Board) -> tuple[float, float]:
    return 1000 * board.square_m * (board.columns + 1), 1000 * board.square_m * (board.rows + 1)


def _origin_mm(board: Board, paper: Paper) -> tuple[float, float]:
    """The board's upper left corner on the sheet, which it is in the middle of. Raises ValueError."""
    (width, height), (wide, high) = _size_mm(board), PAPERS_MM[paper]
    left, top = (wide - width) / 2, (high - _FOOT_MM - height) / 2
    margin = 1000 * board.square_m / 3  # white round the board, without which it is not found
    if min(left, top) < max(4.0, min(margin, 8.0)):
        raise ValueError(
            f"a board of {width:g}x{height:g} mm does not fit {paper} of {wide:g}x{high:g} mm with a margin: "
            f"take smaller squares or another paper ({', '.join(PAPERS_MM)})"
        )
    return left, top


def _black_squares(board: Board) -> list[tuple[int, int]]:
    """(column, row) of each black square."""
    return [(x, y) for y in range(board.rows + 1) for x in range(board.columns + 1) if (x + y) % 2 == 0]


def _ruler_mm(board: Board, origin_mm: tuple[float, float]) -> tuple[float, float]:
    """Where the ruler begins."""
    return origin_mm[0], origin_mm[1] + _size_mm(board)[1] + 7.0


def _sheet(board: Board, paper: Paper, origin_mm: tuple[float, float]) -> Image.Image:
    """The sheet as black and white dots, `_DPI` an inch."""

    def fill(left_mm: float, top_mm: float, width_mm: float, height_mm: float) -> None:
        pen.rectangle((dots(left_mm), dots(top_mm), dots(left_mm + width_mm) - 1, dots(top_mm + height_mm) - 1), fill=0)

    def dots(mm: float) -> int:
        return round(mm * _DPI / 25.4)

    sheet = Image.new("1", tuple(dots(mm) for mm in PAPERS_MM[paper]), 1)
    pen = ImageDraw.Draw(sheet)
    side_mm = 1000 * board.square_m
    for column, row in _black_squares(board):
        fill(origin_mm[0] + column * side_mm, origin_mm[1] + row * side_mm, side_mm, side_mm)
    left, top = _ruler_mm(board, origin_mm)
    fill(left, top, _RULER_MM, 0.25)
    for end in (left, left + _RULER_MM - 0.25):
        fill(end, top - 1.5, 0.25, 3)
    pen.text((dots(left + _RULER_MM + 4), dots(top)), board_text(board), fill=0, font=font(dots(3.2)), anchor="lm")
    return sheet


def _svg(board: Board, paper: Paper, origin_mm: tuple[float, float]) -> str:
    """The sheet as a drawing whose unit is the millimetre."""
    wide, high = PAPERS_MM[paper]
    side_mm = 1000 * board.square_m
    squares = "".join(
        f"M{origin_mm[0] + x * side_mm:g} {origin_mm[1] + y * side_mm:g}h{side_mm:g}v{side_mm:g}h{-side_mm:g}z"
        for x, y in _black_squares(board)
    )
    left, top = _ruler_mm(board, origin_mm)
    ruler = f"M{left:g} {top - 1.5:g}v3M{left:g} {top:g}h{_RULER_MM:g}M{left + _RULER_MM:g} {top - 1.5:g}v3"
    place = f'x="{left + _RULER_MM + 4:g}" y="{top + 1:g}" font-family="sans-serif" font-size="3.2"'
    size = f'width="{wide:g}mm" height="{high:g}mm" viewBox="0 0 {wide:g} {high:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><rect width="100%" height="100%" fill="#fff"/>'
        f'<path d="{squares}"/><path d="{ruler}" stroke="#000" stroke-width="0.25" fill="none"/>'
        f"<text {place}>{board_text(board)}</text></svg>\n"
    )
