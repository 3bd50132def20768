"""Run a large image through a network of a fixed size, in overlapping tiles whose outputs are blended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .checks import check_positive

Run = Callable[[np.ndarray], Any]


def predict_tiled(
    run: Any,
    image: np.ndarray,
    tile: tuple[int, int],
    overlap: int | None = None,
    scale: int = 1,
    multiple: int | None = None,
    batch: int = 8,
    finish: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Run a network over an image tile by tile.

    Neighboring tiles share at least ``overlap`` pixels. A quarter of these at each end has weight zero, because there a
    tile sees its own border instead of the image; in between, the outputs are blended with a half cosine, and the
    weights of all tiles add up to one everywhere. A network whose outputs depend on pixels less than a quarter of the
    overlap away therefore returns the same as for the whole image, up to the border of that image.

    Args:
        run: float32 (N, h, w, C) -> (N, scale*h, scale*w, K): a Keras model, or a function.
        image: (H, W, C) of any size. An image smaller than a tile is mirrored at the bottom and right; the output is
            cropped.
        tile: (h, w) in pixels, the input size of ``run``.
        overlap: Least number of pixels that neighboring tiles share; None: a quarter of the shorter side, or less if
            the network's grid requires it.
        scale: Side of the output over that of the input.
        multiple: Tiles begin at multiples of this number of pixels: the stride of the network's coarsest grid, so that
            every tile is sampled in the phase of the whole image. The image is mirrored at the bottom and right to the
            end of the last tile. None: the grid of the Keras model ``run`` (or whose method ``run`` is, as
            ``model.predict``), or a function's attribute ``sampling_grid``, (rows, columns); without these,
            ``largest_multiple``.
        batch: Largest number of tiles per call of ``run``.
        finish: Applied to strips of finished rows (rows, scale*W, K), for example to take the top class, so that only
            one row of tiles is in memory with all channels. None: no change.

    Returns:
        (scale*H, scale*W, K) float32, or the result of ``finish``.

    Raises:
        ValueError: An argument out of its range, or an output of ``run`` of another size.
    """
    height, width = check_positive("tile height", tile[0]), check_positive("tile width", tile[1])
    for name, value in (("scale", scale), ("multiple", multiple), ("batch", batch)):
        if value is not None:
            check_positive(name, value)
    if multiple is None:
        multiple, overlap = grid_multiple(run, tile, overlap)
    overlap = min(tile) // 4 if overlap is None else overlap
    if hasattr(run, "compute_output_shape"):
        run = _outputs_of(run)
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, C). Received: shape={image.shape}")
    if overlap < 0 or min(tile) - overlap < multiple:
        raise ValueError(
            "overlap must be at least 0 and at least one multiple smaller than the tile. "
            f"Received: overlap={overlap}, tile={tuple(tile)}, multiple={multiple}"
        )
    rows = _starts(image.shape[0], height, overlap, multiple)
    columns = _starts(image.shape[1], width, overlap, multiple)
    down, across = _weights(rows, height, scale), _weights(columns, width, scale)
    beyond = [(rows[-1] + height - image.shape[0]), (columns[-1] + width - image.shape[1])]
    padded = np.pad(image, [(0, beyond[0]), (0, beyond[1]), (0, 0)], mode="symmetric").astype(np.float32, copy=False)
    wide, strips = scale * image.shape[1], []
    band = np.zeros((scale * height, scale * padded.shape[1], 0), np.float32)  # sum over the tiles that reach into it
    for index, top in enumerate(rows):
        for left, place, output in _outputs(run, padded[top : top + height], columns, width, batch):
            if output.shape[:2] != (scale * height, scale * width):
                raise ValueError(
                    f"run must return tiles of {scale * height} x {scale * width} pixels. Received: {output.shape}"
                )
            if not band.size:  # the first output gives K
                band = np.zeros((*band.shape[:2], output.shape[2]), np.float32)
            weight = down[index][:, None, None] * across[place][None, :, None]
            band[:, scale * left : scale * (left + width)] += weight * output
        # Later tiles do not overlap rows above the next row of tiles.
        done = scale * ((rows[index + 1] if index + 1 < len(rows) else image.shape[0]) - top)
        strip = band[:done, :wide]
        strips.append(strip.copy() if finish is None else finish(strip))
        rest = band[done:].copy()
        band[: len(rest)], band[len(rest) :] = rest, 0.0
    return np.concatenate(strips)


