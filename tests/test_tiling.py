"""Tiled inference against the whole image, and the colors of masks."""

import numpy as np
import pytest

from wavemix_tf.colours import _distance, _lab, overlay, palette
from wavemix_tf.tiling import largest_multiple, predict_tiled


def blur(radius, scale=1, channels=2):
    """A purely local network with zeros beyond its border, as a convolution has: (N, h, w, C) -> (N, s*h, s*w, K)."""
    kernel = np.random.default_rng(radius).normal(size=(2 * radius + 1, 2 * radius + 1))

    def run(images):
        padded = np.pad(images, [(0, 0), (radius, radius), (radius, radius), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape, axis=(1, 2))
        outputs = np.einsum("nhwcij,ij->nhwc", windows, kernel)
        outputs = np.concatenate([np.tanh(outputs), outputs], -1)[..., :channels]
        return outputs.repeat(scale, 1).repeat(scale, 2).astype(np.float32)

    return run


@pytest.mark.parametrize("size", [(64, 64), (91, 57), (200, 33), (32, 100), (33, 32)])
@pytest.mark.parametrize(("overlap", "multiple", "scale"), [(16, 1, 1), (16, 8, 1), (17, 4, 2), (8, 3, 3)])
def test_a_local_network_gives_what_it_gives_for_the_whole_image(rng, size, overlap, multiple, scale):
    radius = overlap // 4
    image = rng.random((*size, 3)).astype(np.float32)
    run = blur(radius, scale, channels=5)
    calls = []

    def counted(tiles):
        calls.append(tiles.shape)
        return run(tiles)

    found = predict_tiled(counted, image, (32, 32), overlap, scale, multiple, batch=3)
    expected = run(image[None])[0]
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    inside = (slice(scale * radius, -scale * radius),) * 2  # beyond the border the whole image sees zeros
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)
    assert all(shape[0] <= 3 and shape[1:] == (32, 32, 3) for shape in calls)


def test_tiles_begin_on_multiples_and_overlap(rng):
    height, width = 203, 150
    rows, columns = np.indices((height, width))
    image = np.stack([rows, columns], -1).astype(np.float32)
    seen = []

    def run(tiles):
        seen.extend((int(tile[0, 0, 0]), int(tile[0, 0, 1])) for tile in tiles)
        return tiles

    found = predict_tiled(run, image, (64, 48), overlap=16, multiple=8)
    np.testing.assert_allclose(found, image, atol=1e-3)
    assert all(top % 8 == 0 and left % 8 == 0 for top, left in seen)
    for axis, (side, tile) in enumerate(((height, 64), (width, 48))):
        starts = sorted({place[axis] for place in seen})
        assert starts[0] == 0
        assert side <= starts[-1] + tile < side + 8
        assert max(np.diff(starts)) <= tile - 16


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (31, 64), (32, 32), (1, 90)])
def test_an_image_smaller_than_a_tile(rng, size):
    image = rng.random((*size, 3)).astype(np.float32)
    shapes = []

    def run(tiles):
        shapes.append(tiles.shape[1:])
        return tiles.repeat(2, 1).repeat(2, 2)

    found = predict_tiled(run, image, (32, 32), scale=2, multiple=4)
    np.testing.assert_allclose(found, image.repeat(2, 0).repeat(2, 1), atol=1e-6)
    assert set(shapes) == {(32, 32, 3)}


def test_a_constant_stays_one():
    found = predict_tiled(lambda tiles: np.full((*tiles.shape[:3], 4), 0.7), np.zeros((157, 211, 3)), (48, 64), 20)
    np.testing.assert_allclose(found, 0.7, atol=1e-6)


def position_dependent(tiles):
    """What global mixing does to a tile: every output depends on the whole tile."""
    means = tiles.mean(axis=(1, 2), keepdims=True)
    slope = np.linspace(-0.2, 0.2, tiles.shape[1])[None, :, None, None] * np.std(tiles, axis=(1, 2), keepdims=True)
    return tiles.mean(-1, keepdims=True) * 0.1 + 3 * means[..., :1] + slope[..., :1]


def jumps(output, starts, tile):
    """Mean step across the lines where tiles begin or end, over the mean step elsewhere; larger axis."""
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(output[..., 0], axis=axis)).mean(axis=1 - axis)
        edges = sorted({e - 1 for start in starts for e in (start, start + tile) if 0 < e < output.shape[axis]})
        ratios.append(steps[edges].mean() / np.delete(steps, edges).mean())
    return max(ratios)


