"""Augmentation operations and the random choice of operations for each image."""

import pytest
import torch

from nasproxy.errors import SpaceError
from nasproxy.models.augmentation_policy import OPERATIONS, PixelRange, Policy, PolicyStep

SIGNED = [name for name, operation in OPERATIONS.items() if operation.is_signed]
WITH_MAGNITUDE = [name for name, operation in OPERATIONS.items() if operation.has_magnitude]
UNIT = PixelRange(0.0, 1.0, 0.0)


def change(name: str, images: torch.Tensor, strength: float = 1.0, fill: float = 0.0) -> torch.Tensor:
    return OPERATIONS[name].change(images, strength, fill)


def batch(n: int = 16, channels: int = 1, side: int = 16) -> torch.Tensor:
    """Make smooth images in [0, 1], all different."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(n, channels, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


def policy(*steps: PolicyStep, pixels: PixelRange = UNIT) -> Policy:
    return Policy([steps], times=1, pixels=pixels)


def dot(side: int, row: int, column: int) -> torch.Tensor:
    image = torch.zeros(1, 1, side, side)
    image[0, 0, row, column] = 1.0
    return image


def test_a_translation_moves_a_dot_by_its_share_of_the_side():
    for name, expected in (("translate_x", (4, 8)), ("translate_y", (8, 4))):
        moved = change(name, dot(20, 4, 4), strength=4 / (0.45 * 20))
        assert torch.allclose(moved, dot(20, *expected), atol=1e-4)
        back = change(name, moved, strength=-4 / (0.45 * 20))
        assert torch.allclose(back, dot(20, 4, 4), atol=1e-4)


def test_a_rotation_keeps_the_centre_and_rotates_the_rest():
    turned = change("rotate", dot(21, 10, 18), strength=1.0)
    row, column = divmod(int(turned.argmax()), 21)
    assert (row, column) == (14, 17), "30 degrees clockwise: 8 to the right become 7 to the right and 4 down"
    assert change("rotate", dot(21, 10, 10)).argmax() == dot(21, 10, 10).argmax()


def test_a_shear_shifts_far_rows_and_not_the_middle_one():
    column = torch.zeros(1, 1, 21, 21)
    column[..., 10] = 1.0
    sheared = change("shear_x", column)[0, 0]
    assert sheared[10].argmax() == 10
    assert {int(sheared[0].argmax()), int(sheared[20].argmax())} == {7, 13}
    rotated = change("shear_y", column.transpose(2, 3))[0, 0]
    assert {int(rotated[:, 0].argmax()), int(rotated[:, 20].argmax())} == {7, 13}


def test_pixels_that_are_moved_away_are_filled():
    moved = change("translate_x", torch.ones(1, 1, 10, 10), strength=4 / 4.5, fill=0.25)
    assert torch.allclose(moved[..., :4], torch.tensor(0.25))
    assert torch.allclose(moved[..., 4:], torch.tensor(1.0))


def test_a_cutout_fills_a_square_at_a_random_position_of_each_image():
    torch.manual_seed(0)
    holes = change("cutout", torch.ones(64, 1, 20, 20), strength=1.0, fill=0.5)[:, 0] == 0.5
    rows, columns = holes.any(dim=2).sum(dim=1), holes.any(dim=1).sum(dim=1)
    assert rows.max() == columns.max() == 8, "0.4 of the side"
    assert torch.equal(holes.sum(dim=(1, 2)), rows * columns)
    assert len({tuple(hole.flatten().tolist()) for hole in holes}) > 32


def test_solarize_inverts_bright_pixels():
    pixels = torch.tensor([0.0, 0.3, 0.6, 0.9]).view(1, 1, 2, 2)
    assert torch.allclose(change("solarize", pixels, 0.5).flatten(), torch.tensor([0.0, 0.3, 0.4, 0.1]))
    assert torch.allclose(change("solarize", pixels, 1.0), 1 - pixels)
    assert torch.allclose(change("invert", pixels), 1 - pixels)


def test_solarize_add_brightens_dark_pixels():
    pixels = torch.tensor([0.0, 0.3, 0.6, 0.9]).view(1, 1, 2, 2)
    added = change("solarize_add", pixels, 0.5).flatten()
    assert torch.allclose(added, torch.tensor([55 / 255, 0.3 + 55 / 255, 0.6, 0.9]))


def test_posterize_reduces_the_number_of_values():
    pixels = torch.linspace(0, 1, 256).view(1, 1, 16, 16)
    assert len(change("posterize", pixels, 1.0).unique()) == 16
    assert len(change("posterize", pixels, 0.5).unique()) == 64


def test_autocontrast_spans_the_whole_range():
    pixels = torch.tensor([0.4, 0.45, 0.5, 0.6]).view(1, 1, 2, 2)
    assert torch.allclose(change("autocontrast", pixels).flatten(), torch.tensor([0.0, 0.25, 0.5, 1.0]))


def test_equalize_spreads_values_evenly():
    dark = torch.linspace(0, 1, 1024).pow(3).view(1, 1, 32, 32)
    levels = change("equalize", dark).flatten()
    assert levels.mean() == pytest.approx(0.5, abs=0.05)
    assert dark.mean() == pytest.approx(0.25, abs=0.01)
    small = batch(2, side=12)
    assert torch.allclose(change("equalize", small), small, atol=1 / 255), "too few pixels for a histogram"


def test_brightness_contrast_and_sharpness_go_both_ways():
    images = batch()
    assert change("brightness", images, -1.0).mean() < 0.2 * images.mean()
    assert change("brightness", images, 1.0).mean() > images.mean()
    spreads = [change("contrast", images, strength).std(dim=(1, 2, 3)).mean() for strength in (-1.0, 0.0, 0.5)]
    assert spreads[0] < 0.2 * spreads[1] < spreads[1] < spreads[2]
    edges = [change("sharpness", images, strength).diff(dim=3).abs().mean() for strength in (-1.0, 0.0, 1.0)]
    assert edges[0] < edges[1] < edges[2]


def test_color_desaturates_colours_and_keeps_grey():
    colours, greys = batch(channels=3), batch(channels=1)
    assert change("color", colours, -1.0).std(dim=1).mean() < 0.2 * colours.std(dim=1).mean()
    assert change("color", colours, 1.0).std(dim=1).mean() > colours.std(dim=1).mean()
    assert torch.equal(change("color", greys, -1.0), greys)


@pytest.mark.parametrize("name", WITH_MAGNITUDE)
def test_magnitude_zero_changes_nothing_and_ten_changes_images(name):
    images = batch(channels=3)
    assert torch.equal(policy(PolicyStep(name, magnitude=0))(images), images)
    assert not torch.allclose(policy(PolicyStep(name, magnitude=10))(images), images, atol=1e-3)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_keeps_the_shape_and_does_not_modify_its_input(name, channels):
    images = batch(channels=channels)
    before = images.clone()
    changed = policy(PolicyStep(name))(images)
    assert changed.shape == images.shape
    assert torch.isfinite(changed).all()
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", SIGNED)
def test_the_sign_is_drawn_for_each_image(name):
    image = batch(n=1, channels=3)
    torch.manual_seed(0)
    changed = policy(PolicyStep(name, magnitude=5))(image.expand(16, -1, -1, -1))
    assert len({tuple(one.flatten().tolist()) for one in changed}) == 2


def test_probability_is_the_share_of_images_that_change():
    images = batch(n=400)
    torch.manual_seed(0)
    changed = policy(PolicyStep("invert", probability=0.3))(images)
    share = (changed != images).flatten(1).any(dim=1).float().mean()
    assert share == pytest.approx(0.3, abs=0.08)
    assert torch.equal(policy(PolicyStep("invert", probability=0.0))(images), images)


def test_all_steps_of_the_drawn_sub_policy_are_applied():
    black, white = torch.zeros(90, 1, 8, 8), torch.ones(90, 1, 8, 8)
    twice, once, none = [PolicyStep("invert"), PolicyStep("invert")], [PolicyStep("invert")], []
    torch.manual_seed(0)
    inverted = Policy([twice, once, none], times=1, pixels=UNIT)(black).flatten(1)
    assert ((inverted == 0).all(dim=1) | (inverted == 1).all(dim=1)).all()
    assert (inverted[:, 0] == 1).float().mean() == pytest.approx(1 / 3, abs=0.15)
    assert torch.equal(Policy([once], times=2, pixels=UNIT)(white), white), "drawn twice"


def test_values_keep_their_range_and_translations_do_not_clamp():
    pixels = PixelRange(-1.0, 3.0, fill=-1.0)
    images = batch() * 4 - 1
    assert torch.allclose(policy(PolicyStep("invert"), pixels=pixels)(images), 2 - images, atol=1e-5)
    images[:, :, 8, 8] = 9.0
    moved = policy(PolicyStep("translate_x", magnitude=2), pixels=pixels)(images)
    assert moved.amax() > 4.0
    assert moved.amin() >= images.amin() - 1e-5 or moved.amin() == pytest.approx(-1.0)


def test_equal_seeds_give_equal_bits():
    images = batch(channels=3)
    steps = [[PolicyStep(name, 0.7, 6)] for name in OPERATIONS]
    acting = Policy(steps, times=2, pixels=UNIT)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(acting(images))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"operation": "blur"}, "op must be one of autocontrast, .* got 'blur'"),
        ({"operation": "rotate", "magnitude": 11}, r"magnitude must lie in \[0, 10\], got 11"),
        ({"operation": "rotate", "magnitude": "strong"}, "magnitude must be a number, got 'strong'"),
        ({"operation": "rotate", "probability": 1.5}, r"probability must lie in \[0, 1\], got 1.5"),
    ],
)
def test_a_step_out_of_range_is_refused(step, message):
    with pytest.raises(SpaceError, match=message):
        PolicyStep(**step)


def test_an_empty_pixel_range_is_refused():
    with pytest.raises(SpaceError, match=r"high must be above low, got 0.5 and 0.5"):
        PixelRange(0.5, 0.5, 0.0)