def grid_multiple(run: Any, tile: tuple[int, int], overlap: int | None) -> tuple[int, int]:
    """Return (multiple at which tiles begin, overlap) of a network; see ``predict_tiled``.

    Args:
        run: A Keras model, a method of one, or any other function, perhaps with an attribute ``sampling_grid``.
        tile: (h, w) in pixels.
        overlap: In pixels; None: a quarter of the shorter side, or less if the network's grid requires it.

    Raises:
        ValueError: Tiles without their overlap are smaller than the network's grid.
    """
    quarter = min(tile) // 4 if overlap is None else overlap
    model = run if hasattr(run, "compute_output_shape") else getattr(run, "__self__", None)
    grid = getattr(run, "sampling_grid", None)
    if grid is None and hasattr(model, "compute_output_shape"):
        from .sampling_grid import sampling_grid

        grid = sampling_grid(model)
    if grid is None:
        return largest_multiple(tile, quarter), quarter
    multiple = math.lcm(*grid)
    if min(tile) < multiple and getattr(model, "input_shape", (None,) * 4)[1:3] == tuple(tile):
        # The network was built for images smaller than its grid, and pads them: its tiles cannot be in phase.
        return largest_multiple(tile, quarter), quarter
    room = min(tile) - multiple
    if room < 0 or (overlap is not None and overlap > room):
        raise ValueError(
            "A tile without its overlap must be at least as large as the network's sampling grid. "
            f"Received: tile={tuple(tile)}, overlap={overlap}, grid of {multiple} pixels"
        )
    return multiple, min(quarter, room)


def _outputs_of(model: Any) -> Run:
    import keras

    return lambda tiles: keras.ops.convert_to_numpy(model(tiles, training=False))


def largest_multiple(tile: tuple[int, int], overlap: int, most: int = 64) -> int:
    """Return the largest power of two, up to ``most``, on whose multiples tiles of this size can be placed.

    For networks with an unknown grid; the overlap is kept. 64 is the coarsest grid of the published networks (four
    levels after a stem of stride 4).
    """
    multiple = most
    while multiple > 1 and min(tile) - overlap < multiple:
        multiple //= 2
    return multiple


def _outputs(
    run: Run, band: np.ndarray, columns: list[int], width: int, batch: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (left edge, number of the column, output) of every tile of one row."""
    for start in range(0, len(columns), batch):
        lefts = columns[start : start + batch]
        found = np.asarray(run(np.stack([band[:, left : left + width] for left in lefts])))
        if found.ndim != 4 or len(found) != len(lefts):
            raise ValueError(f"run must return (N, rows, columns, K) for {len(lefts)} tiles. Received: {found.shape}")
        for place, (left, output) in enumerate(zip(lefts, found, strict=True), start):
            yield left, place, output


def _starts(side: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """Return the starts of the tiles of one axis: even, on multiples, the last tile ending at or beyond ``side``."""
    last = max(0, -(-(side - tile) // multiple))  # here and below in multiples
    step = (tile - overlap) // multiple
    gaps = -(-last // step)
    # As few tiles as the overlap allows; spread evenly, they share at least ``overlap``, and no gap exceeds ``step``.
    return [multiple * (-(-index * last // gaps)) for index in range(gaps + 1)] if gaps else [0]


def _weights(starts: list[int], tile: int, scale: int) -> list[np.ndarray]:
    """Return the weight of each tile of one axis at each output, (scale*tile,); the sum over the tiles is one."""
    position = (np.arange(scale * tile) + 0.5) / scale
    weights = []
    for index, start in enumerate(starts):
        weight = np.ones(scale * tile)
        if index:
            weight *= _rise(position, starts[index - 1] + tile - start)
        if index + 1 < len(starts):
            weight *= _rise(tile - position, start + tile - starts[index + 1])
        weights.append(weight)
    total = np.zeros(scale * (starts[-1] + tile))
    for start, weight in zip(starts, weights, strict=True):
        total[scale * start : scale * (start + tile)] += weight
    return [
        (weight / total[scale * start : scale * (start + tile)]).astype(np.float32)
        for start, weight in zip(starts, weights, strict=True)
    ]


def _rise(distance: np.ndarray, overlap: int) -> np.ndarray:
    """Return 0 within a quarter of the overlap from the tile's edge, 1 beyond three quarters, a half cosine between."""
    if overlap == 0:
        return np.ones_like(distance)
    along = np.clip((distance / overlap - 0.25) / 0.5, 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * along)