def test_no_seams(rng):
    """The step across the tiles' borders is that of the rest; where tiles are cut hard it is many times that."""
    rows, columns = np.indices((160, 160)) / 160
    image = np.stack([np.sin(3 * rows), np.cos(2 * columns), rows * columns], -1).astype(np.float32)
    image += rng.normal(0, 0.01, image.shape).astype(np.float32)
    blended = predict_tiled(position_dependent, image, (64, 64), overlap=32, multiple=32)
    cut = predict_tiled(position_dependent, image, (32, 32), overlap=0, multiple=32)
    assert jumps(blended, [0, 32, 64, 96], 64) < 1.5
    assert jumps(cut, [0, 32, 64, 96, 128], 32) > 6


@pytest.mark.slow
def test_no_seams_behind_a_wavemix_block():
    import keras

    import wavemix_tf as wm

    inputs = keras.Input((None, None, 8))
    x = wm.WaveMixBlock(8, levels=3)(inputs)
    model = keras.Model(inputs, wm.WaveMixBlock(8, levels=3)(x))
    rows, columns = np.indices((128, 128)) / 128
    image = np.stack([np.sin((k + 1) * rows + k * columns) for k in range(8)], -1).astype(np.float32)

    def run(tiles):
        return keras.ops.convert_to_numpy(model(tiles, training=False))

    whole = run(image[None])[0]
    tiled = predict_tiled(run, image, (64, 64), overlap=32, multiple=8)
    cut = predict_tiled(run, image, (32, 32), overlap=0, multiple=8)
    inside = (slice(16, -16),) * 2
    scale = np.abs(whole[inside] - whole[inside].mean((0, 1))).mean()
    error, error_cut = (np.abs(part[inside] - whole[inside]).mean() / scale for part in (tiled, cut))
    assert error < 0.25 * error_cut
    # In the wrong phase of the wavelet the same tiles give different outputs.
    shifted = predict_tiled(run, image[3:, 3:], (64, 64), overlap=32, multiple=8)
    off = np.abs(shifted[13:-16, 13:-16] - whole[16:-16, 16:-16]).mean() / scale
    assert off > 2 * error


@pytest.mark.parametrize("form", ["model", "method"])
def test_a_network_is_asked_for_its_grid(rng, form):
    """A network of stride 12 that sees no further than its samples: its tiles are the whole image's, to the bit."""
    import keras

    from wavemix_tf.sampling_grid import sampling_grid

    layers = keras.layers
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, strides=3, activation="tanh")(inputs)
    x = layers.Conv2D(5, 4, strides=4)(x)
    model = keras.Model(inputs, layers.UpSampling2D(12)(x))
    assert sampling_grid(model) == (12, 12)
    run = model if form == "model" else model.predict_on_batch
    image = rng.random((132, 96, 3)).astype(np.float32)
    whole = np.asarray(model(image[None]))[0]
    np.testing.assert_allclose(predict_tiled(run, image, (48, 60)), whole, atol=1e-5)
    # Tiles of two samples leave no room for the usual overlap.
    np.testing.assert_allclose(predict_tiled(run, image, (24, 24)), whole, atol=1e-5)
    assert np.abs(predict_tiled(run, image, (48, 60), multiple=1) - whole).max() > 0.1
    for options in ({"tile": (8, 48)}, {"tile": (48, 48), "overlap": 40}):
        with pytest.raises(ValueError, match=r"at least as large as the network's sampling grid.*grid of 12 pixels"):
            predict_tiled(run, image, **options)


@pytest.mark.slow
def test_grids_of_networks():
    import keras

    import wavemix_tf as wm
    from wavemix_tf.sampling_grid import sampling_grid

    layers = keras.layers
    small = {"width": 8, "depth": 1}
    for sides in ((None, None), (30, 44)):  # the latter are padded to whole multiples
        assert sampling_grid(wm.WaveMixSegmenter(3, (*sides, 3), levels=3, stride=2, **small)) == (32, 32)
    patches = wm.WaveMixSegmenter(3, (64, 64, 3), levels=1, stem="patchify", patch_size=8, **small)
    assert sampling_grid(patches) == (16, 16)
    for variant, levels, expected in (("sisr", 1, 2), ("wavemixsr", 1, 1), ("wavemixsr_v2", 3, 4), ("sisr", 3, 8)):
        found = wm.WaveMixSuperResolver(variant, 2, (48, 48, 3), levels=levels, **small)
        assert sampling_grid(found) == (expected, expected), variant
    inputs = keras.Input((90, 60, 3))
    x = layers.Conv2D(4, 3, strides=(3, 5), padding="same")(inputs)
    y = layers.MaxPooling2D(2)(x)
    y = layers.UpSampling2D(2)(layers.Multiply()([y, layers.GlobalAveragePooling2D(keepdims=True)(y)]))
    u_net = keras.Model(inputs, layers.UpSampling2D((3, 5))(layers.Concatenate()([x, y])))
    assert sampling_grid(u_net) == (6, 10)
    free = keras.Input((90, 60, 3))
    assert sampling_grid(keras.Model(free, u_net(free))) == (6, 10)  # a nested model
    vit = wm.ViT(3, (32, 32, 3), patch_size=8, width=16, depth=1, heads=4)
    assert sampling_grid(vit) == (8, 8)
    assert sampling_grid(keras.Sequential([layers.Dense(2)])) is None


def test_a_file_has_its_network_s_grid(rng):
    import wavemix_tf as wm
    from wavemix_tf.sampling_grid import sampling_grid
    from wavemix_tf.tflite.file.file_sampling_grid import file_sampling_grid
    from wavemix_tf.tflite.file.flatbuffer import read_file

    model = wm.WaveMixSegmenter(3, (48, 80, 3), width=8, depth=1, levels=2, stride=2)
    artifact = wm.tflite.export(model, "android-cpu", images=rng.random((32, 48, 80, 3)).astype(np.float32))
    assert file_sampling_grid(read_file(artifact.content)) == sampling_grid(model) == (16, 16)


def test_finished_strips(rng):
    image = rng.random((150, 70, 5)).astype(np.float32)
    strips = []

    def first(logits):
        strips.append(logits.shape)
        return logits.argmax(-1)

    found = predict_tiled(lambda tiles: tiles, image, (32, 32), finish=first)
    np.testing.assert_array_equal(found, image.argmax(-1))
    assert len(strips) > 4
    assert sum(shape[0] for shape in strips) == 150
    assert all(shape[1:] == (70, 5) for shape in strips)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"overlap": 32}, "overlap must"),
        ({"overlap": -1}, "overlap must"),
        ({"overlap": 20, "multiple": 16}, "multiple=16"),
        ({"scale": 0}, "scale must"),
        ({"tile": (0, 32)}, "tile height must"),
        ({"image": np.zeros((4, 4))}, "image must"),
        ({"image": np.zeros((0, 4, 3))}, "image must"),
        ({"scale": 2}, "run must return tiles of 64 x 64"),
        ({"run": lambda tiles: tiles[:1].mean((1, 2))}, "run must return"),
    ],
)
def test_wrong_arguments(changed, words):
    arguments = {"run": lambda tiles: tiles, "image": np.zeros((40, 40, 3)), "tile": (32, 32), **changed}
    with pytest.raises(ValueError, match=words):
        predict_tiled(**arguments)


@pytest.mark.parametrize(
    ("tile", "overlap", "expected"), [((256, 256), 64, 64), ((360, 480), 90, 64), ((64, 64), 16, 32), ((33, 32), 8, 16)]
)
def test_largest_multiple(tile, overlap, expected):
    assert largest_multiple(tile, overlap) == expected


# --- colors -----------------------------------------------------------------------------------------------------------


def test_palette_is_distinct_and_does_not_change_with_more_classes():
    colours = palette(256)
    assert (colours.shape, colours.dtype) == ((256, 3), np.uint8)
    for count in (1, 2, 10, 11, 21, 150):
        np.testing.assert_array_equal(palette(count), colours[:count])
    points = _lab(colours)
    distances = np.stack([_distance(points, point) for point in points])
    np.fill_diagonal(distances, np.inf)
    # 2.3 is the just noticeable difference; neighboring classes need many times that.
    assert distances[:20, :20].min() > 25
    assert distances.min() > 10
    with pytest.raises(ValueError, match="256"):
        palette(257)


def test_lab_of_known_colours():
    """Reference values of CIELAB for sRGB red, white and a mid grey."""
    expected = [[53.24, 80.09, 67.20], [100, 0, 0], [53.59, 0, 0]]
    np.testing.assert_allclose(_lab(np.array([[255, 0, 0], [255] * 3, [128] * 3])), expected, atol=0.05)


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_overlay(kind):
    image = np.full((2, 3, 3), 100, np.uint8) if kind == "uint8" else np.full((2, 3, 3), 100 / 255)
    mask = np.array([[0, 1, 255], [1, 0, 255]])
    found = overlay(image, mask, [(200, 0, 100), (0, 50, 100)], ignore=255)
    assert found.dtype == np.uint8
    assert found[0].tolist() == [[150, 50, 100], [50, 75, 100], [100, 100, 100]]
    assert overlay(image[..., :1], mask, [(200, 0, 100), (0, 50, 100)], ignore=[255])[0, 0].tolist() == [150, 50, 100]
    with pytest.raises(ValueError, match="0 to 1"):
        overlay(image, mask, [(200, 0, 100), (0, 50, 100)])
    with pytest.raises(ValueError, match="mask"):
        overlay(image, mask[:1], [(200, 0, 100), (0, 50, 100)])
